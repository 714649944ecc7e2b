//! The keys that people keep beside a plain queue: jobs in flight, delayed, retrying, dead, and counters of jobs done.
//!
//! Jobs in flight and dead ones are in a structure of the queue's own kind (list beside list, sorted set beside sorted
//! set), delayed and retrying ones in sorted sets by due time, counters in strings that workers INCR.
//!
//! Cost of a look: one O(1) command a key, three O(log n) ones for each sorted set by due time.

use super::due_set::{DueSet, DueSetSeen};
use super::{Observation, Options};
use crate::curve::Age;
use crate::flow::Count;
use crate::reads::{Ask, Read, ReadError, Replies};
use crate::times;
use bytes::Bytes;

/// The keys that are configured: most queues have none, and then this takes no memory to speak of.
#[derive(Debug)]
pub struct Companions(Option<Box<Keys>>);

#[derive(Debug)]
struct Keys {
    size: fn(Bytes) -> Read,
    in_flight: Option<Bytes>,
    dead: Option<Bytes>,
    processed: Option<Bytes>,
    failed: Option<Bytes>,
    delayed: Option<DueSet>,
    retrying: Option<DueSet>,
}

/// What a look says of them.
#[derive(Debug, Default)]
pub struct CompanionsSeen(Option<Box<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    in_flight: Option<u64>,
    dead: Option<u64>,
    processed: Option<u64>,
    failed: Option<u64>,
    delayed: Option<DueSetSeen>,
    retrying: Option<DueSetSeen>,
}

impl Companions {
    /// Takes the options; `size` reads the size of a structure of the queue's own kind.
    pub fn new(options: &mut Options, size: fn(Bytes) -> Read) -> Self {
        Self::with(None, options, size)
    }

    /// Takes the option `in_flight` too, for a layout that does not know the jobs in flight by itself.
    pub fn with_in_flight(options: &mut Options, size: fn(Bytes) -> Read) -> Self {
        Self::with(options.bytes("in_flight"), options, size)
    }

    fn with(in_flight: Option<Bytes>, options: &mut Options, size: fn(Bytes) -> Read) -> Self {
        let unit = options.unit("due_unit");
        let keys = Keys {
            size,
            in_flight,
            dead: options.bytes("dead"),
            processed: options.bytes("processed"),
            failed: options.bytes("failed"),
            delayed: options.bytes("delayed").map(|key| DueSet::new(key, unit)),
            retrying: options.bytes("retrying").map(|key| DueSet::new(key, unit)),
        };
        let plain = [&keys.in_flight, &keys.dead, &keys.processed, &keys.failed];
        let some = plain.into_iter().any(Option::is_some) || keys.delayed.is_some() || keys.retrying.is_some();
        Self(some.then(|| Box::new(keys)))
    }

    /// Adds what this look wants to know.
    pub fn ask(&mut self, ask: &mut Ask, now: f64) {
        if let Some(keys) = &mut self.0 {
            keys.ask(ask, now);
        }
    }

    /// Takes the replies; `None` asks for another round.
    ///
    /// # Errors
    /// Where one of the keys can't be read.
    pub fn answer(&mut self, replies: &mut Replies) -> Result<Option<CompanionsSeen>, ReadError> {
        let Some(keys) = &mut self.0 else { return Ok(Some(CompanionsSeen::default())) };
        Ok(keys.answer(replies)?.map(|seen| CompanionsSeen(Some(Box::new(seen)))))
    }
}

impl Keys {
    fn ask(&mut self, ask: &mut Ask, now: f64) {
        for key in [&self.in_flight, &self.dead].into_iter().flatten() {
            ask.plain.push((self.size)(key.clone()));
        }
        for key in [&self.processed, &self.failed].into_iter().flatten() {
            ask.plain.push(Read::Get(key.clone()));
        }
        for set in [&mut self.delayed, &mut self.retrying].into_iter().flatten() {
            set.ask(ask, now);
        }
    }

    fn answer(&mut self, replies: &mut Replies) -> Result<Option<Seen>, ReadError> {
        let mut seen = Seen::default();
        if self.in_flight.is_some() {
            seen.in_flight = Some(replies.count()?);
        }
        if self.dead.is_some() {
            seen.dead = Some(replies.count()?);
        }
        if self.processed.is_some() {
            seen.processed = Some(replies.counter()?.unwrap_or(0));
        }
        if self.failed.is_some() {
            seen.failed = Some(replies.counter()?.unwrap_or(0));
        }
        let mut complete = true;
        if let Some(set) = &mut self.delayed {
            seen.delayed = set.answer(replies)?;
            complete &= seen.delayed.is_some();
        }
        if let Some(set) = &mut self.retrying {
            seen.retrying = set.answer(replies)?;
            complete &= seen.retrying.is_some();
        }
        Ok(complete.then_some(seen))
    }
}

impl CompanionsSeen {
    /// Adds what was seen to an observation that has its length, at `now` in seconds since 1970. Jobs that are due wait
    /// too: the age is that of the oldest of all.
    pub fn add_to(self, observation: &mut Observation, now: f64) {
        if let Some(seen) = self.0 {
            seen.add_to(observation, now);
        }
    }
}

impl Seen {
    fn add_to(&self, observation: &mut Observation, now: f64) {
        observation.in_flight = observation.in_flight.or(self.in_flight);
        observation.dead = self.dead;
        if let Some(set) = self.delayed {
            observation.delayed = Some(set.later + observation.delayed.unwrap_or(0));
        }
        observation.retrying = self.retrying.map(|set| set.later);
        observation.due = match (self.delayed, self.retrying) {
            (None, None) => None,
            (delayed, retrying) => Some(delayed.map_or(0, |set| set.due) + retrying.map_or(0, |set| set.due)),
        };
        let overdue = [self.delayed, self.retrying].into_iter().flatten().filter(|set| set.due > 0).map(|set| {
            let seconds = set.first.and_then(|first| times::age(first, now));
            seconds.map_or(Age::Unknown, |seconds| Age::Known { seconds, error: 0.0 })
        });
        if let Some(overdue) = overdue.reduce(Age::older) {
            let empty = observation.length == Some(0);
            observation.age = if empty { overdue } else { observation.age.older(overdue) };
        }
        if let Some(processed) = self.processed {
            observation.counts.processed = Some(processed).into();
            // What came is what is done, in flight or still there.
            let still = observation.length.map(|length| length + self.in_flight.unwrap_or(0));
            observation.counts.arrivals = match still {
                None => Count::Unknown,
                Some(still) if self.in_flight.is_some() => Count::Total(still + processed),
                // Those that are taken are nowhere until they are done.
                Some(still) => Count::Sum(still + processed),
            };
            observation.counts.gap = false;
        }
        if self.failed.is_some() {
            observation.counts.failed = self.failed.into();
        }
    }
}
