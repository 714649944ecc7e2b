//! What the exporter says, beside what is true.

use crate::Result;
use crate::programs::get;
use crate::workload::Queue;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How old a reading may be: the exporter looks once a second, and a look takes a moment.
const POLL: Duration = Duration::from_millis(1200);
/// By how much two programs may differ when they note the time of the same job.
const SKEW: f64 = 0.1;

/// What one GET of `/metrics` says, by series and queue.
pub struct Scrape(HashMap<(String, String), f64>);

impl Scrape {
    /// Asks the exporter.
    pub fn get(address: SocketAddr) -> Result<Self> {
        Ok(Self(get(address, "/metrics")?.lines().filter_map(sample).collect()))
    }

    fn value(&self, series: &str, queue: &str) -> Option<f64> {
        self.0.get(&(format!("redis_queue_{series}"), queue.to_owned())).copied()
    }

    fn age(&self, queue: &str) -> Option<(f64, f64)> {
        let error = self.value("oldest_job_age_error_seconds", queue).unwrap_or(0.0);
        Some((self.value("oldest_job_age_seconds", queue)?, error))
    }
}

/// Reads `series{queue="name",...} value`; none of the names here needs an escape.
fn sample(line: &str) -> Option<((String, String), f64)> {
    let (series, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let queue = labels.split(',').find_map(|label| label.strip_prefix("queue=\"")?.strip_suffix('"'))?;
    Some(((series.to_owned(), queue.to_owned()), value.parse().ok()?))
}

#[rustfmt::skip]
const HEAD: [&str; 9] = [
    "queue", "waiting", "in flight", "delayed", "oldest waits", "in/s", "done/s", "really waiting", "really oldest",
];

fn row([queue, waiting, in_flight, delayed, age, arriving, done, truly, oldest]: [&str; 9]) -> String {
    format!(
        "{queue:<11}{waiting:>8}{in_flight:>11}{delayed:>9}{age:>15}{arriving:>7}{done:>8}  |{truly:>15}{oldest:>15}\n"
    )
}

fn table(scrape: &Scrape, queues: &[Arc<Queue>]) -> String {
    let mut text = row(HEAD);
    for queue in queues {
        let name = queue.plan.queue;
        let count = |series| scrape.value(series, name).map_or("-".into(), |value| value.to_string());
        let rate = |series| scrape.value(series, name).map_or("-".into(), |value| format!("{value:.1}"));
        let waiting = if scrape.value("up", name) == Some(1.0) { count("length") } else { "down".into() };
        let age = match scrape.age(name) {
            None => "-".into(),
            Some((age, 0.0)) => format!("{age:.1} s"),
            Some((age, error)) => format!("{age:.1} s ±{error:.1}"),
        };
        text += &row([
            name,
            &waiting,
            &count("in_flight"),
            &count("delayed"),
            &age,
            &rate("arrival_rate"),
            &rate("processing_rate"),
            &queue.waiting(Instant::now()).to_string(),
            &format!("{:.1} s", queue.oldest()),
        ]);
    }
    text
}

/// Fails where a number was wrong, and says which.
pub fn verdict(scrape: &Scrape, queues: &[Arc<Queue>]) -> Result {
    let faults = queues.iter().flat_map(|queue| [wrong_length(scrape, queue), wrong_age(scrape, queue)]);
    let faults: Vec<String> = faults.flatten().collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.join("; ").into()) }
}

/// Scheduled jobs may have become due since the exporter's last look.
fn wrong_length(scrape: &Scrape, queue: &Queue) -> Option<String> {
    let (name, now) = (queue.plan.queue, Instant::now());
    let (least, most) = (queue.waiting(now.checked_sub(POLL).unwrap_or(now)), queue.waiting(now));
    let length = scrape.value("length", name);
    let right = length.is_some_and(|length| length >= least as f64 && length <= most as f64);
    (!right).then(|| format!("{name}: redis_queue_length is {}, truly {most}", told(length)))
}

/// Since the exporter's last look the job has got older.
fn wrong_age(scrape: &Scrape, queue: &Queue) -> Option<String> {
    let (name, truth) = (queue.plan.queue, queue.oldest());
    let right = scrape
        .age(name)
        .is_some_and(|(age, error)| truth >= age - error - SKEW && truth <= age + error + SKEW + POLL.as_secs_f64());
    let age = scrape.age(name).map(|(age, _)| age);
    (!right).then(|| format!("{name}: redis_queue_oldest_job_age_seconds is {}, truly {truth:.1}", told(age)))
}

fn told(value: Option<f64>) -> String {
    value.map_or("absent".into(), |value| value.to_string())
}

/// Where the table goes: on a terminal it is redrawn in place, elsewhere it is appended now and then.
pub struct Screen {
    terminal: bool,
    top: String,
    shown: u64,
}

impl Screen {
    /// Where tables are appended, one of so many is.
    const EVERY: u64 = 5;

    /// Nothing is shown yet.
    pub fn new(address: SocketAddr) -> Self {
        let top = format!(
            "A page for people:  http://{address}/\nFor Prometheus:     http://{address}/metrics\nCtrl-C ends the demo.\n\n\
            Left what the exporter says, right what is true. The exporter looks once a second, so it may be behind by one.\n\
            A `-` is what a queue does not have, or what can't be told, as when a plain list ran empty between two looks.\n"
        );
        Self { terminal: std::io::stdout().is_terminal(), top, shown: 0 }
    }

    /// Shows a table; the last one for sure.
    pub fn show(&mut self, scrape: &Scrape, queues: &[Arc<Queue>], last: bool) -> Result {
        let (first, table) = (self.shown == 0, table(scrape, queues));
        let due = last || self.shown.is_multiple_of(Self::EVERY);
        self.shown += 1;
        let mut out = std::io::stdout().lock();
        if self.terminal {
            // What the exporter logs comes below, and stays.
            let (clear, page) = (if first { "\x1b[2J" } else { "" }, format!("{}\n{table}", self.top));
            write!(out, "{clear}\x1b[H{}", page.replace('\n', "\x1b[K\n"))?;
        } else if first {
            write!(out, "{}\n{table}", self.top)?;
        } else if due {
            write!(out, "\n{table}")?;
        }
        Ok(out.flush()?)
    }
}
