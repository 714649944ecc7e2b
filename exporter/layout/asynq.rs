//! `asynq:QUEUE`: [asynq](https://github.com/hibiken/asynq). Key names from its `internal/base/base.go`.
//!
//! Waiting jobs are ids in the list `asynq:{QUEUE}:pending` (LPUSH, taken from the right); a job's hash holds
//! `pending_since` in nanoseconds, stamped anew when it is promoted. A job in flight has a lease: one that has run out
//! belongs to a dead worker, and is abandoned. The library counts jobs processed (failed ones among them) and failed.
//!
//! Cost of a look: 11 commands, up to 5 more where there are jobs in flight, delayed or retrying ones, and one HGET in a second round when the next job is another one.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::{Timed, TimedSeen};
use super::{Layout, Name, Observation, Options, join};
use crate::flow::Counts;
use crate::reads::{Read, ReadError, Replies, Reply};
use crate::times::{self, Unit};
use bytes::Bytes;

struct Asynq {
    active: Bytes,
    /// Scores are when the lease of a job in flight runs out.
    lease: Timed,
    scheduled: Timed,
    retry: Timed,
    archived: Bytes,
    paused: Bytes,
    processed: Bytes,
    failed: Bytes,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    let of = |name: &str| join(&[b"asynq:{", &key, b"}:", name.as_bytes()]);
    let task = of("t:");
    let stored = Stored::Elsewhere {
        restamped: true,
        size: None,
        read: Box::new(move |id| Read::HashGet(join(&[&task, id]), Bytes::from_static(b"pending_since"))),
        time: pending_since,
    };
    let beside = Asynq {
        active: of("active"),
        lease: Timed::seconds(of("lease")),
        scheduled: Timed::seconds(of("scheduled")).with_first(),
        retry: Timed::seconds(of("retry")).with_first(),
        archived: of("archived"),
        paused: of("paused"),
        processed: of("processed"),
        failed: of("failed"),
    };
    ListQueue::boxed(vec![Line::new(of("pending"), true, stored)], beside)
}

pub(super) fn pending_since(reply: &Reply) -> Option<f64> {
    let Reply::Bytes(text) = reply else { return None };
    times::seconds(std::str::from_utf8(text).ok()?.parse().ok()?, Some(Unit::Nanos))
}

impl Beside for Asynq {
    fn reads(&self, now: f64) -> Vec<Read> {
        let mut reads = vec![
            Read::ListLength(self.active.clone()),
            Read::SetSize(self.archived.clone()),
            Read::Exists(self.paused.clone()),
            Read::Get(self.processed.clone()),
            Read::Get(self.failed.clone()),
        ];
        reads.extend(self.lease.reads(now));
        reads.extend(self.scheduled.reads(now));
        reads.extend(self.retry.reads(now));
        reads
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let active = replies.count()?;
        let dead = replies.count()?;
        let paused = replies.yes()?;
        let processed = replies.counter()?.unwrap_or(0);
        let failed = replies.counter()?.unwrap_or(0);
        let expired = self.lease.seen(replies, now)?.due;
        let scheduled = self.scheduled.seen(replies, now)?;
        let retry = self.retry.seen(replies, now)?;
        Ok(Observation {
            in_flight: Some(active.saturating_sub(expired)),
            abandoned: Some(expired.min(active)),
            due: Some(scheduled.due + retry.due),
            delayed: Some(scheduled.later),
            retrying: Some(retry.later),
            age: TimedSeen::overdue(&[scheduled, retry]),
            dead: Some(dead),
            paused: Some(paused),
            counts: Counts { processed: Some(processed).into(), failed: Some(failed).into(), ..Counts::default() },
            ..Observation::default()
        })
    }

    fn again(&self) -> bool {
        self.lease.again() || self.scheduled.again() || self.retry.again()
    }
}
