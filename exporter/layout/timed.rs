//! A library's sorted set whose scores are due times in a unit that is known.
//!
//! Cost of a look: ZCARD and ZCOUNT.

use crate::reads::{Read, ReadError, Replies};
use bytes::Bytes;

/// One such set.
#[derive(Debug)]
pub(super) struct Timed {
    key: Bytes,
    /// How much the score grows in a second.
    per_second: f64,
    /// What is added to the score of now, so that all jobs due at this very moment are under it.
    slack: f64,
}

impl Timed {
    /// A set with scores in seconds.
    pub fn seconds(key: Bytes) -> Self {
        Self { key, per_second: 1.0, slack: 0.0 }
    }

    /// A set with scores of `per_second` a second, with a number of up to `slack` added to tell jobs of one moment apart.
    pub fn scaled(key: Bytes, per_second: f64, slack: f64) -> Self {
        Self { key, per_second, slack }
    }

    /// The two reads.
    pub fn reads(&self, now: f64) -> [Read; 2] {
        let due = now * self.per_second + self.slack;
        [Read::SetSize(self.key.clone()), Read::SetCountTo(self.key.clone(), due)]
    }

    /// Jobs that are due, and jobs that are not.
    ///
    /// # Errors
    /// Where the set can't be read.
    pub fn seen(replies: &mut Replies) -> Result<(u64, u64), ReadError> {
        let (size, due) = (replies.count()?, replies.count()?);
        // The two are read one after the other: jobs may have left in between.
        Ok((due.min(size), size.saturating_sub(due)))
    }
}
