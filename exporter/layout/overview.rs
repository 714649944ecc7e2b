//! What a library keeps in Redis for all of its queues together: sets and counters that are nobody's in particular, and
//! what its workers are at.
//!
//! There is one overview for each namespace of such a library, read beside its queues in the same round trip. What it
//! says of one queue is added to that queue's observation ([`Around`]); what belongs to none is published on its own
//! ([`Globals`]), never spread over queues.

use super::Observation;
use crate::fifo::Look;
use crate::reads::{Ask, ReadError, Replies};

/// The part of a library that is no queue's own.
pub trait Overview: Send {
    /// Adds what this look wants to know at `now`, in seconds since 1970.
    fn ask(&mut self, ask: &mut Ask, now: f64);

    /// Takes the replies to the last [`Overview::ask`]; `None` asks for one more round of the same look.
    ///
    /// # Errors
    /// Where something can't be read. The next look starts afresh.
    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Globals>, ReadError>;

    /// What the last look says of one queue.
    fn around(&self, queue: &[u8]) -> Around;
}

/// What an overview says of one queue. `None` is what it can't say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Around {
    /// Jobs taken and not finished.
    pub in_flight: Option<u64>,
    /// How many more they may be.
    pub beyond: Beyond,
    /// Jobs in flight by the keys, whose worker is dead.
    pub abandoned: Option<u64>,
    /// Live worker processes.
    pub consumers: Option<u64>,
    /// Jobs that they can run at once.
    pub slots: Option<u64>,
}

/// Jobs in flight that may be there beside those that were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Beyond {
    /// All were seen, or the layout sees none at all.
    #[default]
    Nothing,
    /// So many at most.
    AtMost(u64),
    /// Nobody knows.
    Unknown,
}

impl Beyond {
    /// What so many left out may be.
    #[must_use]
    pub fn at_most(left_out: u64) -> Self {
        if left_out == 0 { Self::Nothing } else { Self::AtMost(left_out) }
    }
}

impl Around {
    /// Of a library of which nothing could be read.
    pub const UNREAD: Self =
        Self { in_flight: None, beyond: Beyond::Unknown, abandoned: None, consumers: None, slots: None };

    /// Adds it to an observation that does not know better.
    pub fn add_to(self, observation: &mut Observation) {
        if observation.in_flight.is_none() {
            (observation.in_flight, observation.beyond) = (self.in_flight, self.beyond);
        }
        observation.abandoned = observation.abandoned.or(self.abandoned);
        observation.consumers = observation.consumers.or(self.consumers);
        observation.slots = observation.slots.or(self.slots);
    }
}

/// Numbers of all queues of a library together. `None` is what it does not keep.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Globals {
    /// Jobs taken and not finished.
    pub in_flight: Option<u64>,
    /// Jobs in flight that could not be told by queue: what is said of the queues leaves them out.
    pub in_flight_left_out: Option<u64>,
    /// Workers that were not come to: their jobs are in none of these numbers.
    pub workers_left_out: Option<u64>,
    /// Delayed or retrying jobs whose time has come.
    pub due: Option<u64>,
    /// Jobs whose time has not come.
    pub delayed: Option<u64>,
    /// Jobs that wait for a retry.
    pub retrying: Option<u64>,
    /// Jobs given up.
    pub dead: Option<u64>,
    /// Jobs done, the library's own counter.
    pub processed: Option<u64>,
    /// Jobs failed, the library's own counter.
    pub failed: Option<u64>,
}
