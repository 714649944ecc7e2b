//! `bullmq:QUEUE`: [BullMQ](https://github.com/taskforcesh/bullmq) 3 to 6. Key names from its `src/classes/queue-keys.ts`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | `bull` unless set, as the option of Queue and Worker; `{bull}` in a Cluster |
//!
//! Waiting jobs are ids in the list `wait` (LPUSH, taken from the right) and in the sorted set `prioritized`; up to BullMQ 5
//! they are in the list `paused` while the queue is paused, in BullMQ 6 that list holds only what an older one left there.
//! BullMQ 3 has jobs with a priority in `wait` itself, as [`super::bull`] has. A job's hash holds the time at which it was added and its delay: its age counts from the
//! moment when it could first run. With more than one prioritized job the oldest can't be told, for they are sorted by
//! priority: the age is then at least that of the next one, and of the oldest in `wait`. Jobs done are counted by the library where its workers have
//! `metrics` on, else they are seen from outside as they are taken from `wait`; every poll that saw prioritized jobs is
//! a gap then. BullMQ 3 and 4 wake their workers by an id `0:TIME` in `wait`, which is no job: it is left out of the
//! length, and while there are delayed or prioritized jobs what comes and goes is not counted there. In BullMQ 4 a `lifo` job
//! may stand behind that id: the length is then one too many.
//!
//! Cost of a look: 12 commands, up to 4 more where there are delayed or prioritized jobs, and an HMGET for each of the two next jobs in a second round when it is another one.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::Timed;
use super::{Layout, Name, Observation, Options, join};
use crate::curve::Age;
use crate::flow::{Count, Counts};
use crate::reads::{Read, ReadError, Replies, Reply, bytes_of, counter};
use crate::times::Unit;
use bytes::Bytes;

struct BullMq {
    wait: Bytes,
    paused: Bytes,
    prioritized: Bytes,
    /// Of BullMQ 3: jobs of `wait` that have a priority.
    priority: Bytes,
    active: Bytes,
    delayed: Timed,
    failed: Bytes,
    meta: Bytes,
    completed_metrics: Bytes,
    failed_metrics: Bytes,
    /// Whether the jobs are in `paused`.
    is_moved: bool,
    /// Whether it has jobs with a priority, in which of the two ways is not told yet at the first look.
    priorities: bool,
    /// BullMQ 4 or later: none of its jobs in `wait` have a priority.
    apart: bool,
    /// Whether it must be asked anew: the jobs are elsewhere, or of a kind that was not asked for.
    changed: bool,
    /// Jobs of `wait` that have a priority, of BullMQ 3.
    in_front: u64,
    had_prioritized: bool,
    /// The next prioritized job, and whether it is the only one.
    next: Option<(Bytes, bool)>,
    /// Whether it is BullMQ 3 or 4, and there were jobs for which those leave marks, at this look and at the last.
    marks: [bool; 2],
    has_metrics: bool,
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
    let beside = BullMq {
        wait: of("wait"),
        paused: of("paused"),
        prioritized: of("prioritized"),
        priority: of("priority"),
        active: of("active"),
        // A score is the due time in milliseconds times 4096, plus a number below that.
        delayed: Timed::scaled(of("delayed"), 4_096_000.0, 4_095.0).with_first(),
        failed: of("failed"),
        meta: of("meta"),
        completed_metrics: of("metrics:completed"),
        failed_metrics: of("metrics:failed"),
        is_moved: false,
        priorities: false,
        apart: false,
        changed: false,
        in_front: 0,
        had_prioritized: false,
        next: None,
        marks: [false; 2],
        has_metrics: false,
    };
    ListQueue::boxed(vec![Line::new(of("wait"), true, stored).with_marks(|id| id.starts_with(b"0:"))], beside)
}

/// When the job could first run: when it was added, and its delay. `opts` may be long, or its delay no number.
pub(super) fn came(reply: &Reply) -> Option<f64> {
    let Reply::Array(fields) = reply else { return None };
    let text = |index: usize| match fields.get(index) {
        Some(Reply::Bytes(text)) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    let added: f64 = text(0)?.parse().ok()?;
    let delay = text(1).filter(|opts| opts.len() <= crate::payload::LIMIT).and_then(delay).unwrap_or(0.0);
    crate::times::seconds(added + delay, Some(Unit::Millis))
}

fn delay(opts: &str) -> Option<f64> {
    let opts: serde_json::Value = serde_json::from_str(opts).ok()?;
    opts.get("delay")?.as_f64().filter(|delay| (0.0..1e12).contains(delay))
}

/// A counter that is kept in a hash only while the workers have `metrics` on.
pub(super) fn metric(reply: Option<Bytes>) -> Option<u64> {
    counter(&reply?)
}

/// The first number of a version such as `bullmq:4.18.3`; 0 where it says none, as versions before 3.16 do.
fn major(version: Option<&Reply>) -> u32 {
    let Some(Reply::Bytes(version)) = version else { return 0 };
    let number = |text: &str| text.strip_prefix("bullmq:")?.split('.').next()?.parse().ok();
    std::str::from_utf8(version).ok().and_then(number).unwrap_or(0)
}

impl Beside for BullMq {
    fn reads(&self, now: f64) -> Vec<Read> {
        let count = || Bytes::from_static(b"count");
        // Of the two lists one is watched, and the other mostly empty.
        let other = if self.is_moved { &self.wait } else { &self.paused };
        let mut reads = vec![
            Read::HashGets(self.meta.clone(), &["paused", "version"]),
            Read::ListLength(other.clone()),
            Read::ListLength(self.active.clone()),
            Read::SetSize(self.failed.clone()),
            Read::HashGet(self.completed_metrics.clone(), count()),
            Read::HashGet(self.failed_metrics.clone(), count()),
            Read::SetSize(self.prioritized.clone()),
        ];
        if self.priorities {
            reads.push(Read::SetFirst(self.prioritized.clone()));
        }
        if !self.apart {
            reads.push(Read::SetSize(self.priority.clone()));
        }
        reads.extend(self.delayed.reads(now));
        reads
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let meta = replies.array()?;
        let is_paused = matches!(meta.first(), Some(Reply::Bytes(_)));
        let major = major(meta.get(1));
        let other = replies.count()?;
        let in_flight = replies.count()?;
        let dead = replies.count()?;
        let completed = metric(replies.bytes()?);
        let failed = metric(replies.bytes()?);
        let prioritized = replies.count()?;
        let next = if self.priorities { bytes_of(replies.array()?).into_iter().next() } else { None };
        // Copied, for the reply shares its memory with the whole batch of replies.
        self.next = next.map(|id| (Bytes::copy_from_slice(&id), prioritized == 1));
        self.in_front = if self.apart { 0 } else { replies.count()? };
        let moves = is_paused && major < 6;
        // The length of the other list was that of this one, or the next of the prioritized jobs was not asked for.
        self.changed = moves != self.is_moved || prioritized > 0 && !self.priorities;
        (self.is_moved, self.priorities, self.apart) = (moves, prioritized > 0, major >= 4);
        let delayed = self.delayed.seen(replies, now)?;
        self.has_metrics = completed.is_some();
        let [before, _] = self.marks;
        self.marks = [major < 5 && prioritized + delayed.due + delayed.later > 0, before];
        let has_priorities = prioritized + self.in_front > 0;
        let gap = has_priorities || self.had_prioritized;
        self.had_prioritized = has_priorities;
        let processed = completed.map(|completed| completed + failed.unwrap_or(0));
        Ok(Observation {
            length: Some(prioritized + other),
            in_flight: Some(in_flight),
            due: Some(delayed.due),
            delayed: Some(delayed.later),
            dead: Some(dead),
            paused: Some(is_paused),
            age: delayed.overdue,
            counts: Counts { processed: processed.into(), failed: failed.into(), gap, ..Counts::default() },
            ..Observation::default()
        })
    }

    fn next(&self) -> Option<(&Bytes, bool)> {
        self.next.as_ref().map(|(id, only)| (id, *only))
    }

    fn finish(&self, observation: &mut Observation) {
        if let (1.., Age::Known { seconds, error }) = (self.in_front, observation.age) {
            observation.age = Age::AtLeast((seconds - error).max(0.0));
        }
        if self.marks.contains(&true) {
            observation.counts.arrivals = Count::Unknown;
            if !self.has_metrics {
                observation.counts.processed = Count::Unknown;
            }
        }
    }

    fn again(&self) -> bool {
        self.changed || self.delayed.again()
    }

    fn skip(&self) -> u64 {
        self.in_front
    }

    fn list(&self) -> Option<&Bytes> {
        Some(if self.is_moved { &self.paused } else { &self.wait })
    }
}
