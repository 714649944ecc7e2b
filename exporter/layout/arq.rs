//! `arq:QUEUE`: [arq](https://github.com/python-arq/arq). Key names from its `constants.py` and `worker.py`.
//!
//! The key is the queue's name, bare (`arq:queue` where none is given): a sorted set of job ids by due time in
//! milliseconds, which is the time of submission where a job is not deferred. Jobs in flight stay in it, marked by keys of
//! their own: those are looked for among the first [`HEADS`] due jobs. Where all of these are in flight there may be more,
//! and what can't be told is absent. Deferred jobs and retries are delayed. arq keeps no counters that last and no set of
//! failed jobs.
//!
//! Cost of a look: 4 commands, and EXISTS for each of the first [`HEADS`] due jobs in a second round.

use super::{Layout, Name, Observation, Options, join};
use crate::curve::Age;
use crate::fifo::Look;
use crate::reads::{Ask, Read, ReadError, Replies, bytes_of};
use crate::times;
use bytes::Bytes;

/// Due jobs that are looked at one by one: more than the workers of one queue run at once, mostly.
const HEADS: i64 = 128;

struct Arq {
    key: Bytes,
    seen: Option<Seen>,
}

/// Of the first round.
struct Seen {
    due: u64,
    delayed: u64,
    /// Ids and scores, by score.
    heads: Vec<(Bytes, f64)>,
}

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    Box::new(Arq { key, seen: None })
}

impl Layout for Arq {
    fn key(&self) -> &Bytes {
        &self.key
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        match &self.seen {
            None => {
                let millis = now * 1e3;
                ask.plain.push(Read::SetCountTo(self.key.clone(), millis));
                ask.plain.push(Read::SetCountAfter(self.key.clone(), millis));
                ask.plain.push(Read::SetFirsts(self.key.clone(), HEADS));
            }
            Some(seen) => {
                let marks = seen.heads.iter().map(|(id, _)| Read::Exists(join(&[b"arq:in-progress:", id])));
                ask.plain.extend(marks);
            }
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        let Some(seen) = self.seen.take() else {
            let (due, delayed) = (replies.count()?, replies.count()?);
            let mut heads = heads(bytes_of(replies.array()?), look.unix * 1e3);
            heads.truncate(usize::try_from(due).unwrap_or(usize::MAX));
            self.seen = Some(Seen { due, delayed, heads });
            return Ok(None);
        };
        let mut in_flight = 0;
        let mut oldest = None;
        for (_, score) in &seen.heads {
            match replies.yes()? {
                true => in_flight += 1,
                false => oldest = oldest.or(Some(*score)),
            }
        }
        let all_seen = seen.due <= seen.heads.len() as u64;
        let sure = all_seen || oldest.is_some();
        let age = match oldest.and_then(|millis| times::age(millis / 1e3, look.unix)) {
            Some(seconds) => Age::Known { seconds, error: 0.0 },
            None if all_seen => Age::EMPTY,
            None => Age::Unknown,
        };
        Ok(Some(Observation {
            length: sure.then(|| seen.due.saturating_sub(in_flight)),
            in_flight: sure.then_some(in_flight),
            delayed: Some(seen.delayed),
            age,
            ..Observation::default()
        }))
    }
}

/// Members and scores that are due.
fn heads(items: Vec<Bytes>, now: f64) -> Vec<(Bytes, f64)> {
    let mut items = items.into_iter();
    let pairs = std::iter::from_fn(|| {
        let (id, score) = (items.next()?, items.next()?);
        Some((id, std::str::from_utf8(&score).ok()?.parse().ok()?))
    });
    pairs.filter(|(_, score)| *score <= now).collect()
}
