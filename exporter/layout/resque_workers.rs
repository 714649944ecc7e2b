//! What Resque keeps for all queues together: `failed`, `stat:processed`, `stat:failed`, and its workers with the job that
//! each runs. Key names from its `data_store.rb`.
//!
//! A worker is a process that runs one job at a time; its name, `HOST:PID:QUEUE,QUEUE`, says which queues it takes from
//! (`*` all of them). One whose heartbeat is older than [`DEAD_AFTER`] is dead, and its job abandoned; Resque itself
//! prunes it then.
//!
//! Cost of a look: 5 commands, and see [`super::crew`]: GET and HGET a worker.

use super::crew::Crew;
use super::join;
use super::overview::{Around, Beyond, Globals, Overview};
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies};
use crate::times;
use bytes::Bytes;

/// Resque's `prune_interval`, in seconds.
const DEAD_AFTER: f64 = 300.0;

struct Workers {
    prefix: Bytes,
    crew: Crew<Worker>,
    globals: Option<Globals>,
}

struct Worker {
    /// The queue of the job that it runs.
    queue: Option<String>,
    alive: bool,
}

pub(super) fn build(prefix: &Bytes) -> Box<dyn Overview> {
    let crew = Crew::new(join(&[prefix, b"workers"]));
    Box::new(Workers { prefix: prefix.clone(), crew, globals: None })
}

impl Workers {
    fn key(&self, name: &str) -> Bytes {
        join(&[&self.prefix, name.as_bytes()])
    }
}

impl Overview for Workers {
    fn ask(&mut self, ask: &mut Ask, _now: f64) {
        if self.globals.is_none() {
            ask.plain.extend(self.crew.register());
            ask.plain.push(Read::ListLength(self.key("failed")));
            ask.plain.push(Read::Get(self.key("stat:processed")));
            ask.plain.push(Read::Get(self.key("stat:failed")));
            return;
        }
        for name in self.crew.asked() {
            ask.plain.push(Read::Get(join(&[&self.prefix, b"worker:", name])));
            ask.plain.push(Read::HashGet(self.key("workers:heartbeat"), name.clone()));
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Globals>, ReadError> {
        let Some(mut globals) = self.globals.take() else {
            self.crew.registered(replies)?;
            self.globals = Some(Globals {
                dead: Some(replies.count()?),
                processed: Some(replies.counter()?.unwrap_or(0)),
                failed: Some(replies.counter()?.unwrap_or(0)),
                ..Globals::default()
            });
            return Ok(None);
        };
        self.crew.reported(|_| {
            let (job, heartbeat) = (replies.bytes()?, replies.bytes()?);
            let queue = job.and_then(|job| Some(serde_json::from_slice::<Running>(&job).ok()?.queue));
            // Versions before 1.26 have no heartbeat: they are taken at their word.
            let alive = heartbeat.and_then(|time| beat(&time)).is_none_or(|time| look.unix - time < DEAD_AFTER);
            Ok(Some(Worker { queue, alive }))
        })?;
        let busy = self.crew.reports().filter(|(_, worker)| worker.alive && worker.queue.is_some());
        globals.in_flight = Some(busy.count() as u64);
        globals.workers_left_out = Some(self.crew.left_out());
        Ok(Some(globals))
    }

    fn around(&self, queue: &[u8]) -> Around {
        if !self.crew.is_read() {
            return Around::UNREAD;
        }
        let (mut in_flight, mut abandoned, mut consumers) = (0, 0, 0);
        for (name, worker) in self.crew.reports() {
            let runs = worker.queue.as_ref().is_some_and(|running| running.as_bytes() == queue);
            in_flight += u64::from(runs && worker.alive);
            abandoned += u64::from(runs && !worker.alive);
            consumers += u64::from(worker.alive && takes_from(name, queue));
        }
        // One job at a time.
        let (in_flight, consumers) = (Some(in_flight), Some(consumers));
        let beyond = Beyond::at_most(self.crew.left_out());
        Around { in_flight, beyond, abandoned: Some(abandoned), consumers, slots: consumers }
    }
}

pub(super) fn beat(time: &[u8]) -> Option<f64> {
    times::from_json(&serde_json::Value::from(std::str::from_utf8(time).ok()?), None)
}

/// Whether a worker of this name takes jobs from the queue.
fn takes_from(worker: &[u8], queue: &[u8]) -> bool {
    let queues = worker.splitn(3, |byte| *byte == b':').nth(2).unwrap_or_default();
    queues.split(|byte| *byte == b',').any(|name| name == queue || name == b"*")
}

#[derive(serde::Deserialize)]
struct Running {
    queue: String,
}
