//! What one poll left to be shown: immutable, shared, encoded at most once.

use crate::flow::Totals;
use crate::label;
use crate::layout::{Beyond, Globals, Observation};
use crate::reader::LibraryName;
use crate::spec::Policy;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// What never changes of a queue.
#[derive(Debug)]
pub struct Identity {
    /// The `queue` label.
    pub label: Arc<str>,
    /// The `layout` label.
    pub layout: &'static str,
    /// Both as they stand in the text format, braces included.
    pub labels: String,
    /// How its workers are scaled.
    pub policy: Policy,
}

impl Identity {
    /// Renders the labels once, for they are written some twenty times a scrape.
    #[must_use]
    pub fn new(label: String, layout: &'static str, policy: Policy) -> Self {
        let mut labels = String::from("{queue=\"");
        label::escape(&label, &mut labels);
        labels.push_str("\",layout=\"");
        labels.push_str(layout);
        labels.push_str("\"}");
        Self { label: label.into(), layout, labels, policy }
    }
}

/// The last good look at a queue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What the look saw.
    pub seen: Observation,
    /// Counters and rates.
    pub totals: Totals,
    /// Workers that the queue needs by its policy, where that can be said.
    pub desired: Option<u64>,
}

impl Reading {
    /// Jobs that wait for a worker: those waiting and those due. Absent where either is.
    #[must_use]
    pub fn backlog(&self) -> Option<u64> {
        Some(self.seen.length? + self.seen.due.unwrap_or(0))
    }

    /// Whether any job waits or is in flight; absent where what waits is, or none was seen and not all were looked at.
    #[must_use]
    pub fn is_active(&self) -> Option<bool> {
        let seen = self.backlog()? > 0 || self.seen.in_flight.is_some_and(|jobs| jobs > 0);
        (seen || self.seen.beyond == Beyond::Nothing).then_some(seen)
    }
}

/// One queue in a snapshot.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which queue.
    pub id: Arc<Identity>,
    /// Its reading, while fresh.
    pub reading: Option<Arc<Reading>>,
    /// Why there is none, or why it may soon be none.
    pub problem: Option<Arc<str>>,
    /// Its backlog over the last minutes.
    pub trace: Arc<Trace>,
}

/// The backlog of the last five minutes, for a sparkline.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    last: Option<Instant>,
    /// [`Trace::UNKNOWN`] where nothing could be read: an Option would be twice as large.
    points: VecDeque<u32>,
}

impl Trace {
    /// Points kept.
    pub const POINTS: usize = 60;
    const SPACING: Duration = Duration::from_secs(5);
    const UNKNOWN: u32 = u32::MAX;

    /// Whether the next point is due.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) >= Self::SPACING)
    }

    /// Adds a point, `None` where nothing could be read.
    pub fn push(&mut self, now: Instant, backlog: Option<u64>) {
        self.last = Some(now);
        if self.points.len() == Self::POINTS {
            self.points.pop_front();
        }
        let most = Self::UNKNOWN - 1;
        self.points.push_back(
            backlog.map_or(Self::UNKNOWN, |backlog| u32::try_from(backlog).map_or(most, |backlog| backlog.min(most))),
        );
    }

    /// The points, oldest first.
    pub fn points(&self) -> impl Iterator<Item = Option<u32>> + '_ {
        self.points.iter().map(|point| Some(*point).filter(|point| *point != Self::UNKNOWN))
    }
}

/// What a library keeps for all of its queues together, in a snapshot.
#[derive(Clone, Debug)]
pub struct LibraryRow {
    /// Which library.
    pub name: LibraryName,
    /// Its numbers, while fresh.
    pub globals: Option<Globals>,
}

/// All queues after a poll.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Libraries that keep something for all queues together.
    pub libraries: Vec<LibraryRow>,
    /// The queues, as configured.
    pub rows: Vec<Row>,
    /// Whether Redis answered at the last poll.
    pub redis_up: bool,
    /// Whether a poll has ended, well or ill.
    pub polled: bool,
    /// When the first of the readings is too old to be shown.
    pub next_death: Option<Instant>,
    places: OnceLock<HashMap<Arc<str>, usize>>,
    text: OnceLock<Bytes>,
    gzip: OnceLock<Bytes>,
}

impl Snapshot {
    /// A snapshot of these rows.
    #[must_use]
    pub fn new(rows: Vec<Row>, libraries: Vec<LibraryRow>, redis_up: bool, polled: bool) -> Self {
        Self { rows, libraries, redis_up, polled, ..Self::default() }
    }

    /// The same, to be made anew at this moment if no poll ends before.
    #[must_use]
    pub fn until(self, next_death: Option<Instant>) -> Self {
        Self { next_death, ..self }
    }

    /// The queue of this label. The first search makes an index.
    #[must_use]
    pub fn row(&self, label: &str) -> Option<&Row> {
        let index = || self.rows.iter().enumerate().map(|(place, row)| (Arc::clone(&row.id.label), place)).collect();
        self.rows.get(*self.places.get_or_init(index).get(label)?)
    }

    /// The text format, made by `encode` the first time.
    pub fn text(&self, encode: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.text.get_or_init(|| encode(self)).clone()
    }

    /// The same compressed, made by `compress` the first time.
    pub fn gzip(&self, compress: impl FnOnce() -> Bytes) -> Bytes {
        self.gzip.get_or_init(compress).clone()
    }
}
