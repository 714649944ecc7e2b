//! A sorted set whose scores are the times when its jobs are due.
//!
//! Cost of a look: ZCARD, ZCOUNT and ZRANGE of one, each O(log n) or better. The first look takes two rounds where the
//! unit of the scores is to be told by their magnitude.

use crate::reads::{Ask, Read, ReadError, Replies};
use crate::times::{self, Unit};
use bytes::Bytes;

/// One such set.
#[derive(Debug)]
pub struct DueSet {
    key: Bytes,
    configured: Option<Unit>,
    detected: Option<Unit>,
    asked: Option<Unit>,
}

/// What a look says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DueSetSeen {
    /// Jobs whose time has come.
    pub due: u64,
    /// Jobs whose time has not come.
    pub later: u64,
    /// When the first of all was due, in seconds since 1970.
    pub first: Option<f64>,
}

impl DueSet {
    /// A set whose scores have this unit, or one that their magnitude tells.
    #[must_use]
    pub fn new(key: Bytes, unit: Option<Unit>) -> Self {
        Self { key, configured: unit, detected: None, asked: None }
    }

    /// Its key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.key
    }

    /// Adds what this look wants to know.
    pub fn ask(&mut self, ask: &mut Ask, now: f64) {
        ask.plain.push(Read::SetSize(self.key.clone()));
        ask.plain.push(Read::SetFirst(self.key.clone()));
        self.asked = self.configured.or(self.detected);
        if let Some(unit) = self.asked {
            ask.plain.push(Read::SetCountTo(self.key.clone(), now * unit.per_second()));
        }
    }

    /// Takes the replies; `None` asks for another round.
    ///
    /// # Errors
    /// Where the key is no sorted set, or its scores are no times.
    pub fn answer(&mut self, replies: &mut Replies) -> Result<Option<DueSetSeen>, ReadError> {
        let size = replies.count()?;
        let first = replies.first_score()?;
        let due = self.asked.map(|_| replies.count()).transpose()?;
        let Some(score) = first.filter(|_| size > 0) else { return Ok(Some(DueSetSeen::default())) };
        let unit = match self.configured.or_else(|| Unit::of(score)) {
            Some(unit) => unit,
            // A job may be stored as due since ever (score 0); the unit then is the one that was seen before.
            None => self.detected.ok_or_else(|| self.no_time(score))?,
        };
        self.detected = Some(unit);
        let Some(due) = due.filter(|_| self.asked == Some(unit)) else { return Ok(None) };
        let first = times::seconds(score, Some(unit));
        Ok(Some(DueSetSeen { due: due.min(size), later: size.saturating_sub(due), first }))
    }

    fn no_time(&self, score: f64) -> ReadError {
        ReadError::Mismatch(format!(
            "the scores of {} are no times (the lowest is {score}); if they are, set their unit (s, ms, us, ns); if they \
             are priorities, set unit=none on a zset queue",
            String::from_utf8_lossy(&self.key)
        ))
    }
}
