//! `laravel:QUEUE`: [Laravel](https://github.com/laravel/framework)'s Redis queues, with or without Horizon. Key names
//! from its `RedisQueue.php` and `LuaScripts.php`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | the prefix of the application's Redis connection, `laravel_database_` unless set; `none` for none |
//!
//! Waiting jobs are JSON in the list `queues:QUEUE` (RPUSH, taken from the left), with `pushedAt` (Horizon) or `createdAt`
//! (recent versions, in whole seconds, so to within half a second); older ones hold no time, and the age is seen from outside. Jobs in flight are in the
//! sorted set `reserved` until their time runs out: those past it are abandoned, for the next worker that looks puts them
//! back. Retries wait among the delayed; failed jobs are in the SQL database. Jobs done are seen from outside, as they are
//! taken from the list. In a Cluster the queue is named `{QUEUE}`, braces included.
//!
//! Cost of a look: 5 commands, LRANGE of the oldest job among them; up to 3 more where there are jobs in flight or delayed ones.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::timed::Timed;
use super::{Layout, Name, Observation, Options, join};
use crate::payload::LIMIT;
use crate::reads::{Read, ReadError, Replies};
use crate::times::{self, Unit};

struct Laravel {
    delayed: Timed,
    /// Scores are when a job in flight is taken for lost.
    reserved: Timed,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let Name { prefix, queue } = name;
    let of = |name: &str| join(&[&prefix, b"queues:", &queue, name.as_bytes()]);
    let beside =
        Laravel { delayed: Timed::seconds(of(":delayed")).with_first(), reserved: Timed::seconds(of(":reserved")) };
    ListQueue::boxed(vec![Line::new(of(""), false, Stored::Element(came)).within(0.5)], beside)
}

pub(super) fn came(payload: &[u8]) -> Option<f64> {
    if payload.len() > LIMIT {
        return None;
    }
    let job: serde_json::Value = serde_json::from_slice(payload).ok()?;
    match job.get("pushedAt") {
        // Horizon's is text with a fraction.
        Some(pushed) => times::from_json(pushed, Some(Unit::Seconds)),
        // Whole seconds, cut down: the middle of the second is off by half a second at most.
        None => times::from_json(job.get("createdAt")?, Some(Unit::Seconds)).map(|second| second + 0.5),
    }
}

impl Beside for Laravel {
    fn reads(&self, now: f64) -> Vec<Read> {
        let mut reads = self.delayed.reads(now).to_vec();
        reads.extend(self.reserved.reads(now));
        reads
    }

    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError> {
        let delayed = self.delayed.seen(replies, now)?;
        let reserved = self.reserved.seen(replies, now)?;
        Ok(Observation {
            in_flight: Some(reserved.later),
            abandoned: Some(reserved.due),
            due: Some(delayed.due),
            delayed: Some(delayed.later),
            age: delayed.overdue,
            ..Observation::default()
        })
    }

    fn again(&self) -> bool {
        self.delayed.again() || self.reserved.again()
    }
}
