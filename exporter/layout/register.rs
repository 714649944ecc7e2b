//! Where a library's queues are listed, and how they are found there.
//!
//! A library that keeps a set of its queues is read by SSCAN, [`MEMBERS`] at a time, every [`SWEEP_EVERY`] seconds. For
//! the others the keys of the database are gone through by SCAN, [`KEYS`] places a poll (about 0.3 ms of Redis), so a
//! database of 10 million keys takes some 80 minutes and costs each poll no more than an empty one. Queues found in a set
//! are known until the set lists them no more; those found by their keys, which Redis drops with the last job, until
//! `DISCOVERY_TTL` has passed without them.
//!
//! Cost of a look: one SSCAN or SCAN while a sweep is under way, else nothing.

use crate::glob;
use crate::reads::{Ask, Read, ReadError, Replies, Reply, bytes_of};
use bytes::Bytes;
use std::collections::BTreeMap;

/// Seconds from the start of one sweep to that of the next.
const SWEEP_EVERY: f64 = 5.0;
/// Places of a set that one SSCAN goes through.
const MEMBERS: u64 = 5_000;
/// Places of the database that one SCAN goes through.
const KEYS: u64 = 2_000;

/// Where a library's queues are listed. Keys and patterns are taken after the library's prefix.
#[derive(Clone, Copy, Debug)]
pub enum Register {
    /// Nowhere: its keys are not to be told from others.
    None,
    /// In a set.
    Members {
        /// Its key.
        key: &'static str,
        /// What stands before a queue's name in it.
        before: &'static str,
    },
    /// By keys of their own.
    Keys {
        /// What stands before the name.
        before: &'static str,
        /// What stands after it.
        after: &'static str,
        /// The type of such a key; empty for any.
        kind: &'static str,
        /// Ends that make another key of the same queue.
        trims: &'static [&'static str],
        /// Patterns of names that are no queues of jobs.
        except: &'static [&'static str],
    },
}

impl Register {
    pub(super) const fn members(key: &'static str, before: &'static str) -> Self {
        Self::Members { key, before }
    }

    pub(super) const fn keys(before: &'static str, after: &'static str, kind: &'static str) -> Self {
        Self::Keys { before, after, kind, trims: &[], except: &[] }
    }

    pub(super) const fn trimmed(self, trims: &'static [&'static str]) -> Self {
        match self {
            Self::Keys { before, after, kind, except, .. } => Self::Keys { before, after, kind, trims, except },
            register => register,
        }
    }

    pub(super) const fn without(self, except: &'static [&'static str]) -> Self {
        match self {
            Self::Keys { before, after, kind, trims, .. } => Self::Keys { before, after, kind, trims, except },
            register => register,
        }
    }
}

/// Finds the queues of one library under one prefix, from look to look.
#[derive(Debug)]
pub struct Finder {
    register: Register,
    prefix: Bytes,
    /// Seconds for which a queue is known after its key was last seen.
    ttl: f64,
    cursor: Option<Bytes>,
    /// When the last sweep began, and how many have ended.
    began: f64,
    sweeps: u64,
    /// When each name was last seen.
    names: BTreeMap<Bytes, f64>,
    now: f64,
}

impl Finder {
    /// A finder that has found nothing yet; `ttl` in seconds.
    #[must_use]
    pub fn new(register: Register, prefix: Bytes, ttl: f64) -> Self {
        let names = BTreeMap::new();
        Self { register, prefix, ttl, cursor: None, began: f64::NEG_INFINITY, sweeps: 0, names, now: 0.0 }
    }

    /// Whether it goes through the keys of a database, which a Cluster does not have as one.
    #[must_use]
    pub fn scans(&self) -> bool {
        matches!(self.register, Register::Keys { .. })
    }

    /// How many times it has seen all there is.
    #[must_use]
    pub fn sweeps(&self) -> u64 {
        self.sweeps
    }

    /// The names of the queues that are known.
    pub fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.names.keys()
    }

    /// Adds what this look wants to know at `now`, in seconds since 1970.
    pub fn ask(&mut self, ask: &mut Ask, now: f64) {
        self.now = now;
        if self.cursor.is_none() && now - self.began >= SWEEP_EVERY {
            (self.cursor, self.began) = (Some(Bytes::from_static(b"0")), now);
        }
        let Some(cursor) = self.cursor.clone() else { return };
        match self.register {
            Register::None => {}
            Register::Members { key, .. } => {
                let key = Bytes::from([&self.prefix, key.as_bytes()].concat());
                ask.plain.push(Read::Members { key, cursor, count: MEMBERS });
            }
            Register::Keys { before, after, kind, .. } => {
                let prefix = glob::escape(&self.prefix);
                let pattern = Bytes::from([&prefix, before.as_bytes(), b"*", after.as_bytes()].concat());
                ask.plain.push(Read::Scan { cursor, pattern, count: KEYS, kind });
            }
        }
    }

    /// Takes the replies to the last [`Finder::ask`].
    ///
    /// # Errors
    /// Where the register can't be read. The sweep starts again then.
    pub fn answer(&mut self, replies: &mut Replies) -> Result<(), ReadError> {
        if self.cursor.take().is_none() {
            return Ok(());
        }
        let mut parts = replies.array()?.into_iter();
        let (Some(Reply::Bytes(cursor)), Some(Reply::Array(found))) = (parts.next(), parts.next()) else {
            return Err(ReadError::Shape("no cursor and members"));
        };
        for found in bytes_of(found) {
            if let Some(name) = self.name(&found) {
                self.names.insert(name, self.now);
            }
        }
        if cursor.as_ref() != b"0" {
            self.cursor = Some(Bytes::copy_from_slice(&cursor));
            return Ok(());
        }
        self.sweeps += 1;
        let oldest = match self.register {
            Register::Keys { .. } => self.began.min(self.now - self.ttl),
            _ => self.began,
        };
        self.names.retain(|_, seen| *seen >= oldest);
        Ok(())
    }

    /// The name of the queue to which a member or key belongs.
    fn name(&self, found: &[u8]) -> Option<Bytes> {
        let name = match self.register {
            Register::None => return None,
            Register::Members { before, .. } => found.strip_prefix(before.as_bytes())?,
            Register::Keys { before, after, trims, except, .. } => {
                let found = found.strip_prefix(self.prefix.as_ref())?.strip_prefix(before.as_bytes())?;
                let name = found.strip_suffix(after.as_bytes())?;
                let name = trims.iter().find_map(|end| name.strip_suffix(end.as_bytes())).unwrap_or(name);
                if except.iter().any(|pattern| glob::matches(pattern.as_bytes(), name)) {
                    return None;
                }
                name
            }
        };
        (!name.is_empty()).then(|| Bytes::copy_from_slice(name))
    }
}
