//! What Sidekiq keeps for all queues together: `schedule`, `retry`, `dead`, `stat:processed`, `stat:failed`, and its
//! processes with the jobs that each runs. Key names from its `launcher.rb` and `api.rb`.
//!
//! A process writes what it is at with its heartbeat, every 10 s (5 s in Sidekiq 6), and its keys last 60 s: shorter jobs
//! may not be seen, and those of a killed process are seen for up to a minute. A process that is registered and has no
//! keys is dead. `stat:processed` counts failed tries too, and is written with the heartbeat as well.
//!
//! Cost of a look: 7 commands, and see [`super::crew`]: one HMGET and two HVALS a process (the jobs are in `PROCESS:work`
//! since Sidekiq 7, in `PROCESS:workers` before), payloads included.

use super::crew::Crew;
use super::join;
use super::overview::{Around, Beyond, Globals, Overview};
use super::timed::Timed;
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies, Reply, bytes_of};
use bytes::Bytes;
use serde_json::Value;
use std::collections::HashMap;

/// The most threads that a process is believed to have.
const MOST_SLOTS: u64 = 10_000;

struct Processes {
    prefix: Bytes,
    crew: Crew<Process>,
    globals: Option<Globals>,
    queues: HashMap<String, Sums>,
}

/// What all processes say of one queue.
#[derive(Clone, Copy, Default)]
struct Sums {
    in_flight: u64,
    consumers: u64,
    slots: u64,
}

/// What one process said of itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Process {
    queues: Vec<String>,
    slots: u64,
    running: HashMap<String, u64>,
}

pub(super) fn build(prefix: &Bytes) -> Box<dyn Overview> {
    let crew = Crew::new(join(&[prefix, b"processes"]));
    Box::new(Processes { prefix: prefix.clone(), crew, globals: None, queues: HashMap::new() })
}

impl Processes {
    /// `schedule` and `retry`.
    fn timed(&self) -> [Timed; 2] {
        ["schedule", "retry"].map(|name| Timed::seconds(self.key(name)).in_one_round())
    }

    fn key(&self, name: &str) -> Bytes {
        join(&[&self.prefix, name.as_bytes()])
    }
}

impl Overview for Processes {
    fn ask(&mut self, ask: &mut Ask, now: f64) {
        if self.globals.is_none() {
            ask.plain.extend(self.crew.register());
            ask.plain.extend(self.timed().iter().flat_map(|set| set.reads(now)));
            ask.plain.push(Read::SetSize(self.key("dead")));
            ask.plain.push(Read::Get(self.key("stat:processed")));
            ask.plain.push(Read::Get(self.key("stat:failed")));
            return;
        }
        for name in self.crew.asked() {
            let of = |suffix: &[u8]| join(&[&self.prefix, name, suffix]);
            ask.plain.push(Read::HashGets(of(b""), &["info", "quiet"]));
            ask.plain.push(Read::HashValues(of(b":work")));
            ask.plain.push(Read::HashValues(of(b":workers")));
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Globals>, ReadError> {
        let Some(mut globals) = self.globals.take() else {
            self.crew.registered(replies)?;
            let [schedule, retry] = self.timed().map(|mut set| set.seen(replies, look.unix));
            let (schedule, retry) = (schedule?, retry?);
            self.globals = Some(Globals {
                due: Some(schedule.due + retry.due),
                delayed: Some(schedule.later),
                retrying: Some(retry.later),
                dead: Some(replies.count()?),
                processed: Some(replies.counter()?.unwrap_or(0)),
                failed: Some(replies.counter()?.unwrap_or(0)),
                ..Globals::default()
            });
            return Ok(None);
        };
        self.crew.reported(|_| {
            let about = replies.array()?;
            let jobs = [bytes_of(replies.array()?), bytes_of(replies.array()?)].concat();
            Ok(process(&about, &jobs))
        })?;
        self.queues.clear();
        for (_, process) in self.crew.reports() {
            for (queue, running) in &process.running {
                self.queues.entry(queue.clone()).or_default().in_flight += running;
            }
            for queue in &process.queues {
                let sums = self.queues.entry(queue.clone()).or_default();
                sums.consumers += 1;
                sums.slots += process.slots;
            }
        }
        globals.in_flight = Some(self.queues.values().map(|sums| sums.in_flight).sum());
        globals.workers_left_out = Some(self.crew.left_out());
        Ok(Some(globals))
    }

    fn around(&self, queue: &[u8]) -> Around {
        if !self.crew.is_read() {
            return Around::UNREAD;
        }
        let sums =
            std::str::from_utf8(queue).ok().and_then(|queue| self.queues.get(queue)).copied().unwrap_or_default();
        Around {
            in_flight: Some(sums.in_flight),
            beyond: if self.crew.left_out() == 0 { Beyond::Nothing } else { Beyond::Unknown },
            consumers: Some(sums.consumers),
            slots: Some(sums.slots),
            ..Around::default()
        }
    }
}

/// A process by the fields `info` and `quiet` and its jobs; `None` where it has no `info`: it is dead.
pub(super) fn process(about: &[Reply], jobs: &[Bytes]) -> Option<Process> {
    let (Some(Reply::Bytes(info)), quiet) = (about.first(), about.get(1)) else { return None };
    let info: Value = serde_json::from_slice(info).unwrap_or_default();
    let names = info.get("queues").and_then(Value::as_array);
    let queues = names.into_iter().flatten().filter_map(|name| Some(name.as_str()?.to_string())).collect();
    let is_quiet = matches!(quiet, Some(Reply::Bytes(quiet)) if quiet.as_ref() == b"true");
    let slots = if is_quiet {
        0
    } else {
        info.get("concurrency").and_then(Value::as_u64).filter(|slots| *slots <= MOST_SLOTS).unwrap_or(0)
    };
    let mut running = HashMap::new();
    for job in jobs {
        let queue = serde_json::from_slice::<Running>(job).map(|job| job.queue).unwrap_or_default();
        *running.entry(queue).or_default() += 1;
    }
    Some(Process { queues, slots, running })
}

/// A job that runs; its payload is passed over.
#[derive(serde::Deserialize)]
struct Running {
    queue: String,
}
