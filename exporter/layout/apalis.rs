//! `apalis:QUEUE`: [apalis](https://github.com/apalis-dev/apalis) 1 with apalis-redis. Key names from its `src/config.rs` and
//! `lua/`.
//!
//! Waiting jobs are ids in the list `QUEUE:active` (RPUSH, taken from the left), a name that says otherwise. An id is a
//! ULID unless the producer chose another: its first ten letters are the time of submission in milliseconds, so the age of
//! a scheduled job or a retry counts from then. Jobs in flight are in one set a worker, and abandoned once the worker has
//! not been heard of for [`DEAD_AFTER`]. Every job goes through the sorted set
//! `QUEUE:scheduled` by its due time in seconds, those that are to run at once too, until a worker looks: they are due.
//! Jobs done are in a set until the
//! application vacuums it, which looks like a counter that was reset.
//!
//! Cost of a look: 6 commands, 2 more where there are scheduled jobs, and SCARD for each of up to [`WORKERS`] workers; a second round when these have changed.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::Timed;
use super::{Layout, Name, Observation, Options, join};
use crate::curve::Age;
use crate::flow::Counts;
use crate::reads::{Read, ReadError, Replies, bytes_of};
use crate::times::{self, Unit};
use bytes::Bytes;

/// Workers that are looked at.
const WORKERS: i64 = 128;
/// Seconds without a heartbeat after which apalis takes a worker's jobs back, unless configured otherwise.
const DEAD_AFTER: f64 = 300.0;

struct Apalis {
    queue: Bytes,
    scheduled: Timed,
    /// The workers that are asked for, with the time of their last heartbeat in seconds.
    workers: Vec<(Bytes, f64)>,
    changed: bool,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let of = |part: &str| join(&[&name.queue, part.as_bytes()]);
    let line = Line::new(of(":active"), false, Stored::Element(ulid_time));
    let scheduled = Timed::seconds(of(":scheduled")).with_first();
    ListQueue::boxed(vec![line], Apalis { queue: name.queue, scheduled, workers: Vec::new(), changed: false })
}

/// The first 48 bits, in Crockford's base 32.
pub(super) fn ulid_time(id: &[u8]) -> Option<f64> {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if id.len() != 26 {
        return None;
    }
    let digit = |letter: &u8| DIGITS.iter().position(|digit| *digit == letter.to_ascii_uppercase());
    let millis = id.iter().take(10).try_fold(0_u64, |sum, letter| Some(sum << 5 | digit(letter)? as u64))?;
    times::seconds(millis as f64, Some(Unit::Millis))
}

impl Beside for Apalis {
    fn reads(&self, now: f64) -> Vec<Read> {
        let of = |part: &[u8]| join(&[&self.queue, part]);
        let mut reads = vec![
            Read::MemberCount(of(b":done")),
            Read::MemberCount(of(b":dead")),
            Read::SetFirsts(of(b":workers"), WORKERS),
        ];
        reads.extend(self.scheduled.reads(now));
        reads.extend(self.workers.iter().map(|(worker, _)| Read::MemberCount(of(&join(&[b":inflight:", worker])))));
        reads
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let (done, dead) = (replies.count()?, replies.count()?);
        let workers = workers(&bytes_of(replies.array()?));
        let scheduled = self.scheduled.seen(replies, now)?;
        let (mut in_flight, mut abandoned) = (0, 0);
        for (name, before) in &self.workers {
            let jobs = replies.count()?;
            // Its word is that of this look, where it is still there.
            let beat = workers.iter().find(|(other, _)| other == name).map_or(before, |(_, beat)| beat);
            let alive = now - beat < DEAD_AFTER;
            *(if alive { &mut in_flight } else { &mut abandoned }) += jobs;
        }
        self.changed = workers.iter().map(|(name, _)| name).ne(self.workers.iter().map(|(name, _)| name));
        self.workers = workers;
        let alive = self.workers.iter().filter(|(_, beat)| now - beat < DEAD_AFTER);
        Ok(Observation {
            in_flight: Some(in_flight),
            abandoned: Some(abandoned),
            due: Some(scheduled.due),
            delayed: Some(scheduled.later),
            age: within_a_second(scheduled.overdue),
            dead: Some(dead),
            consumers: Some(alive.count() as u64),
            counts: Counts { processed: Some(done + dead).into(), failed: Some(dead).into(), ..Counts::default() },
            ..Observation::default()
        })
    }

    fn again(&self) -> bool {
        self.changed || self.scheduled.again()
    }
}

/// Due times are whole seconds, cut down.
fn within_a_second(age: Age) -> Age {
    match age {
        Age::Known { seconds, .. } => Age::Known { seconds: (seconds - 0.5).max(0.0), error: 0.5 },
        age => age,
    }
}

/// Names and scores by turns, put in the order of the names: a heartbeat changes the order of the scores.
fn workers(items: &[Bytes]) -> Vec<(Bytes, f64)> {
    let pairs = items.chunks_exact(2).filter_map(|pair| match pair {
        // Copied, for the reply shares its memory with the whole batch of replies.
        [name, score] => Some((Bytes::copy_from_slice(name), std::str::from_utf8(score).ok()?.parse().ok()?)),
        _ => None,
    });
    let mut workers: Vec<_> = pairs.collect();
    workers.sort_by(|(one, _), (other, _)| one.cmp(other));
    workers
}
