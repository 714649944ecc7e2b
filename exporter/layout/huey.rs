//! `huey:NAME`: [Huey](https://github.com/coleifer/huey) with RedisHuey or PriorityRedisHuey. Key names from its
//! `storage.py`.
//!
//! Waiting jobs are pickles in `huey.redis.NAME`: a list (LPUSH, taken from the right) that holds no time, or with
//! PriorityRedisHuey a sorted set by priority whose members start with the time at which they came, as eight bytes. A
//! scheduled job goes through there first, and to `huey.schedule.NAME` when a worker has looked at it: until then it counts
//! as waiting. Jobs in flight are nowhere. Jobs done are seen from outside, as they are taken from the list.
//!
//! Cost of a look: see [`crate::fifo`], and ZCARD; with priorities four commands; up to two more where there are scheduled jobs.

use super::detect::Detect;
use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::{Timed, TimedSeen};
use super::{Layout, Name, Observation, Options, join};
use crate::curve::Age;
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies, Reply};
use crate::times::{self, Unit};
use bytes::Bytes;

struct Schedule(Timed);

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    let schedule = || Schedule(Timed::seconds(join(&[b"huey.schedule.", &key])).with_first());
    let jobs = join(&[b"huey.redis.", &key]);
    let list = ListQueue::boxed(vec![Line::new(jobs.clone(), true, Stored::Nowhere)], schedule());
    let priorities = Box::new(Priorities { key: jobs.clone(), schedule: schedule(), first: None, seen: None });
    Detect::boxed(jobs, [("list", list), ("zset", priorities)])
}

impl Beside for Schedule {
    fn reads(&self, now: f64) -> Vec<Read> {
        self.0.reads(now)
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let TimedSeen { due, later, overdue } = self.0.seen(replies, now)?;
        Ok(Observation { due: Some(due), delayed: Some(later), age: overdue, ..Observation::default() })
    }

    fn again(&self) -> bool {
        self.0.again()
    }
}

/// PriorityRedisHuey's queue: the members with the lowest score are next, oldest first.
struct Priorities {
    key: Bytes,
    schedule: Schedule,
    /// The lowest score of the last look: how many share it tells whether the first job is the oldest of all.
    first: Option<f64>,
    /// Kept from the first round of a look for the second.
    seen: Option<(u64, Option<f64>, Observation)>,
}

impl Layout for Priorities {
    fn key(&self) -> &Bytes {
        &self.key
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        if self.seen.is_none() {
            ask.plain.push(Read::SetSize(self.key.clone()));
            ask.plain.push(Read::SetFirst(self.key.clone()));
            ask.plain.extend(self.schedule.reads(now));
        }
        if let Some(score) = self.first {
            ask.plain.push(Read::SetCountTo(self.key.clone(), score));
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        let asked = self.first;
        let (length, came, around) = match self.seen.take() {
            Some(seen) => seen,
            None => {
                let length = replies.count()?;
                let first = replies.array()?;
                let (came, score) = first_job(&first);
                self.first = score;
                let around = self.schedule.seen(replies, look.unix)?;
                if self.schedule.again() {
                    return Ok(None);
                }
                (length, came, around)
            }
        };
        let alike = asked.map(|_| replies.count()).transpose()?;
        let Some(alike) = alike.filter(|_| asked == self.first).or(self.first.is_none().then_some(0)) else {
            self.seen = Some((length, came, around));
            return Ok(None);
        };
        let age = match came.and_then(|came| times::age(came, look.unix)) {
            _ if length == 0 => Age::EMPTY,
            Some(seconds) if alike >= length => Age::Known { seconds, error: 0.0 },
            Some(seconds) => Age::AtLeast(seconds),
            None => Age::Unknown,
        };
        let age = match around.due {
            Some(1..) if length == 0 => around.age,
            Some(1..) => age.older(around.age),
            _ => age,
        };
        Ok(Some(Observation { length: Some(length), age, ..around }))
    }
}

/// The time in the first member, and its score.
fn first_job(reply: &[Reply]) -> (Option<f64>, Option<f64>) {
    let [Reply::Bytes(member), Reply::Bytes(score)] = reply else { return (None, None) };
    let score = std::str::from_utf8(score).ok().and_then(|score| score.parse().ok());
    (came(member), score)
}

/// The first eight bytes are microseconds, highest byte first.
pub(super) fn came(member: &[u8]) -> Option<f64> {
    let micros = u64::from_be_bytes(*member.first_chunk()?);
    times::seconds(micros as f64, Some(Unit::Micros))
}
