//! `saq:QUEUE`: [SAQ](https://github.com/tobymao/saq). Key names from its `queue/redis.py`.
//!
//! Waiting jobs are keys in the list `saq:QUEUE:queued` (RPUSH, taken from the left), jobs in flight in `active`. Those
//! delayed or waiting for a retry have a due time in `incomplete`, where all others have 0. A job's document holds when it
//! was submitted and for when it was scheduled; the later of the two is when it could first run. Jobs done are seen from
//! outside, as they are taken from the list; the counters of SAQ start again with each worker.
//!
//! Cost of a look: 9 commands, and one GETRANGE of the next job in a second round when it is another one; documents over
//! 64 KiB are not read whole, and the age is then seen from outside.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::{Layout, Name, Observation, Options, join};
use crate::curve::Age;
use crate::payload::LIMIT;
use crate::reads::{Read, ReadError, Replies, Reply};
use crate::times;
use bytes::Bytes;

struct Saq {
    active: Bytes,
    incomplete: Bytes,
    workers: Bytes,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    let of = |name: &str| join(&[b"saq:", &key, name.as_bytes()]);
    let stored = Stored::Elsewhere {
        restamped: true,
        size: None,
        read: Box::new(|id| Read::GetStart(Bytes::copy_from_slice(id), LIMIT as u64 + 1)),
        time: came,
    };
    let beside = Saq { active: of(":active"), incomplete: of(":incomplete"), workers: of(":stats") };
    ListQueue::boxed(vec![Line::new(of(":queued"), false, stored)], beside)
}

/// `queued` is in milliseconds, `scheduled` in seconds and 0 where the job was not delayed.
pub(super) fn came(reply: &Reply) -> Option<f64> {
    let Reply::Bytes(job) = reply else { return None };
    if job.len() > LIMIT {
        return None;
    }
    let job: serde_json::Value = serde_json::from_slice(job).ok()?;
    let queued = job.get("queued")?.as_f64()? / 1e3;
    let scheduled = job.get("scheduled").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    Some(queued.max(scheduled)).filter(|time| time.is_finite())
}

impl Beside for Saq {
    fn reads(&self, now: f64) -> Vec<Read> {
        vec![
            Read::ListLength(self.active.clone()),
            Read::SetCountAfter(self.incomplete.clone(), 0.0),
            Read::SetCountBetween(self.incomplete.clone(), 0.0, now),
            Read::SetFirstAfter(self.incomplete.clone(), 0.0),
            // A worker's score is when its word runs out, in milliseconds.
            Read::SetCountAfter(self.workers.clone(), now * 1e3),
        ]
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let in_flight = replies.count()?;
        let timed = replies.count()?;
        let due = replies.count()?;
        let overdue = replies.first_score()?.and_then(|due| times::age(due, now));
        let consumers = replies.count()?;
        Ok(Observation {
            in_flight: Some(in_flight),
            due: Some(due.min(timed)),
            delayed: Some(timed.saturating_sub(due)),
            consumers: Some(consumers),
            age: overdue.map_or(Age::Unknown, |seconds| Age::Known { seconds, error: 0.0 }),
            ..Observation::default()
        })
    }
}
