//! A library's sorted set whose scores are due times in a unit that is known.
//!
//! Cost of a look: ZCARD; ZCOUNT where it held jobs at the last look, and ZRANGE of the first, its member included, where
//! some were due. Where that has changed the look takes one more round ([`Timed::again`]).

use crate::curve::Age;
use crate::reads::{Read, ReadError, Replies};
use crate::times;
use bytes::Bytes;

/// One such set.
#[derive(Debug)]
pub(super) struct Timed {
    key: Bytes,
    /// How much the score grows in a second.
    per_second: f64,
    /// What is added to the score of now, so that all jobs due at this very moment are under it.
    slack: f64,
    /// Whether the first is read too.
    first: bool,
    /// Whether there were jobs at the last look, and such that were due.
    filled: bool,
    overdue: bool,
    /// Whether there were more than had been asked for.
    again: bool,
}

/// What a look says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TimedSeen {
    /// Jobs whose time has come.
    pub due: u64,
    /// Jobs whose time has not come.
    pub later: u64,
    /// For how long the first of those that are due has been so.
    pub overdue: Age,
}

impl TimedSeen {
    /// For how long the first of all that are due has been so.
    pub fn overdue(sets: &[Self]) -> Age {
        let due = sets.iter().filter(|set| set.due > 0).map(|set| set.overdue);
        due.reduce(Age::older).unwrap_or(Age::Unknown)
    }
}

impl Timed {
    /// A set with scores in seconds.
    pub fn seconds(key: Bytes) -> Self {
        Self::scaled(key, 1.0, 0.0)
    }

    /// A set with scores of `per_second` a second, with a number of up to `slack` added to tell jobs of one moment apart.
    pub fn scaled(key: Bytes, per_second: f64, slack: f64) -> Self {
        Self { key, per_second, slack, first: false, filled: false, overdue: false, again: false }
    }

    /// The same where a look is to take no second round: ZCOUNT is always asked for.
    #[must_use]
    pub fn in_one_round(self) -> Self {
        Self { filled: true, ..self }
    }

    /// The same, with how long the first has been due.
    #[must_use]
    pub fn with_first(self) -> Self {
        Self { first: true, ..self }
    }

    /// What a look wants to know.
    pub fn reads(&self, now: f64) -> Vec<Read> {
        let due = now * self.per_second + self.slack;
        let mut reads = vec![Read::SetSize(self.key.clone())];
        if self.filled {
            reads.push(Read::SetCountTo(self.key.clone(), due));
        }
        if self.first && self.overdue {
            reads.push(Read::SetFirst(self.key.clone()));
        }
        reads
    }

    /// Whether the last look saw that there was more to ask for.
    pub fn again(&self) -> bool {
        self.again
    }

    /// Takes the replies; `now` in seconds since 1970.
    ///
    /// # Errors
    /// Where the set can't be read.
    pub fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<TimedSeen, ReadError> {
        let size = replies.count()?;
        let due = if self.filled { replies.count()? } else { 0 };
        let asked_first = self.first && self.overdue;
        let first = if asked_first { replies.first_score()? } else { None };
        self.again = size > 0 && !self.filled || self.first && due > 0 && !asked_first;
        (self.filled, self.overdue) = (size > 0, due > 0);
        let overdue = match first.and_then(|score| times::age(score / self.per_second, now)) {
            Some(seconds) if due > 0 => Age::Known { seconds, error: 0.0 },
            _ => Age::Unknown,
        };
        // The two are read one after the other: jobs may have left in between.
        Ok(TimedSeen { due: due.min(size), later: size.saturating_sub(due), overdue })
    }
}
