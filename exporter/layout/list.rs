//! `list:KEY`: a plain Redis list.
//!
//! | option | |
//! |---|---|
//! | `oldest` | the end at which the oldest job waits: `tail` (LPUSH and RPOP, the default) or `head` (RPUSH and LPOP) |
//! | `in_flight`, `dead` | lists beside it: jobs taken (LMOVE), jobs given up |
//! | `delayed`, `retrying` | sorted sets by due time; `due_unit` s, ms, us or ns where their magnitude does not tell |
//! | `processed`, `failed` | counters that workers INCR |
//! | `time` | JSON path of the enqueue time in a payload; `time_unit` where its magnitude does not tell |
//! | `notify` | `true`: count removals by keyspace notifications where a look can't |
//!
//! Cost of a look: see [`crate::fifo`], all in one MULTI/EXEC; one LRANGE of the oldest element with `time`; see
//! [`super::companions`] for the rest.

use super::companions::{Companions, CompanionsSeen};
use super::{Layout, ListEnds, Name, Observation, Options};
use crate::curve::Age;
use crate::fifo::{Fifo, Look, Seen};
use crate::flow::{Count, Counts};
use crate::payload::TimePath;
use crate::pops::Pops;
use crate::reads::{Ask, Read, ReadError, Replies, Reply};
use crate::times;
use bytes::Bytes;

struct List {
    key: Bytes,
    oldest_last: bool,
    fifo: Fifo,
    companions: Companions,
    time: Option<TimePath>,
    pops: Option<Pops>,
    /// Kept from the first round of a look for the second.
    seen: Option<(Seen, Option<f64>)>,
    beside: Option<CompanionsSeen>,
    /// A look came to nothing after it had counted, so that the next one must not pass for complete.
    lost: bool,
}

pub(super) fn build(name: Name, options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    let oldest_last = options.choice("oldest", true, &[("tail", true), ("head", false)]);
    let companions = Companions::with_in_flight(options, Read::ListLength);
    let unit = options.unit("time_unit");
    let time = options.text("time").and_then(|path| {
        let time = TimePath::new(&path, unit);
        if time.is_none() {
            options.fault(format!("option time is {path:?}; it must be a JSON path such as $.enqueued_at"));
        }
        time
    });
    let notify = options.choice("notify", false, &[("true", true), ("false", false)]);
    if notify && std::str::from_utf8(&key).is_err() {
        options.fault("option notify needs a key that is UTF-8, for it becomes the name of a channel".into());
    }
    Box::new(List {
        fifo: Fifo::new(key.clone(), oldest_last),
        pops: notify.then(Pops::default),
        key,
        oldest_last,
        companions,
        time,
        seen: None,
        beside: None,
        lost: false,
    })
}

impl Layout for List {
    fn key(&self) -> &Bytes {
        &self.key
    }

    fn ends(&self) -> Option<ListEnds> {
        Some(ListEnds { newest_first: self.oldest_last })
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        if self.seen.is_none() {
            self.fifo.ask(ask);
            if self.time.is_some() {
                let index = if self.oldest_last { -1 } else { 0 };
                ask.atomic.push(Read::ListRange(self.key.clone(), index, index));
            }
        }
        if self.beside.is_none() {
            self.companions.ask(ask, now);
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        let (seen, beside) = (self.seen.take(), self.beside.take());
        let seen = match seen {
            Some(seen) => Some(seen),
            None => {
                let seen = self.fifo.answer(replies, look)?;
                let stored = self.stored_time(replies).inspect_err(|_| self.lost |= seen.is_some())?;
                seen.map(|seen| (seen, stored))
            }
        };
        let beside = match beside {
            Some(beside) => Some(beside),
            None => self.companions.answer(replies).inspect_err(|_| self.lost |= seen.is_some())?,
        };
        match (seen, beside) {
            (Some((seen, stored)), Some(beside)) => Ok(Some(self.observe(seen, stored, beside, look))),
            (seen, beside) => {
                (self.seen, self.beside) = (seen, beside);
                Ok(None)
            }
        }
    }

    fn notify(&self) -> Option<&Bytes> {
        self.pops.is_some().then_some(&self.key)
    }
}

impl List {
    /// The enqueue time in the oldest payload, in seconds since 1970, where one is configured and found.
    fn stored_time(&self, replies: &mut Replies) -> Result<Option<f64>, ReadError> {
        let Some(path) = &self.time else { return Ok(None) };
        Ok(match replies.array()?.first() {
            Some(Reply::Bytes(payload)) => path.find(payload),
            _ => None,
        })
    }

    fn observe(&mut self, seen: Seen, stored: Option<f64>, beside: CompanionsSeen, look: Look) -> Observation {
        let stored = stored.filter(|_| seen.length > 0).and_then(|time| times::age(time, look.unix));
        let step = match &mut self.pops {
            Some(pops) => pops.correct(seen.step, seen.length, look.pops),
            None => seen.step,
        };
        let counts = match step {
            Some(step) => Counts {
                arrivals: Count::Step(step.arrivals.try_into().unwrap_or(i64::MAX)),
                processed: Count::Step(step.departures),
                failed: Count::Unknown,
                gap: !step.exact,
            },
            None => Counts { arrivals: Count::Step(0), processed: Count::Step(0), ..Counts::default() },
        };
        let counts = Counts { gap: counts.gap || std::mem::take(&mut self.lost), ..counts };
        let mut observation = Observation {
            length: Some(seen.length),
            age: stored.map_or(seen.age, |seconds| Age::Known { seconds, error: 0.0 }),
            counts,
            ..Observation::default()
        };
        beside.add_to(&mut observation, look.unix);
        observation
    }
}
