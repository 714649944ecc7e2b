//! `rq:QUEUE`: [RQ](https://github.com/rq/rq) 1 and 2. Key names from its `queue.py`, `registry.py` and `worker.py`.
//!
//! Waiting jobs are ids in the list `rq:queue:QUEUE` (RPUSH, taken from the left); a job's hash holds `enqueued_at`,
//! which is stamped anew when a delayed job is promoted. The jobs of a worker that died stay in the sorted set
//! `rq:wip:QUEUE` with a score that has passed: they are abandoned. Retries wait among the delayed. Jobs done are seen
//! from outside, as they are taken from the list; the counters of RQ vanish with their worker.
//!
//! Cost of a look: 8 commands, up to 3 more where there are jobs in flight or delayed ones, and one HGET in a second round when the next job is another one.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::Timed;
use super::{Layout, Name, Observation, Options, join};
use crate::reads::{Read, ReadError, Replies, Reply};
use crate::times;
use bytes::Bytes;

struct Rq {
    intermediate: Bytes,
    /// Scores are when the worker's word for its job runs out.
    working: Timed,
    scheduled: Timed,
    failed: Bytes,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    let of = |name: &str| join(&[name.as_bytes(), &key]);
    let stored = Stored::Elsewhere {
        restamped: true,
        size: None,
        read: Box::new(|id| Read::HashGet(join(&[b"rq:job:", id]), Bytes::from_static(b"enqueued_at"))),
        time: enqueued_at,
    };
    let beside = Rq {
        intermediate: join(&[b"rq:queue:", &key, b":intermediate"]),
        working: Timed::seconds(of("rq:wip:")),
        scheduled: Timed::seconds(of("rq:scheduled:")).with_first(),
        failed: of("rq:failed:"),
    };
    ListQueue::boxed(vec![Line::new(of("rq:queue:"), false, stored)], beside)
}

pub(super) fn enqueued_at(reply: &Reply) -> Option<f64> {
    let Reply::Bytes(text) = reply else { return None };
    times::from_json(&serde_json::Value::from(std::str::from_utf8(text).ok()?), None)
}

impl Beside for Rq {
    fn reads(&self, now: f64) -> Vec<Read> {
        let mut reads = vec![
            Read::ListLength(self.intermediate.clone()),
            Read::SetSize(self.failed.clone()),
            Read::Exists(Bytes::from_static(b"rq:suspended")),
        ];
        reads.extend(self.working.reads(now));
        reads.extend(self.scheduled.reads(now));
        reads
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let between = replies.count()?;
        let dead = replies.count()?;
        let paused = replies.yes()?;
        let working = self.working.seen(replies, now)?;
        let scheduled = self.scheduled.seen(replies, now)?;
        Ok(Observation {
            in_flight: Some(working.later + between),
            abandoned: Some(working.due),
            due: Some(scheduled.due),
            delayed: Some(scheduled.later),
            age: scheduled.overdue,
            dead: Some(dead),
            paused: Some(paused),
            ..Observation::default()
        })
    }

    fn again(&self) -> bool {
        self.working.again() || self.scheduled.again()
    }
}
