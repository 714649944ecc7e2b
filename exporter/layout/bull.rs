//! `bull:QUEUE`: [Bull](https://github.com/OptimalBits/bull) 3 and 4, BullMQ's predecessor. Key names from its `lib/queue.js`
//! and `lib/commands`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | `bull` unless set |
//!
//! As [`super::bullmq`], but jobs with a priority are put into `wait` itself, at the end that is taken from, and mirrored
//! in the sorted set `priority`. So the next job is not the oldest while there are some: the age is at least that of the
//! oldest job without a priority then, and jobs that came and went are seen in part only: each such poll is a gap.
//!
//! Cost of a look: 11 commands, 2 more where there are delayed jobs, and one HMGET in a second round when the next job is another one.

use super::bullmq::{came, metric};
use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::Timed;
use super::{Layout, Name, Observation, Options, join};
use crate::curve::Age;
use crate::flow::Counts;
use crate::reads::{Read, ReadError, Replies};
use bytes::Bytes;

struct Bull {
    wait: Bytes,
    paused: Bytes,
    meta_paused: Bytes,
    priority: Bytes,
    active: Bytes,
    delayed: Timed,
    failed: Bytes,
    completed_metrics: Bytes,
    failed_metrics: Bytes,
    is_paused: bool,
    priorities: u64,
    had_priorities: bool,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let Name { prefix, queue } = name;
    let of = |name: &str| join(&[&prefix, b":", &queue, b":", name.as_bytes()]);
    let job = of("");
    let stored = Stored::Elsewhere {
        restamped: false,
        size: None,
        read: Box::new(move |id| Read::HashGets(join(&[&job, id]), &["timestamp", "opts"])),
        time: came,
    };
    let beside = Bull {
        wait: of("wait"),
        paused: of("paused"),
        meta_paused: of("meta-paused"),
        priority: of("priority"),
        active: of("active"),
        // A score is the due time in milliseconds times 4096, plus a number below that.
        delayed: Timed::scaled(of("delayed"), 4_096_000.0, 4_095.0).with_first(),
        failed: of("failed"),
        completed_metrics: of("metrics:completed"),
        failed_metrics: of("metrics:failed"),
        is_paused: false,
        priorities: 0,
        had_priorities: false,
    };
    ListQueue::boxed(vec![Line::new(of("wait"), true, stored)], beside)
}

impl Beside for Bull {
    fn reads(&self, now: f64) -> Vec<Read> {
        let count = || Bytes::from_static(b"count");
        let mut reads = vec![
            Read::Exists(self.meta_paused.clone()),
            Read::SetSize(self.priority.clone()),
            Read::ListLength(self.active.clone()),
            Read::SetSize(self.failed.clone()),
            Read::HashGet(self.completed_metrics.clone(), count()),
            Read::HashGet(self.failed_metrics.clone(), count()),
        ];
        reads.extend(self.delayed.reads(now));
        reads
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        self.is_paused = replies.yes()?;
        let priorities = replies.count()?;
        let in_flight = replies.count()?;
        let dead = replies.count()?;
        let completed = metric(replies.bytes()?);
        let failed = metric(replies.bytes()?);
        let delayed = self.delayed.seen(replies, now)?;
        let processed = completed.map(|completed| completed + failed.unwrap_or(0));
        let gap = priorities > 0 || self.had_priorities;
        (self.priorities, self.had_priorities) = (priorities, priorities > 0);
        Ok(Observation {
            in_flight: Some(in_flight),
            due: Some(delayed.due),
            delayed: Some(delayed.later),
            age: delayed.overdue,
            dead: Some(dead),
            paused: Some(self.is_paused),
            counts: Counts { processed: processed.into(), failed: failed.into(), gap, ..Counts::default() },
            ..Observation::default()
        })
    }

    fn again(&self) -> bool {
        self.delayed.again()
    }

    fn list(&self) -> Option<&Bytes> {
        Some(if self.is_paused { &self.paused } else { &self.wait })
    }

    fn skip(&self) -> u64 {
        self.priorities
    }

    fn finish(&self, observation: &mut Observation) {
        if let (true, Age::Known { seconds, error }) = (self.priorities > 0, observation.age) {
            observation.age = Age::AtLeast((seconds - error).max(0.0));
        }
    }
}
