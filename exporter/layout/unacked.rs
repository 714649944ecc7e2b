//! What Celery's workers have taken and not acknowledged: the hash `unacked` of all queues together, by delivery tag, and
//! `unacked_index`, a sorted set of the tags by time of delivery. Key names from kombu's `transport/redis.py`.
//!
//! It holds running jobs where `acks_late` is on, jobs fetched ahead, and jobs with an ETA that wait in a worker's memory.
//! A message's routing key says which queue it came from, where the queue is bound by its own name, as Celery's are unless
//! told otherwise. A tag's message never changes: each is fetched once, [`BATCH`] a look at most and no longer than
//! [`LONGEST`] bytes, among the [`TAGS`] delivered longest ago. Until all of these were fetched the queues' numbers are
//! absent. What is left out is counted; while something is, the queues' numbers are the least that can be.
//!
//! Cost of a look: HLEN and ZRANGE of up to [`TAGS`] tags; HSTRLEN and HGET in two more rounds for each new tag.

use super::join;
use super::overview::{Around, Beyond, Globals, Overview};
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies, bytes_of};
use bytes::Bytes;
use std::collections::HashMap;

/// Tags that are followed.
const TAGS: i64 = 2_000;
/// Messages fetched at one look.
const BATCH: usize = 256;
/// The longest message that is fetched.
const LONGEST: u64 = 64 * 1024;

struct Unacked {
    hash: Bytes,
    index: Bytes,
    /// The queue of each tag that is there, as far as it is known.
    queues: HashMap<Bytes, Option<Bytes>>,
    /// How many there are of each queue.
    counts: HashMap<Bytes, u64>,
    stage: Stage,
    total: u64,
    /// Beyond the [`TAGS`] that are followed.
    beyond: u64,
    /// Beyond the [`BATCH`] of this look.
    unread: u64,
    /// Messages that do not say which queue they are of.
    untold: u64,
}

#[derive(Default)]
enum Stage {
    #[default]
    Tags,
    /// New tags, to be measured.
    Lengths(Vec<Bytes>),
    /// Those that are short enough, to be fetched.
    Messages(Vec<Bytes>),
}

pub(super) fn build(prefix: &Bytes) -> Box<dyn Overview> {
    Box::new(Unacked {
        hash: join(&[prefix, b"unacked"]),
        index: join(&[prefix, b"unacked_index"]),
        queues: HashMap::new(),
        counts: HashMap::new(),
        stage: Stage::Tags,
        total: 0,
        beyond: 0,
        unread: 0,
        untold: 0,
    })
}

impl Overview for Unacked {
    fn ask(&mut self, ask: &mut Ask, _now: f64) {
        match &self.stage {
            Stage::Tags => {
                ask.plain.push(Read::HashLength(self.hash.clone()));
                ask.plain.push(Read::SetFirsts(self.index.clone(), TAGS));
            }
            Stage::Lengths(tags) => {
                ask.plain.extend(tags.iter().map(|tag| Read::HashValueLength(self.hash.clone(), tag.clone())));
            }
            Stage::Messages(tags) => {
                ask.plain.extend(tags.iter().map(|tag| Read::HashGet(self.hash.clone(), tag.clone())));
            }
        }
    }

    fn answer(&mut self, replies: &mut Replies, _look: Look) -> Result<Option<Globals>, ReadError> {
        self.stage = match std::mem::take(&mut self.stage) {
            Stage::Tags => {
                self.total = replies.count()?;
                // Members and scores by turns.
                let tags: Vec<Bytes> = bytes_of(replies.array()?).into_iter().step_by(2).collect();
                let mut before = std::mem::take(&mut self.queues);
                let mut new = Vec::new();
                (self.beyond, self.unread) = (self.total.saturating_sub(tags.len() as u64), 0);
                for tag in tags {
                    match before.remove_entry(&tag) {
                        Some((tag, queue)) => drop(self.queues.insert(tag, queue)),
                        // Copied, for the reply shares its memory with the whole batch of replies.
                        None if new.len() < BATCH => new.push(Bytes::copy_from_slice(&tag)),
                        None => self.unread += 1,
                    }
                }
                Stage::Lengths(new)
            }
            Stage::Lengths(tags) => {
                let mut short = Vec::new();
                for tag in tags {
                    match replies.count()? {
                        // Acknowledged in between.
                        0 => {}
                        length if length <= LONGEST => short.push(tag),
                        _ => drop(self.queues.insert(tag, None)),
                    }
                }
                Stage::Messages(short)
            }
            Stage::Messages(tags) => {
                for tag in tags {
                    if let Some(message) = replies.bytes()? {
                        self.queues.insert(tag, routing_key(&message));
                    }
                }
                Stage::Tags
            }
        };
        match &self.stage {
            Stage::Lengths(tags) | Stage::Messages(tags) if !tags.is_empty() => return Ok(None),
            _ => self.stage = Stage::Tags,
        }
        self.counts.clear();
        for queue in self.queues.values().flatten() {
            *self.counts.entry(queue.clone()).or_default() += 1;
        }
        self.untold = self.queues.values().filter(|queue| queue.is_none()).count() as u64;
        let (in_flight, left_out) = (Some(self.total), Some(self.beyond + self.unread + self.untold));
        Ok(Some(Globals { in_flight, in_flight_left_out: left_out, ..Globals::default() }))
    }

    fn around(&self, queue: &[u8]) -> Around {
        if self.unread > 0 {
            return Around::UNREAD;
        }
        let in_flight = Some(self.counts.get(queue).copied().unwrap_or(0));
        Around { in_flight, beyond: Beyond::at_most(self.beyond + self.untold), ..Around::default() }
    }
}

/// The last of `[message, exchange, routing key]`.
pub(super) fn routing_key(message: &[u8]) -> Option<Bytes> {
    let (_, _, key): (serde::de::IgnoredAny, serde::de::IgnoredAny, String) = serde_json::from_slice(message).ok()?;
    Some(key.into())
}
