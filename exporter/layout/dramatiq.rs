//! `dramatiq:QUEUE`: [Dramatiq](https://github.com/Bogdanp/dramatiq) 1 and 2 with its Redis broker. Key names from its
//! `brokers/redis.py` and `brokers/redis/dispatch.lua`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | the broker's `namespace`, `dramatiq` unless set |
//!
//! Waiting jobs are ids in the list `dramatiq:QUEUE` (RPUSH, taken from the left); their messages are in a hash, also of
//! those that a worker has taken, fetched ahead ones among them: all these are in flight. Delayed and retrying jobs are
//! in a queue of their own, whether or not a worker holds them. A message keeps the time of its first submission, so the
//! age of a delayed job counts from when it could run only if it holds its `eta`. Jobs done are seen from outside, as
//! they are taken from the list.
//!
//! Cost of a look: 7 commands; HSTRLEN and HGET of the next message in two more rounds when it is another one.

use super::list_queue::{Beside, Line, ListQueue, Stored};
use super::{Layout, Name, Observation, Options, join};
use crate::payload::LIMIT;
use crate::reads::{Read, ReadError, Replies, Reply};
use crate::times::Unit;
use bytes::Bytes;

struct Dramatiq {
    messages: Bytes,
    delayed: Bytes,
    dead: Bytes,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let Name { prefix, queue } = name;
    let of = |name: &str| join(&[&prefix, b":", &queue, name.as_bytes()]);
    let (messages, messages_too) = (of(".msgs"), of(".msgs"));
    let stored = Stored::Elsewhere {
        restamped: false,
        size: Some(Box::new(move |id| Read::HashValueLength(messages.clone(), Bytes::copy_from_slice(id)))),
        read: Box::new(move |id| Read::HashGet(messages_too.clone(), Bytes::copy_from_slice(id))),
        time: came,
    };
    let beside = Dramatiq { messages: of(".msgs"), delayed: of(".DQ.msgs"), dead: of(".XQ") };
    ListQueue::boxed(vec![Line::new(of(""), false, stored)], beside)
}

/// When the job could first run: its `eta` where it was delayed, else when it was submitted; both in milliseconds.
pub(super) fn came(reply: &Reply) -> Option<f64> {
    let Reply::Bytes(message) = reply else { return None };
    if message.len() > LIMIT {
        return None;
    }
    let message: serde_json::Value = serde_json::from_slice(message).ok()?;
    let submitted = message.get("message_timestamp")?.as_f64()?;
    let eta = message.get("options").and_then(|options| options.get("eta")?.as_f64()).unwrap_or(submitted);
    crate::times::seconds(eta.max(submitted), Some(Unit::Millis))
}

impl Beside for Dramatiq {
    fn reads(&self, _now: f64) -> Vec<Read> {
        let (messages, delayed) = (self.messages.clone(), self.delayed.clone());
        vec![Read::HashLength(messages), Read::HashLength(delayed), Read::SetSize(self.dead.clone())]
    }

    fn seen(&mut self, replies: &mut Replies, _now: f64) -> Result<Observation, ReadError> {
        let messages = replies.count()?;
        let delayed = replies.count()?;
        let dead = replies.count()?;
        Ok(Observation {
            in_flight: Some(messages),
            delayed: Some(delayed),
            dead: Some(dead),
            ..Observation::default()
        })
    }

    /// The hash holds the messages of waiting jobs too.
    fn finish(&self, observation: &mut Observation) {
        let waiting = observation.length.unwrap_or(0);
        observation.in_flight = observation.in_flight.map(|messages| messages.saturating_sub(waiting));
    }
}
