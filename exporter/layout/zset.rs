//! `zset:KEY`: a sorted set whose scores are the times when its jobs are due, taken from it as they come due.
//!
//! Jobs that are due wait; the others are delayed. The age is how long the first has been due.
//!
//! | option | |
//! |---|---|
//! | `unit` | `s`, `ms`, `us`, `ns`; `auto` (the default) tells it by magnitude; `none`: scores are priorities, all wait |
//! | `in_flight`, `dead` | sorted sets beside it |
//! | `retrying` | a sorted set by due time; `due_unit` where its magnitude does not tell |
//! | `processed`, `failed` | counters that workers INCR |
//!
//! Cost of a look: ZCARD, ZCOUNT and ZRANGE of one; see [`super::companions`] for the rest.

use super::companions::{Companions, CompanionsSeen};
use super::due_set::{DueSet, DueSetSeen};
use super::{Layout, Name, Observation, Options};
use crate::curve::Age;
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies};
use crate::times::{self, Unit};
use bytes::Bytes;

enum Jobs {
    ByDueTime(DueSet),
    ByPriority(Bytes),
}

struct SortedSet {
    jobs: Jobs,
    companions: Companions,
    /// Kept from the first round of a look for the second.
    seen: Option<Observation>,
    beside: Option<CompanionsSeen>,
}

pub(super) fn build(name: Name, options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    let units = [
        ("auto", Some(None)),
        ("s", Some(Unit::named("s"))),
        ("ms", Some(Unit::named("ms"))),
        ("us", Some(Unit::named("us"))),
        ("ns", Some(Unit::named("ns"))),
        ("none", None),
    ];
    let jobs = match options.choice("unit", Some(None), &units) {
        Some(unit) => Jobs::ByDueTime(DueSet::new(key, unit)),
        None => Jobs::ByPriority(key),
    };
    let companions = Companions::with_in_flight(options, Read::SetSize);
    Box::new(SortedSet { jobs, companions, seen: None, beside: None })
}

impl Layout for SortedSet {
    fn key(&self) -> &Bytes {
        match &self.jobs {
            Jobs::ByDueTime(set) => set.key(),
            Jobs::ByPriority(key) => key,
        }
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        if self.seen.is_none() {
            match &mut self.jobs {
                Jobs::ByDueTime(set) => set.ask(ask, now),
                Jobs::ByPriority(key) => ask.plain.push(Read::SetSize(key.clone())),
            }
        }
        if self.beside.is_none() {
            self.companions.ask(ask, now);
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        let (seen, beside) = (self.seen.take(), self.beside.take());
        let seen = match (seen, &mut self.jobs) {
            (Some(seen), _) => Some(seen),
            (None, Jobs::ByDueTime(set)) => set.answer(replies)?.map(|set| by_due_time(set, look.unix)),
            (None, Jobs::ByPriority(_)) => Some(by_priority(replies.count()?)),
        };
        let beside = match beside {
            Some(beside) => Some(beside),
            None => self.companions.answer(replies)?,
        };
        match (seen, beside) {
            (Some(mut observation), Some(beside)) => {
                beside.add_to(&mut observation, look.unix);
                Ok(Some(observation))
            }
            (seen, beside) => {
                (self.seen, self.beside) = (seen, beside);
                Ok(None)
            }
        }
    }
}

fn by_due_time(set: DueSetSeen, now: f64) -> Observation {
    let overdue = set.first.and_then(|first| times::age(first, now));
    let age = match overdue {
        _ if set.due == 0 => Age::EMPTY,
        Some(seconds) => Age::Known { seconds, error: 0.0 },
        None => Age::Unknown,
    };
    Observation { length: Some(set.due), delayed: Some(set.later), age, ..Observation::default() }
}

fn by_priority(size: u64) -> Observation {
    let age = if size == 0 { Age::EMPTY } else { Age::Unknown };
    Observation { length: Some(size), age, ..Observation::default() }
}
