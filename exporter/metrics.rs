//! The catalogue of series, and a snapshot as Prometheus text format 0.0.4.
//!
//! The queues' families are written straight from the snapshot, so a series exists if and only if its value is there: none
//! outlives its queue. They are some twenty lines a queue, about 0.1 us each. The exporter's own live in a registry.

use crate::curve::Age;
use crate::label;
use crate::layout::Globals;
use crate::reads::ReadError;
use crate::snapshot::{Row, Snapshot};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Real(f64),
}

/// One family of series, with a series for each queue that has a value.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The value of one queue, or `None` where it can't be known.
    pub value: fn(&Row) -> Option<Number>,
}

fn whole(value: Option<u64>) -> Option<Number> {
    value.map(Number::Whole)
}

fn real(value: Option<f64>) -> Option<Number> {
    value.filter(|value| value.is_finite()).map(Number::Real)
}

macro_rules! families {
    ($($name:literal $kind:literal $help:literal $value:expr;)*) => {
        /// All families that have a series for each queue, in the order in which they are written.
        pub const QUEUE_FAMILIES: &[Family] = &[
            $(Family { name: $name, kind: $kind, help: $help, value: $value },)*
        ];
    };
}

families! {
    "redis_queue_up" "gauge" "1 while the readings of the queue are fresh, else 0, and then all of them are absent."
        |row| Some(Number::Whole(u64::from(row.reading.is_some())));
    "redis_queue_length" "gauge" "Jobs waiting that a worker could take now."
        |row| whole(row.reading.as_ref()?.seen.length);
    "redis_queue_in_flight" "gauge" "Jobs taken and not finished."
        |row| whole(row.reading.as_ref()?.seen.in_flight);
    "redis_queue_due" "gauge" "Delayed or retrying jobs whose time has come but that still sit in their set."
        |row| whole(row.reading.as_ref()?.seen.due);
    "redis_queue_delayed" "gauge" "Jobs whose time has not come."
        |row| whole(row.reading.as_ref()?.seen.delayed);
    "redis_queue_retrying" "gauge" "Jobs that wait for a retry."
        |row| whole(row.reading.as_ref()?.seen.retrying);
    "redis_queue_dead" "gauge" "Jobs given up."
        |row| whole(row.reading.as_ref()?.seen.dead);
    "redis_queue_abandoned" "gauge" "Jobs in flight by the keys, whose worker is dead; not counted in flight."
        |row| whole(row.reading.as_ref()?.seen.abandoned);
    "redis_queue_backlog" "gauge" "Jobs that wait for a worker: length plus due."
        |row| whole(row.reading.as_ref()?.backlog());
    "redis_queue_oldest_job_age_seconds" "gauge" "How long the oldest waiting job has waited; 0 for an empty queue."
        |row| match row.reading.as_ref()?.seen.age { Age::Known { seconds, .. } => real(Some(seconds)), _ => None };
    "redis_queue_oldest_job_age_error_seconds" "gauge" "The most by which that age can be off; 0 where the time is stored."
        |row| match row.reading.as_ref()?.seen.age { Age::Known { error, .. } => real(Some(error)), _ => None };
    "redis_queue_oldest_job_age_at_least_seconds" "gauge" "While that age can't be known: how long the oldest waiting job has waited at least."
        |row| match row.reading.as_ref()?.seen.age { Age::AtLeast(seconds) => real(Some(seconds)), _ => None };
    "redis_queue_oldest_in_flight_age_seconds" "gauge" "How long ago the oldest job in flight was put in."
        |row| real(row.reading.as_ref()?.seen.oldest_in_flight);
    "redis_queue_arrivals_total" "counter" "Jobs put in; a lower bound over the polls that redis_queue_observation_gaps_total counts."
        |row| whole(row.reading.as_ref()?.totals.arrivals);
    "redis_queue_processed_total" "counter" "Jobs done, or taken where completion can't be seen; a lower bound over the same polls."
        |row| whole(row.reading.as_ref()?.totals.processed);
    "redis_queue_failed_total" "counter" "Jobs failed."
        |row| whole(row.reading.as_ref()?.totals.failed);
    "redis_queue_arrival_rate" "gauge" "Jobs put in a second, over RATE_WINDOW; absent while the window holds gaps."
        |row| real(row.reading.as_ref()?.totals.arrival_rate);
    "redis_queue_processing_rate" "gauge" "Jobs done a second, over RATE_WINDOW; absent while the window holds gaps."
        |row| real(row.reading.as_ref()?.totals.processing_rate);
    "redis_queue_observation_gaps_total" "counter" "Polls over which arrivals and processed are only lower bounds."
        |row| whole(row.reading.as_ref().map(|reading| reading.totals.gaps));
    "redis_queue_consumers" "gauge" "Live worker processes of the queue."
        |row| whole(row.reading.as_ref()?.seen.consumers);
    "redis_queue_slots" "gauge" "Jobs that these workers can run at once; quiet ones give none."
        |row| whole(row.reading.as_ref()?.seen.slots);
    "redis_queue_paused" "gauge" "1 while the queue is paused, where the library says."
        |row| whole(row.reading.as_ref()?.seen.paused.map(u64::from));
    "redis_queue_desired_workers" "gauge" "Workers that the queue needs by its policy; absent until all that the policy asks for was known once."
        |row| whole(row.reading.as_ref()?.desired);
    "redis_queue_objective_age_seconds" "gauge" "The policy: no job should wait longer."
        |row| real(row.id.policy.objective_age.map(|age| age.as_secs_f64()));
    "redis_queue_scale_up_depth" "gauge" "The policy: backlog per worker over which workers are added."
        |row| whole(row.id.policy.scale_up_depth);
    "redis_queue_scale_down_depth" "gauge" "The policy: backlog per worker under which workers are removed."
        |row| whole(row.id.policy.scale_down_depth);
    "redis_queue_min_workers" "gauge" "The policy: the fewest workers."
        |row| whole(row.id.policy.min_workers);
    "redis_queue_max_workers" "gauge" "The policy: the most workers."
        |row| whole(row.id.policy.max_workers);
}

/// One family of series, with a series for each library that keeps a number for all of its queues together.
pub struct LibraryFamily {
    /// Its name.
    pub name: &'static str,
    /// `gauge` or `counter`.
    pub kind: &'static str,
    /// What it means.
    pub help: &'static str,
    /// The value of one library, or `None` where it can't be known.
    pub value: fn(&Globals) -> Option<u64>,
}

macro_rules! library_families {
    ($($name:literal $kind:literal $help:literal $value:expr;)*) => {
        /// All families that have a series for each library, in the order in which they are written.
        pub const LIBRARY_FAMILIES: &[LibraryFamily] = &[
            $(LibraryFamily { name: $name, kind: $kind, help: $help, value: $value },)*
        ];
    };
}

library_families! {
    "redis_library_in_flight" "gauge" "Jobs taken and not finished, of all queues together."
        |globals| globals.in_flight;
    "redis_library_in_flight_left_out" "gauge" "Jobs in flight that could not be told by queue; while it is over 0, redis_queue_in_flight is a lower bound."
        |globals| globals.in_flight_left_out;
    "redis_library_workers_left_out" "gauge" "Workers beyond those that are looked at; while it is over 0, in flight, consumers and slots are lower bounds."
        |globals| globals.workers_left_out;
    "redis_library_due" "gauge" "Delayed or retrying jobs whose time has come, of all queues together."
        |globals| globals.due;
    "redis_library_delayed" "gauge" "Jobs whose time has not come, of all queues together."
        |globals| globals.delayed;
    "redis_library_retrying" "gauge" "Jobs that wait for a retry, of all queues together."
        |globals| globals.retrying;
    "redis_library_dead" "gauge" "Jobs given up, of all queues together."
        |globals| globals.dead;
    "redis_library_processed_total" "counter" "Jobs done, of all queues together, as the library counts them."
        |globals| globals.processed;
    "redis_library_failed_total" "counter" "Jobs failed, of all queues together, as the library counts them."
        |globals| globals.failed;
}

/// The exporter's own series.
pub struct Stats {
    watched: IntGauge,
    left_out: IntGauge,
    registry: Registry,
    redis_up: IntGauge,
    poll_duration: Histogram,
    poll_errors: IntCounterVec,
    last_success: Gauge,
    /// What was last encoded, for its room.
    last_text: Mutex<Bytes>,
}

impl Stats {
    /// Registers all of them, each with a value from the start.
    ///
    /// # Errors
    /// Where the registry refuses one, which is a fault of this program.
    pub fn new(queues: usize, dropped: usize) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let build = Opts::new("queue_exporter_build_info", "1, labelled with the version.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        register(&registry, IntGauge::with_opts(build)?)?.set(1);
        let watched = IntGauge::new("queue_exporter_queues", "Queues that are watched.")?;
        let left_out = IntGauge::new(
            "queue_exporter_queues_dropped",
            "Queues beyond MAX_QUEUES, configured or found, not watched.",
        )?;
        let redis_up = IntGauge::new("queue_exporter_redis_up", "1 if Redis answered at the last poll.")?;
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let duration =
            HistogramOpts::new("queue_exporter_poll_duration_seconds", "Time from the start of a poll to its end.");
        let errors = Opts::new(
            "queue_exporter_poll_errors_total",
            "Queues that could not be read at a poll, by kind; a silent Redis counts once a poll.",
        );
        let last_success =
            Gauge::new("queue_exporter_last_success_timestamp_seconds", "When Redis last answered a poll.")?;
        let stats = Self {
            watched: register(&registry, watched)?,
            left_out: register(&registry, left_out)?,
            redis_up: register(&registry, redis_up)?,
            poll_duration: register(&registry, Histogram::with_opts(duration.buckets(buckets))?)?,
            poll_errors: register(&registry, IntCounterVec::new(errors, &["kind"])?)?,
            last_success: register(&registry, last_success)?,
            registry,
            last_text: Mutex::default(),
        };
        for kind in ReadError::KINDS {
            stats.poll_errors.with_label_values(&[kind]);
        }
        stats.watched(queues, dropped);
        // Absent where there is no /proc, as under a sandbox that hides it.
        let _ = stats.registry.register(Box::new(ProcessCollector::for_self()));
        Ok(stats)
    }

    /// Notes how many queues are watched, and how many are not for there are too many.
    pub fn watched(&self, queues: usize, dropped: usize) {
        self.watched.set(i64::try_from(queues).unwrap_or(i64::MAX));
        self.left_out.set(i64::try_from(dropped).unwrap_or(i64::MAX));
    }

    /// Notes how a poll went; `answered` is the time of its end, in seconds since 1970, if Redis answered.
    pub fn polled(&self, took: Duration, answered: Option<f64>) {
        self.poll_duration.observe(took.as_secs_f64());
        self.redis_up.set(i64::from(answered.is_some()));
        if let Some(now) = answered {
            self.last_success.set(now);
        }
    }

    /// Counts an error.
    pub fn failed(&self, error: &ReadError) {
        self.poll_errors.with_label_values(&[error.kind()]).inc();
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// Under this a number of millionths is exact, and has no more digits than tell it from its neighbours.
const EXACT: f64 = 1e15;

/// A snapshot and the exporter's own series, as text.
#[must_use]
pub fn encode(snapshot: &Snapshot, stats: &Stats) -> Bytes {
    let mut last = stats.last_text.lock().unwrap_or_else(PoisonError::into_inner);
    // Measured: 900 bytes a queue without policy. Too little only costs a copy.
    let mut text = room(std::mem::take(&mut *last), 4_096 + snapshot.rows.len() * 1_024);
    for family in QUEUE_FAMILIES {
        write_family(family, &snapshot.rows, &mut text);
    }
    for family in LIBRARY_FAMILIES {
        write_library_family(family, snapshot, &mut text);
    }
    let mut bytes = text.into_bytes();
    if let Err(error) = TextEncoder::new().encode(&stats.registry.gather(), &mut bytes) {
        tracing::error!(%error, "the exporter's own series can't be encoded");
    }
    *last = Bytes::from(bytes);
    last.clone()
}

/// An empty string with room for so many bytes: that of the last text, for fresh memory costs as much as writing to it; unless someone is
/// sent that still, or it has far more.
fn room(last: Bytes, size: usize) -> String {
    let mut room = if last.is_unique() { Vec::from(last) } else { Vec::new() };
    if room.capacity() > 4 * size {
        room = Vec::new();
    }
    room.clear();
    room.reserve(size);
    String::from_utf8(room).unwrap_or_default()
}

fn write_family(family: &Family, rows: &[Row], text: &mut String) {
    let mut whole = itoa::Buffer::new();
    let mut values = rows.iter().filter_map(|row| Some((row, (family.value)(row)?))).peekable();
    if values.peek().is_none() {
        return;
    }
    write_head(family.name, family.help, family.kind, text);
    for (row, value) in values {
        text.push_str(family.name);
        text.push_str(&row.id.labels);
        text.push(' ');
        match value {
            Number::Whole(number) => text.push_str(whole.format(number)),
            Number::Real(number) => write_real(number, text),
        }
        text.push('\n');
    }
}

/// In microseconds, which are finer than anything measured here: as `{}` writes the number rounded to them, in a tenth of the time.
fn write_real(number: f64, text: &mut String) {
    let millionths = (number * 1e6).round();
    if millionths.is_nan() || millionths.abs() >= EXACT {
        // Writing to a string can't fail.
        let _ = write!(text, "{}", millionths / 1e6);
        return;
    }
    if !millionths.is_sign_positive() {
        text.push('-');
    }
    let millionths = millionths.abs() as u64;
    text.push_str(itoa::Buffer::new().format(millionths / 1_000_000));
    let fraction = millionths % 1_000_000;
    if fraction > 0 {
        text.push('.');
        // With the 1 in front, zeros that lead are written, too.
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(1_000_000 + fraction);
        text.push_str(digits.get(1..).unwrap_or_default().trim_end_matches('0'));
    }
}

fn write_head(name: &str, help: &str, kind: &str, text: &mut String) {
    for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
        text.push_str(part);
    }
}

fn write_library_family(family: &LibraryFamily, snapshot: &Snapshot, text: &mut String) {
    let values = snapshot.libraries.iter().filter_map(|row| Some((&row.name, (family.value)(&row.globals?)?)));
    for (place, (name, value)) in values.enumerate() {
        if place == 0 {
            write_head(family.name, family.help, family.kind, text);
        }
        let _ = write!(text, "{}{{layout=\"{}\",prefix=\"", family.name, name.layout);
        label::escape(&name.prefix, text);
        let _ = writeln!(text, "\"}} {value}");
    }
}

/// A text compressed; at the fastest level, for the names and labels repeat so much that more gains little.
#[must_use]
pub fn compress(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 16), Compression::fast());
    // Writing to memory can't fail.
    let _ = encoder.write_all(text);
    Bytes::from(encoder.finish().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(number: f64) -> String {
        let mut text = String::new();
        write_real(number, &mut text);
        text
    }

    #[test]
    fn the_room_of_the_last_text_is_used_again() {
        let last = Bytes::from(vec![b' '; 1_000]);
        let (sent, place) = (last.clone(), last.as_ptr());
        let fresh = room(last, 1_000);
        assert_ne!(fresh.as_ptr(), place, "someone is sent it still");
        let again = room(sent, 900);
        assert_eq!((again.as_ptr(), again.as_str()), (place, ""));
        assert!(room(Bytes::from(vec![b' '; 9_000]), 1_000).capacity() < 9_000);
    }

    #[test]
    fn reals_are_written_in_microseconds() {
        let texts = [0.0, -0.0, 7.0, 0.5, 0.000_001, -12.034_5, 1e-9, 1.000_000_4, 1e20, f64::NAN].map(written);
        let wanted = ["0", "-0", "7", "0.5", "0.000001", "-12.0345", "0", "1", "100000000000000000000", "NaN"];
        assert_eq!(texts, wanted);
    }

    proptest! {
        #[test]
        fn reals_are_written_as_rounded(
            number in prop_oneof![-1e3..1e3, -1e-3..1e-3, -1e12..1e12, any::<f64>()]
        ) {
            prop_assert_eq!(written(number), format!("{}", (number * 1e6).round() / 1e6));
        }
    }
}
