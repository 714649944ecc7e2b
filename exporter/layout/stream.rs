//! `stream:KEY?group=NAME`: a Redis stream read by a consumer group.
//!
//! | option | |
//! |---|---|
//! | `group` | the consumer group; may be left out where there is just one |
//! | `dead` | a stream beside it: jobs given up |
//! | `delayed`, `retrying` | sorted sets by due time; `due_unit` where their magnitude does not tell |
//! | `failed` | a counter that workers INCR |
//!
//! Length is the group's lag: entries not delivered yet. Redis gives none (nil) once an undelivered entry was deleted, or
//! the group was moved, and gives too much once undelivered entries were lost, until the group has read to the end. So
//! the entry after the last delivered one is looked at whenever it can have changed: none there means nothing waits; with
//! no lag, or on Redis 6, up to [`COUNT_MAX`] entries are counted, and beyond that the length is absent. A trim takes the
//! oldest, so where fewer entries exist than the lag says, all that exist wait. By how much the lag is too high is
//! remembered ([`Stream::excess`]) for as long as that lasts, and counted again where [`VERIFIED`] or fewer wait. A lag
//! of 0 does not end it: Redis may come to that by the place of the last entry, and go on from a count of delivered ones
//! that lacks those lost. So it is then made up from the entries ever added (XINFO STREAM). What a single look can't see:
//! entries lost while they waited, and others delivered after them, all between two looks; the length is then too high
//! by those lost.
//!
//! Processed is entries-read less pending: acknowledged, failed ones included; arrivals are entries-read plus lag. Both
//! are Redis's own counts (XINFO GROUPS), absent while it gives none. Ids hold the time in milliseconds unless the
//! producer sets its own; ids before 2001 or a day ahead are taken for such, and give no age.
//!
//! In flight is the group's pending count, with entries that were deleted while pending: Redis counts them too.
//!
//! Cost of a look: XINFO GROUPS and XLEN; while consumers move on, an XRANGE of one entry, payload included, in a second
//! round, and an XPENDING of one entry. Where the group has read to the end and the lag was too high before, XINFO GROUPS
//! and XINFO STREAM in one transaction, with the payloads of two entries; so too when it is first seen at the end.

use super::companions::{Companions, CompanionsSeen};
use super::{Layout, Name, Observation, Options};
use crate::curve::Age;
use crate::fifo::Look;
use crate::flow::{Count, Counts};
use crate::reads::{Ask, Read, ReadError, Replies, Reply, digits, kept, whole};
use crate::times;
use bytes::Bytes;

/// The most entries that are counted where Redis gives no lag; their payloads come along.
pub const COUNT_MAX: u64 = 1_000;
/// While the lag is known to be too high, so many entries or fewer are counted at each look, for the group may have been
/// moved or made anew since that was found.
const VERIFIED: u64 = 100;

struct Stream {
    key: Bytes,
    group: Option<Bytes>,
    companions: Companions,
    /// What the first undelivered entry was at the last look.
    known: Option<Known>,
    /// The group that is read: the configured one, or the only one.
    reading: Option<Bytes>,
    pending: Pending,
    /// By how much Redis's lag is too high; `None` where that is to be counted, for Redis gave none.
    excess: Option<u64>,
    /// Whether the excess was ever made up from Redis's own counts; before that, 0 is what is hoped for.
    settled: bool,
    stage: Stage,
    beside: Option<CompanionsSeen>,
}

/// Where a look stands.
enum Stage {
    First,
    /// The group as the first round found it; `first_pending` where that is known already.
    Second {
        group: Group,
        size: u64,
        first_pending: Option<Option<Bytes>>,
    },
}

/// The first pending entry, and the state of the group at which it was read: while neither changes, nothing was
/// delivered or acknowledged, and it is still the first.
#[derive(Debug, Default)]
struct Pending {
    count: u64,
    delivered: Bytes,
    first: Option<Bytes>,
    /// Whether the state changed at the last look: it will again, then, and the entry is read in the first round.
    moves: bool,
}

impl Pending {
    fn is_as(&self, group: &Group) -> bool {
        self.count == group.pending && self.delivered == group.delivered
    }
}

/// One group, of XINFO GROUPS.
#[derive(Clone, Debug, Default, PartialEq)]
struct Group {
    name: Bytes,
    pending: u64,
    delivered: Bytes,
    read: Option<u64>,
    /// Entries that wait, as far as that is known.
    lag: Option<u64>,
    /// The same as Redis has it.
    redis_lag: Option<u64>,
    /// Entries that were ever added.
    added: Option<u64>,
}

impl Group {
    fn has_read_nothing(&self) -> bool {
        self.delivered == "0-0"
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    delivered: Bytes,
    lag: u64,
    size: u64,
    /// Id of the first undelivered entry; `None` where there is none.
    first: Option<Bytes>,
}

pub(super) fn build(name: Name, options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue;
    Box::new(Stream {
        key,
        group: options.bytes("group"),
        companions: Companions::new(options, Read::StreamLength),
        known: None,
        reading: None,
        pending: Pending::default(),
        excess: Some(0),
        settled: false,
        stage: Stage::First,
        beside: None,
    })
}

impl Layout for Stream {
    fn key(&self) -> &Bytes {
        &self.key
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        match &self.stage {
            Stage::First => {
                ask.plain.push(Read::StreamGroups(self.key.clone()));
                ask.plain.push(Read::StreamLength(self.key.clone()));
                if let Some(group) = self.reading.as_ref().filter(|_| self.pending.moves) {
                    ask.plain.push(Read::StreamFirstPending(self.key.clone(), group.clone()));
                }
                self.companions.ask(ask, now);
            }
            Stage::Second { group, first_pending, .. } => {
                if self.settles(group) {
                    ask.atomic.push(Read::StreamGroups(self.key.clone()));
                    ask.atomic.push(Read::StreamInfo(self.key.clone()));
                } else {
                    let count = self.counts(group).map_or(1, |most| most + 1);
                    ask.plain.push(Read::StreamAfter(self.key.clone(), group.delivered.clone(), count));
                }
                if first_pending.is_none() {
                    ask.plain.push(Read::StreamFirstPending(self.key.clone(), group.name.clone()));
                }
                if self.beside.is_none() {
                    self.companions.ask(ask, now);
                }
            }
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        match std::mem::replace(&mut self.stage, Stage::First) {
            Stage::First => self.first_round(replies, look),
            Stage::Second { group, size, first_pending } => {
                self.second_round(group, size, first_pending, replies, look)
            }
        }
    }
}

impl Stream {
    fn first_round(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        self.beside = None;
        let groups = groups(replies.take());
        let size = replies.count()?;
        let asked_pending = (self.pending.moves && self.reading.is_some()).then(|| first_pending(replies));
        self.beside = self.companions.answer(replies)?;
        let Some(groups) = groups? else {
            // No such key: an empty queue.
            (self.known, self.pending) = (None, Pending::default());
            let counts = Counts { arrivals: Count::Total(0), processed: Count::Total(0), ..Counts::default() };
            let empty =
                Observation { length: Some(0), in_flight: Some(0), age: Age::EMPTY, counts, ..Observation::default() };
            return Ok(self.beside.take().map(|beside| with(empty, beside, look)));
        };
        let mut group = self.choose(groups)?;
        group.name = kept(&group.name, self.reading.as_ref());
        group.delivered = kept(&group.delivered, Some(&self.pending.delivered));
        self.correct(&mut group, size);
        let asked_pending = asked_pending.filter(|_| self.reading.as_ref() == Some(&group.name));
        self.reading = Some(group.name.clone());
        let first_pending = match asked_pending {
            _ if group.pending == 0 => Some(None),
            Some(asked) => Some(asked?),
            None => self.pending.is_as(&group).then(|| self.pending.first.clone()),
        };
        match (self.first_undelivered(&group, size), first_pending, self.beside.take()) {
            (Some(first), Some(first_pending), Some(beside)) => {
                let length = waiting(&group, size, first.as_ref().map(|_| 1));
                Ok(Some(with(self.observe(group, size, length, first, first_pending, look), beside, look)))
            }
            (_, first_pending, beside) => {
                self.beside = beside;
                self.stage = Stage::Second { group, size, first_pending };
                Ok(None)
            }
        }
    }

    /// Puts Redis's lag right, as far as this look tells.
    fn correct(&mut self, group: &mut Group, size: u64) {
        self.excess = match group.lag {
            None => None,
            Some(_) if group.has_read_nothing() => Some(0),
            Some(0) => self.excess,
            // No more than all that exist can wait.
            Some(lag) => self.excess.map(|excess| excess.max(lag.saturating_sub(size))),
        };
        group.added =
            group.read.or_else(|| group.has_read_nothing().then_some(0)).zip(group.lag).map(|(read, lag)| read + lag);
        group.redis_lag = group.lag;
        // Where nothing waits, that is so whatever the lag will be worth.
        group.lag = match group.lag {
            Some(0) => Some(0),
            lag => lag.zip(self.excess).map(|(lag, excess)| lag.saturating_sub(excess)),
        };
    }

    /// Whether nothing waits and it is to be looked up by how much later lags will be too high: that was never done, is
    /// not known, or was more than 0 before the group read on.
    fn settles(&self, group: &Group) -> bool {
        let read_on = group.delivered != self.pending.delivered;
        let is_known = self.settled && self.excess.is_some_and(|excess| excess == 0 || !read_on);
        group.redis_lag == Some(0) && !is_known
    }

    /// Makes up the excess of a group that has read to the end: entries ever added less those that Redis takes for
    /// delivered. A group without that count goes by the place of its last entry, which is right or gives no lag. It
    /// stays unknown where the group has more to read by now.
    fn settle(&mut self, name: &Bytes, replies: &mut Replies) -> Result<(), ReadError> {
        let (groups, added) = (groups(replies.take())?, entries_added(replies.take()));
        let group = groups.into_iter().flatten().find(|group| group.name == *name);
        self.excess = match group {
            Some(Group { lag: Some(0), read: None, .. }) => Some(0),
            Some(Group { lag: Some(0), read: Some(read), .. }) => added?.map(|added| added.saturating_sub(read)),
            _ => None,
        };
        self.settled = true;
        Ok(())
    }

    /// The most entries that are to be counted one by one, where the lag does not do. A lag of 0 does, and a count there
    /// tells nothing of later ones.
    fn counts(&self, group: &Group) -> Option<u64> {
        match (group.lag, self.excess) {
            _ if group.redis_lag == Some(0) => None,
            (None, _) => Some(COUNT_MAX),
            (Some(lag), Some(1..)) if lag <= VERIFIED => Some(VERIFIED),
            _ => None,
        }
    }

    fn second_round(
        &mut self,
        mut group: Group,
        size: u64,
        pending: Option<Option<Bytes>>,
        replies: &mut Replies,
        look: Look,
    ) -> Result<Option<Observation>, ReadError> {
        let beside = self.beside.take();
        let settles = self.settles(&group);
        let entries = if settles {
            self.settle(&group.name, replies)?;
            Vec::new()
        } else {
            replies.array()?
        };
        let first_pending = match pending {
            Some(known) => known,
            None => first_pending(replies)?,
        };
        let beside = match beside {
            Some(beside) => beside,
            None => self.companions.answer(replies)?.unwrap_or_default(),
        };
        let first = entries.first().map(entry_id).transpose()?;
        let seen = entries.len() as u64;
        if let Some(most) = self.counts(&group) {
            let counted = Some(seen).filter(|seen| *seen <= most);
            self.excess = group.redis_lag.zip(counted).map(|(lag, counted)| lag.saturating_sub(counted));
            group.lag = group.redis_lag.and(counted);
        }
        let length = waiting(&group, size, Some(seen));
        Ok(Some(with(self.observe(group, size, length, first, first_pending, look), beside, look)))
    }

    fn choose(&self, mut groups: Vec<Group>) -> Result<Group, ReadError> {
        let names = || {
            let names: Vec<_> = groups.iter().map(|group| String::from_utf8_lossy(&group.name).into_owned()).collect();
            if names.is_empty() { "it has none".into() } else { format!("it has {}", names.join(", ")) }
        };
        let found = match &self.group {
            Some(name) => groups.iter().position(|group| group.name == *name),
            None => (groups.len() == 1).then_some(0),
        };
        match (found, &self.group) {
            (Some(place), _) => Ok(groups.swap_remove(place)),
            (None, Some(name)) => {
                let name = String::from_utf8_lossy(name);
                Err(ReadError::Mismatch(format!("the stream has no group {name}; {}", names())))
            }
            (None, None) => {
                Err(ReadError::Mismatch(format!("which consumer group is meant? Set group=NAME; {}", names())))
            }
        }
    }

    /// The first undelivered entry where the first round tells it: there is none, or it is the one of the last look.
    /// The outer `None` says that it must be read.
    #[allow(clippy::option_option)]
    fn first_undelivered(&self, group: &Group, size: u64) -> Option<Option<Bytes>> {
        if self.settles(group) {
            return None;
        }
        if size == 0 || group.redis_lag == Some(0) {
            return Some(None);
        }
        if self.counts(group).is_some() {
            return None;
        }
        let (known, lag) = (self.known.as_ref()?, group.lag?);
        // Nothing was delivered, and as many came to wait as came at all: so none was deleted or trimmed, and the first of
        // those that waited then still is.
        // A group that has read nothing tells nothing of a stream that was made anew with it.
        let only_grew = known.first.is_some()
            && !group.has_read_nothing()
            && known.delivered == group.delivered
            && lag >= known.lag
            && lag - known.lag == size.wrapping_sub(known.size);
        only_grew.then(|| known.first.clone())
    }

    fn observe(
        &mut self,
        group: Group,
        size: u64,
        length: Option<u64>,
        first: Option<Bytes>,
        first_pending: Option<Bytes>,
        look: Look,
    ) -> Observation {
        let age = match &first {
            None => Age::EMPTY,
            Some(id) => match id_age(id, look.unix) {
                Some(seconds) => Age::Known { seconds, error: 0.0 },
                None => Age::Unknown,
            },
        };
        // A group that has read nothing counts from 0, though Redis says nil.
        let read = group.read.or_else(|| group.has_read_nothing().then_some(0));
        let counts = Counts {
            arrivals: group.added.into(),
            processed: read.and_then(|read| read.checked_sub(group.pending)).into(),
            ..Counts::default()
        };
        let oldest_in_flight = first_pending.as_ref().and_then(|id| id_age(id, look.unix));
        let moves = group.pending > 0 && !self.pending.is_as(&group);
        self.pending =
            Pending { count: group.pending, delivered: group.delivered.clone(), first: first_pending, moves };
        self.known = group.lag.map(|lag| Known { delivered: group.delivered, lag, size, first });
        Observation { length, in_flight: Some(group.pending), age, oldest_in_flight, counts, ..Observation::default() }
    }
}

fn with(mut observation: Observation, beside: CompanionsSeen, look: Look) -> Observation {
    beside.add_to(&mut observation, look.unix);
    observation
}

/// How many entries wait, of a stream of `size`, where `seen` were read after the last delivered one; `None` where that
/// can't be told.
fn waiting(group: &Group, size: u64, seen: Option<u64>) -> Option<u64> {
    match (seen, group.lag) {
        (None | Some(0), _) => Some(0),
        (_, Some(lag)) => Some(lag.min(size)),
        (_, None) if group.has_read_nothing() => Some(size),
        (Some(seen), None) => (seen <= COUNT_MAX).then_some(seen),
    }
}

/// The groups, or `None` where the key does not exist.
fn groups(reply: Result<Reply, ReadError>) -> Result<Option<Vec<Group>>, ReadError> {
    let items = match reply {
        Ok(Reply::Array(items)) => items,
        Ok(_) => return Err(ReadError::Shape("groups that are no array")),
        Err(ReadError::Refused(text)) if text.contains("no such key") => return Ok(None),
        Err(error) => return Err(error),
    };
    items.into_iter().map(group).collect::<Result<Vec<_>, _>>().map(Some)
}

fn group(reply: Reply) -> Result<Group, ReadError> {
    let Reply::Array(fields) = reply else { return Err(ReadError::Shape("a group that is no array")) };
    let mut group = Group::default();
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        let Reply::Bytes(name) = name else { return Err(ReadError::Shape("a field of a group without a name")) };
        let number = match &value {
            Reply::Int(number) => whole(*number),
            _ => None,
        };
        match (name.as_ref(), value) {
            (b"name", Reply::Bytes(value)) => group.name = value,
            (b"last-delivered-id", Reply::Bytes(value)) => group.delivered = value,
            (b"pending", _) => group.pending = number.ok_or(ReadError::Shape("a pending count that is no number"))?,
            (b"entries-read", _) => group.read = number,
            (b"lag", _) => group.lag = number,
            _ => {}
        }
    }
    if group.delivered.is_empty() {
        return Err(ReadError::Shape("a group without a last delivered id"));
    }
    Ok(group)
}

/// `entries-added` of XINFO STREAM, `None` where Redis is older than 7.
fn entries_added(reply: Result<Reply, ReadError>) -> Result<Option<u64>, ReadError> {
    let Reply::Array(fields) = reply? else { return Err(ReadError::Shape("a stream's state that is no array")) };
    let place = fields.iter().position(|field| matches!(field, Reply::Bytes(name) if name == "entries-added"));
    Ok(place.and_then(|place| match fields.get(place + 1) {
        Some(Reply::Int(number)) => whole(*number),
        _ => None,
    }))
}

fn entry_id(entry: &Reply) -> Result<Bytes, ReadError> {
    match entry {
        Reply::Array(parts) => match parts.first() {
            Some(Reply::Bytes(id)) => Ok(Bytes::copy_from_slice(id)),
            _ => Err(ReadError::Shape("an entry without an id")),
        },
        _ => Err(ReadError::Shape("an entry that is no array")),
    }
}

fn first_pending(replies: &mut Replies) -> Result<Option<Bytes>, ReadError> {
    replies.array()?.first().map(entry_id).transpose()
}

/// How long ago the entry was added, by the milliseconds in its id; `None` where the id is no time.
fn id_age(id: &[u8], now: f64) -> Option<f64> {
    let millis = digits(id.split(|byte| *byte == b'-').next()?)?;
    times::age(millis as f64 / 1e3, now)
}
