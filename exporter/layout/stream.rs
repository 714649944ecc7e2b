//! `stream:KEY?group=NAME`: a Redis stream read by a consumer group.
//!
//! | option | |
//! |---|---|
//! | `group` | the consumer group; may be left out where there is just one |
//! | `dead` | a stream beside it: jobs given up |
//! | `delayed`, `retrying` | sorted sets by due time; `due_unit` where their magnitude does not tell |
//! | `failed` | a counter that workers INCR |
//!
//! Length is the group's lag: entries not delivered yet. Redis gives none (nil) once an undelivered entry, or the last
//! delivered one while an older one is there, was deleted, or the group was moved, and gives too much once undelivered entries were lost, until the group has read to the end.
//! So the entry after the last delivered one is looked at whenever it can have changed: none there means nothing waits.
//! With no lag, or on Redis 6, entries are counted: those that wait, or those that were delivered and are still there,
//! for all others wait; beyond [`COUNT_MAX`] of both the length is absent. A trim takes the oldest, so where fewer
//! entries exist than the lag says, all that exist wait. By how much the lag is too high is remembered
//! ([`Stream::excess`]) for as long as that lasts, and counted again unless entries only came, if [`VERIFIED`] or fewer
//! are at either end. A lag of 0 does not end it: Redis may come to that by the place of the last entry, and go on from
//! a count of delivered ones that lacks those lost. So it is then made up from the entries ever added (XINFO STREAM).
//! What a single look can't see: entries lost while they waited, and others delivered after them, all between two
//! looks; the length is then too high by those lost. And Valkey puts its lag right as it delivers the first entry that
//! is there: with more than [`VERIFIED`] at both ends by the next look, the length is too low by those lost until fewer
//! wait.
//!
//! Processed is entries-read less pending: acknowledged, failed ones included; arrivals are entries-read plus lag, which
//! are the entries ever added. Both are Redis's own counts (XINFO GROUPS). Where it gives none, which is most of the time
//! with workers that delete what they have done, those ever added come from XINFO STREAM and those read are these without
//! those that wait. Redis 6 counts neither: both are absent. Ids hold the time in milliseconds unless the
//! producer sets its own; ids before 2001 or a day ahead are taken for such, and give no age.
//!
//! In flight is the group's pending count, with entries that were deleted while pending: Redis counts them too.
//!
//! Cost of a look: XINFO GROUPS and XLEN; while consumers move on, an XRANGE of one entry, payload included, in a second
//! round, and an XPENDING of one entry. Where the group has read to the end and the lag was too high before, XINFO GROUPS
//! and XINFO STREAM in one transaction, with the payloads of two entries; so too when it is first seen at the end. Where
//! entries are counted, up to [`COUNT_MAX`] and one of them, and as many in a third round where they were those of the
//! wrong end: after that it starts with the other, where workers that delete what they have done leave but few.

use super::companions::{Companions, CompanionsSeen};
use super::{Layout, Name, Observation, Options};
use crate::curve::Age;
use crate::fifo::Look;
use crate::flow::{Count, Counts};
use crate::reads::{Ask, Read, ReadError, Replies, Reply, digits, kept, whole};
use crate::times;
use bytes::Bytes;

/// The most entries that are counted where Redis gives no lag, of those that wait or of those that were delivered; their
/// payloads come along.
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
    /// Where the last look counted.
    end: End,
    stage: Stage,
    beside: Option<CompanionsSeen>,
}

/// Where a look stands.
enum Stage {
    First,
    /// The group as the first round found it; `first_pending` where that is known already.
    Second {
        group: Group,
        first_pending: Option<Option<Bytes>>,
        /// Whether the other end may still be counted at this look.
        turns: bool,
    },
}

/// Which entries are counted where there is no lag.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Waiting,
    /// Delivered ones that are still there: what is left of all waits.
    Delivered,
}

impl End {
    fn other(self) -> Self {
        match self {
            Self::Waiting => Self::Delivered,
            Self::Delivered => Self::Waiting,
        }
    }
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
    /// Entries of its stream.
    size: u64,
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
        end: End::Waiting,
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
                    let (key, delivered) = (self.key.clone(), group.delivered.clone());
                    let counts_delivered = self.counts_delivered(group);
                    let count = self.counts(group).map_or(1, |most| most + 1);
                    let waiting = if counts_delivered { 1 } else { count };
                    let waiting = Read::StreamAfter(key.clone(), delivered.clone(), waiting);
                    if self.needs_info(group) {
                        ask.atomic.push(Read::StreamInfo(key.clone()));
                        if counts_delivered {
                            ask.atomic.push(Read::StreamTo(key, delivered, count));
                        }
                        ask.atomic.push(waiting);
                    } else {
                        ask.plain.push(waiting);
                    }
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
            Stage::Second { group, first_pending, turns } => {
                self.second_round(group, first_pending, turns, replies, look)
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
        group.size = size;
        self.correct(&mut group);
        let asked_pending = asked_pending.filter(|_| self.reading.as_ref() == Some(&group.name));
        self.reading = Some(group.name.clone());
        let first_pending = match asked_pending {
            _ if group.pending == 0 => Some(None),
            Some(asked) => Some(asked?),
            None => self.pending.is_as(&group).then(|| self.pending.first.clone()),
        };
        match (self.first_undelivered(&group), first_pending, self.beside.take()) {
            (Some(first), Some(first_pending), Some(beside)) => {
                let length = if first.is_none() { Some(0) } else { waiting(&group) };
                Ok(Some(with(self.observe(group, length, first, first_pending, look), beside, look)))
            }
            (_, first_pending, beside) => {
                self.beside = beside;
                self.stage = Stage::Second { group, first_pending, turns: true };
                Ok(None)
            }
        }
    }

    /// Puts Redis's lag right, as far as this look tells.
    fn correct(&mut self, group: &mut Group) {
        self.excess = match group.lag {
            None => None,
            Some(_) if group.has_read_nothing() => Some(0),
            Some(0) => self.excess,
            // No more than all that exist can wait.
            Some(lag) => self.excess.map(|excess| excess.max(lag.saturating_sub(group.size))),
        };
        // A group that has read nothing counts from 0, though Redis says nil.
        group.read = group.read.or_else(|| group.has_read_nothing().then_some(0));
        group.added = group.read.zip(group.lag).map(|(read, lag)| read + lag);
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
        let (groups, info) = (groups(replies.take())?, info(replies.take()));
        let group = groups.into_iter().flatten().find(|group| group.name == *name);
        self.excess = match group {
            Some(Group { lag: Some(0), read: None, .. }) => Some(0),
            Some(Group { lag: Some(0), read: Some(read), .. }) => info?.added.map(|added| added.saturating_sub(read)),
            _ => None,
        };
        self.settled = true;
        Ok(())
    }

    /// The most entries that are to be counted one by one, where the lag does not do. A lag of 0 does, and a count there
    /// tells nothing of later ones. A lag that is too high may be put right whenever more happens than that entries come:
    /// Valkey does.
    fn counts(&self, group: &Group) -> Option<u64> {
        match (group.lag, self.excess) {
            _ if group.redis_lag == Some(0) => None,
            // All wait.
            (None, _) if group.has_read_nothing() => None,
            (None, _) => Some(COUNT_MAX),
            (Some(lag), Some(1..)) if lag <= VERIFIED || !self.only_grew(group) => Some(VERIFIED),
            _ => None,
        }
    }

    /// Whether they are to be counted from the other end.
    fn counts_delivered(&self, group: &Group) -> bool {
        self.end == End::Delivered && self.counts(group).is_some()
    }

    /// Whether the number of entries is to be of the same moment as these, or that of all ever added does not follow from
    /// what is known of the group.
    fn needs_info(&self, group: &Group) -> bool {
        self.counts_delivered(group) || (group.added.is_none() && group.redis_lag != Some(0))
    }

    fn second_round(
        &mut self,
        mut group: Group,
        pending: Option<Option<Bytes>>,
        turns: bool,
        replies: &mut Replies,
        look: Look,
    ) -> Result<Option<Observation>, ReadError> {
        let beside = self.beside.take();
        // As they were when it was asked: the size, on which they depend, is told anew.
        let (counts, counts_delivered) = (self.counts(&group), self.counts_delivered(&group));
        let mut info = Info::default();
        let (entries, counted) = if self.settles(&group) {
            self.settle(&group.name, replies)?;
            (Vec::new(), None)
        } else {
            if self.needs_info(&group) {
                info = self::info(replies.take())?;
                group.size = info.length.unwrap_or(group.size);
            }
            if counts_delivered {
                let delivered = replies.array()?.len() as u64;
                let waiting = group.size.checked_sub(delivered);
                (replies.array()?, waiting.filter(|_| counts.is_some_and(|most| delivered <= most)))
            } else {
                let entries = replies.array()?;
                let waiting = entries.len() as u64;
                (entries, counts.and_then(|most| Some(waiting).filter(|waiting| *waiting <= most)))
            }
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
        if counts.is_some() && counted.is_none() && turns {
            self.end = self.end.other();
            self.beside = Some(beside);
            self.stage = Stage::Second { group, first_pending: Some(first_pending), turns: false };
            return Ok(None);
        }
        match (counts, counted) {
            (None, _) => {}
            // Many at either end, as was thought.
            (Some(VERIFIED), None) if group.lag > Some(VERIFIED) => {}
            (Some(_), counted) => {
                self.excess = group.redis_lag.zip(counted).map(|(lag, counted)| lag.saturating_sub(counted));
                group.lag = group.redis_lag.and(counted);
            }
        }
        if counts == Some(VERIFIED) && self.excess.is_none() {
            self.beside = Some(beside);
            self.stage = Stage::Second { group, first_pending: Some(first_pending), turns: true };
            return Ok(None);
        }
        if group.added.is_none() {
            group.added = info.added;
            let waiting = counted.or(group.redis_lag);
            group.read = group.read.or(info.added.zip(waiting).map(|(added, waiting)| added.saturating_sub(waiting)));
        }
        let length = if first.is_none() { Some(0) } else { waiting(&group).or(counted) };
        Ok(Some(with(self.observe(group, length, first, first_pending, look), beside, look)))
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
    fn first_undelivered(&self, group: &Group) -> Option<Option<Bytes>> {
        if self.settles(group) {
            return None;
        }
        if group.size == 0 || group.redis_lag == Some(0) {
            return Some(None);
        }
        if self.counts(group).is_some() || self.needs_info(group) {
            return None;
        }
        let known = self.known.as_ref()?;
        // A group that has read nothing tells nothing of a stream that was made anew with it.
        let is_there = known.first.is_some() && !group.has_read_nothing() && self.only_grew(group);
        is_there.then(|| known.first.clone())
    }

    /// Whether nothing was delivered since the last look, and as many came to wait as came at all: so none was deleted or
    /// trimmed, and the first of those that waited then still is.
    fn only_grew(&self, group: &Group) -> bool {
        self.known.as_ref().zip(group.lag).is_some_and(|(known, lag)| {
            known.delivered == group.delivered
                && lag >= known.lag
                && lag - known.lag == group.size.wrapping_sub(known.size)
        })
    }

    fn observe(
        &mut self,
        group: Group,
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
        let counts = Counts {
            arrivals: group.added.into(),
            processed: group.read.and_then(|read| read.checked_sub(group.pending)).into(),
            ..Counts::default()
        };
        let oldest_in_flight = first_pending.as_ref().and_then(|id| id_age(id, look.unix));
        let moves = group.pending > 0 && !self.pending.is_as(&group);
        self.pending =
            Pending { count: group.pending, delivered: group.delivered.clone(), first: first_pending, moves };
        self.known = group.lag.map(|lag| Known { delivered: group.delivered, lag, size: group.size, first });
        Observation { length, in_flight: Some(group.pending), age, oldest_in_flight, counts, ..Observation::default() }
    }
}

fn with(mut observation: Observation, beside: CompanionsSeen, look: Look) -> Observation {
    beside.add_to(&mut observation, look.unix);
    observation
}

/// How many entries wait, where any does, by what Redis tells of the group.
fn waiting(group: &Group) -> Option<u64> {
    match group.lag {
        Some(lag) => Some(lag.min(group.size)),
        None => group.has_read_nothing().then_some(group.size),
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

/// A stream, of XINFO STREAM; nothing is known of one that is gone.
#[derive(Debug, Default)]
struct Info {
    length: Option<u64>,
    /// Entries that were ever added; `None` where Redis is older than 7.
    added: Option<u64>,
}

fn info(reply: Result<Reply, ReadError>) -> Result<Info, ReadError> {
    let fields = match reply {
        Ok(Reply::Array(fields)) => fields,
        Ok(_) => return Err(ReadError::Shape("a stream's state that is no array")),
        Err(ReadError::Refused(text)) if text.contains("no such key") => return Ok(Info::default()),
        Err(error) => return Err(error),
    };
    let number = |name: &str| {
        let place = fields.iter().position(|field| matches!(field, Reply::Bytes(text) if text == name))?;
        match fields.get(place + 1) {
            Some(Reply::Int(number)) => whole(*number),
            _ => None,
        }
    };
    Ok(Info { length: number("length"), added: number("entries-added") })
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
