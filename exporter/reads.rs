//! The read-only commands that a layout may use, and their replies.
//!
//! A layout names what it wants as values of [`Read`]; nothing here can write. What a poll costs follows from them: each
//! is O(1), O(log n) or bounded by a count that it carries.

use bytes::Bytes;
use thiserror::Error;

/// One read-only command.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// `LLEN key`: O(1).
    ListLength(Bytes),
    /// `LRANGE key start stop`: O(start + count); both ends as Redis counts them, so -1 is the last.
    ListRange(Bytes, i64, i64),
    /// `LPOS key element RANK rank COUNT count MAXLEN max`: O(max), about 45 ns for each element passed.
    ListPosition {
        /// The list.
        key: Bytes,
        /// The whole element that is looked for.
        element: Bytes,
        /// 1 to search from index 0, -1 from the last index.
        rank: i64,
        /// How many matches at most.
        count: i64,
        /// How many elements are compared at most.
        max: i64,
    },
    /// `ZCARD key`: O(1).
    SetSize(Bytes),
    /// `ZCOUNT key -inf max`: O(log n).
    SetCountTo(Bytes, f64),
    /// `ZCOUNT key (min +inf`: O(log n).
    SetCountAfter(Bytes, f64),
    /// `ZCOUNT key (min max`: O(log n).
    SetCountBetween(Bytes, f64, f64),
    /// `ZRANGE key 0 (count - 1) WITHSCORES`: O(log n + count); the members with the lowest scores.
    SetFirsts(Bytes, i64),
    /// `ZRANGE key 0 0 WITHSCORES`: O(log n); the member with the lowest score.
    SetFirst(Bytes),
    /// `ZRANGEBYSCORE key (min +inf WITHSCORES LIMIT 0 1`: O(log n); the member with the lowest score over this.
    SetFirstAfter(Bytes, f64),
    /// `GET key`: O(size of the value).
    Get(Bytes),
    /// `GETRANGE key 0 (max - 1)`: O(max); what is longer is cut.
    GetStart(Bytes, u64),
    /// `EXISTS key`: O(1).
    Exists(Bytes),
    /// `HLEN key`: O(1).
    HashLength(Bytes),
    /// `HGET key field`: O(size of the value).
    HashGet(Bytes, Bytes),
    /// `HMGET key field field ...`: O(number of fields + size of the values).
    HashGets(Bytes, &'static [&'static str]),
    /// `HSTRLEN key field`: O(1).
    HashValueLength(Bytes, Bytes),
    /// `HVALS key`: O(number of fields): only for hashes with a field a worker's thread.
    HashValues(Bytes),
    /// `SCARD key`: O(1).
    MemberCount(Bytes),
    /// `SSCAN key cursor COUNT count`: O(count); members, and the cursor from which to go on, 0 where there are no more.
    Members {
        /// The set.
        key: Bytes,
        /// 0, or what the last one gave.
        cursor: Bytes,
        /// Places gone through, of which some are empty.
        count: u64,
    },
    /// `SCAN cursor MATCH pattern COUNT count TYPE kind`: O(count), as above for the keys of the database.
    Scan {
        /// 0, or what the last one gave.
        cursor: Bytes,
        /// Of the keys.
        pattern: Bytes,
        /// Places gone through.
        count: u64,
        /// Their type; empty for any.
        kind: &'static str,
    },
    /// `XLEN key`: O(1).
    StreamLength(Bytes),
    /// `XINFO GROUPS key`: O(number of groups).
    StreamGroups(Bytes),
    /// `XINFO STREAM key`: O(1); its first and its last entry come along, payloads included.
    StreamInfo(Bytes),
    /// `XRANGE key after+1 + COUNT count`: O(log n + count), payloads included. An empty `after` starts at the first.
    StreamAfter(Bytes, Bytes, u64),
    /// `XRANGE key - last COUNT count`: O(log n + count), payloads included; `last` is one of them.
    StreamTo(Bytes, Bytes, u64),
    /// `XPENDING key group - + 1`: O(log n); the pending entry with the lowest id.
    StreamFirstPending(Bytes, Bytes),
    /// `TYPE key`: O(1); for `check` only.
    Type(Bytes),
    /// `TIME`: O(1).
    Time,
}

impl Read {
    /// The key that is read; empty where it is none.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        static NONE: Bytes = Bytes::new();
        match self {
            Self::Time => &NONE,
            Self::ListLength(key)
            | Self::ListRange(key, ..)
            | Self::ListPosition { key, .. }
            | Self::SetSize(key)
            | Self::SetCountTo(key, _)
            | Self::SetCountAfter(key, _)
            | Self::SetCountBetween(key, ..)
            | Self::SetFirsts(key, _)
            | Self::SetFirstAfter(key, _)
            | Self::GetStart(key, _)
            | Self::Exists(key)
            | Self::HashLength(key)
            | Self::HashGet(key, _)
            | Self::HashGets(key, _)
            | Self::HashValueLength(key, _)
            | Self::HashValues(key)
            | Self::MemberCount(key)
            | Self::Members { key, .. }
            | Self::Scan { pattern: key, .. }
            | Self::SetFirst(key)
            | Self::Get(key)
            | Self::StreamLength(key)
            | Self::StreamGroups(key)
            | Self::StreamInfo(key)
            | Self::StreamAfter(key, ..)
            | Self::StreamTo(key, ..)
            | Self::StreamFirstPending(key, _)
            | Self::Type(key) => key,
        }
    }
}

/// The largest count that is believed: numbers up to here are exact in Prometheus, and their sums far from overflow.
const LARGEST: u64 = 1 << 53;

/// What one queue asks for in one round trip; a layout adds to what others ask for, and looks at nothing else in it.
#[derive(Debug, Default, PartialEq)]
pub struct Ask {
    /// Reads that must see one moment: sent inside MULTI and EXEC. All of one Redis Cluster slot.
    pub atomic: Vec<Read>,
    /// Reads that each may see a moment of their own.
    pub plain: Vec<Read>,
}

/// What many queues ask for in one round trip: one [`Ask`] that holds the reads of all, and where each one's end. So a queue costs
/// no allocation.
#[derive(Debug, Default)]
pub struct Asks {
    all: Ask,
    ends: Vec<End>,
}

#[derive(Clone, Copy, Debug, Default)]
struct End {
    atomic: usize,
    plain: usize,
    alone: bool,
}

/// What one of many asks for.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// As in [`Ask`].
    pub atomic: &'a [Read],
    /// As in [`Ask`].
    pub plain: &'a [Read],
    /// Whether its atomic reads get a MULTI/EXEC of their own.
    pub alone: bool,
}

impl Request<'_> {
    /// How many reads it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.atomic.len() + self.plain.len()
    }
}

impl Asks {
    /// Adds a request: the reads that `ask` adds.
    pub fn add(&mut self, alone: bool, ask: impl FnOnce(&mut Ask)) {
        ask(&mut self.all);
        self.ends.push(End { atomic: self.all.atomic.len(), plain: self.all.plain.len(), alone });
    }

    /// Forgets all requests, and keeps the room.
    pub fn clear(&mut self) {
        self.all.atomic.clear();
        self.all.plain.clear();
        self.ends.clear();
    }

    /// Each one's, in the order in which they were added.
    pub fn requests(&self) -> impl Iterator<Item = Request<'_>> {
        let mut start = End::default();
        self.ends.iter().map(move |end| {
            let atomic = self.all.atomic.get(start.atomic..end.atomic).unwrap_or_default();
            let plain = self.all.plain.get(start.plain..end.plain).unwrap_or_default();
            start = *end;
            Request { atomic, plain, alone: end.alone }
        })
    }

    /// How many reads all of them have.
    #[must_use]
    pub fn size(&self) -> usize {
        self.all.atomic.len() + self.all.plain.len()
    }
}

/// A reply of Redis, in RESP2 shapes.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// No such key, element or field.
    Nil,
    /// A whole number.
    Int(i64),
    /// A string of bytes.
    Bytes(Bytes),
    /// A list of replies.
    Array(Vec<Reply>),
    /// The server's refusal, in its own words; those at the top are told as [`ReadError::Refused`].
    Error(String),
}

/// Why a queue could not be read.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum ReadError {
    /// The server answered with an error; the text is Redis's own.
    #[error("{0}")]
    Refused(String),
    /// The server gave no answer: down, unreachable, too slow.
    #[error("no answer from Redis: {0}")]
    NoAnswer(String),
    /// The server let nobody in: wrong password or user.
    #[error("Redis refused the login: {0}")]
    Login(String),
    /// The answer has a shape that this program does not know.
    #[error("unexpected answer: {0}")]
    Shape(&'static str),
    /// The queue is not as its configuration says.
    #[error("{0}")]
    Mismatch(String),
}

impl ReadError {
    /// The value of the `kind` label of `queue_exporter_poll_errors_total`: a small, fixed set.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Refused(text) => match text.split(' ').next().unwrap_or_default() {
                "WRONGTYPE" => "wrong_type",
                "NOPERM" => "no_permission",
                "NOAUTH" | "WRONGPASS" => "login",
                "LOADING" | "BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK" => "unavailable",
                _ => "refused",
            },
            Self::NoAnswer(_) => "no_answer",
            Self::Login(_) => "login",
            Self::Shape(_) => "unexpected_answer",
            Self::Mismatch(_) => "mismatch",
        }
    }

    /// Whether Redis is over its `maxmemory`: it then refuses whatever is queued in a MULTI, reads too.
    #[must_use]
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Refused(text) if text.starts_with("OOM "))
    }

    /// Every value that [`ReadError::kind`] can have, so that each counter exists from the start.
    pub const KINDS: [&'static str; 8] = [
        "wrong_type",
        "no_permission",
        "unavailable",
        "refused",
        "no_answer",
        "login",
        "unexpected_answer",
        "mismatch",
    ];

    /// Whether nothing was heard of the queue, so that its last reading may stand until it is stale.
    #[must_use]
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::NoAnswer(_) | Self::Login(_))
    }
}

/// The replies to one [`Ask`], taken in its order: first the atomic ones, then the plain ones. Those of many follow one another.
#[derive(Debug)]
pub struct Replies {
    all: std::vec::IntoIter<Result<Reply, ReadError>>,
    /// How many of them belong to this one.
    left: usize,
}

impl Replies {
    /// Wraps the replies of one ask.
    #[must_use]
    pub fn new(replies: Vec<Result<Reply, ReadError>>) -> Self {
        Self { left: replies.len(), all: replies.into_iter() }
    }

    /// Wraps the replies of many, of which none can be taken before the first [`Replies::turn`].
    #[must_use]
    pub fn of_many(replies: Vec<Result<Reply, ReadError>>) -> Self {
        Self { left: 0, all: replies.into_iter() }
    }

    /// Goes on to the replies of the next one, so many; what is left of the one before is dropped.
    pub fn turn(&mut self, size: usize) {
        self.all.by_ref().take(self.left).for_each(drop);
        self.left = size;
    }

    /// The next reply, or the error that the server gave in its place.
    ///
    /// # Errors
    /// The server's refusal, or [`ReadError::Shape`] where fewer replies came than were asked for.
    pub fn take(&mut self) -> Result<Reply, ReadError> {
        let missing = Err(ReadError::Shape("a reply is missing"));
        let Some(left) = self.left.checked_sub(1) else { return missing };
        self.left = left;
        self.all.next().unwrap_or(missing)
    }

    /// Takes the next `count` replies off, to be read later.
    #[must_use]
    pub fn split(&mut self, count: usize) -> Self {
        let count = count.min(self.left);
        self.left -= count;
        Self::new(self.all.by_ref().take(count).collect())
    }

    /// The next reply as a count.
    ///
    /// # Errors
    /// As [`Replies::take`], and [`ReadError::Shape`] where it is no whole number of 0 or more.
    pub fn count(&mut self) -> Result<u64, ReadError> {
        match self.take()? {
            Reply::Int(number) => {
                whole(number).ok_or(ReadError::Shape("a count below 0 or beyond what Redis can hold"))
            }
            _ => Err(ReadError::Shape("not a count")),
        }
    }

    /// The next reply as an array.
    ///
    /// # Errors
    /// As [`Replies::take`], and [`ReadError::Shape`] where it is no array.
    pub fn array(&mut self) -> Result<Vec<Reply>, ReadError> {
        match self.take()? {
            Reply::Array(items) => Ok(items),
            Reply::Nil => Ok(Vec::new()),
            _ => Err(ReadError::Shape("not an array")),
        }
    }

    /// The next reply as bytes, or `None` for nil.
    ///
    /// # Errors
    /// As [`Replies::take`], and [`ReadError::Shape`] where it is neither.
    pub fn bytes(&mut self) -> Result<Option<Bytes>, ReadError> {
        match self.take()? {
            Reply::Bytes(bytes) => Ok(Some(bytes)),
            Reply::Nil => Ok(None),
            Reply::Int(n) => Ok(Some(Bytes::from(n.to_string()))),
            Reply::Array(_) | Reply::Error(_) => Err(ReadError::Shape("not a string")),
        }
    }

    /// The next reply as yes or no.
    ///
    /// # Errors
    /// As [`Replies::count`].
    pub fn yes(&mut self) -> Result<bool, ReadError> {
        Ok(self.count()? > 0)
    }

    /// The next reply, of `SSCAN`, as members, and whether these are all.
    ///
    /// # Errors
    /// As [`Replies::take`], and [`ReadError::Shape`] where it is something else.
    pub fn members(&mut self) -> Result<(Vec<Bytes>, bool), ReadError> {
        let mut parts = self.array()?.into_iter();
        let (Some(Reply::Bytes(cursor)), Some(Reply::Array(members))) = (parts.next(), parts.next()) else {
            return Err(ReadError::Shape("no cursor and members"));
        };
        Ok((bytes_of(members), cursor.as_ref() == b"0"))
    }

    /// The next reply, of `GET`, as a counter that workers INCR; `None` while the key does not exist.
    ///
    /// # Errors
    /// As [`Replies::take`], and [`ReadError::Mismatch`] where the value is no whole number of 0 or more.
    pub fn counter(&mut self) -> Result<Option<u64>, ReadError> {
        let Some(bytes) = self.bytes()? else {
            return Ok(None);
        };
        let number = counter(&bytes);
        number.map(Some).ok_or_else(|| ReadError::Mismatch("the counter key holds no whole number of 0 or more".into()))
    }

    /// The next reply, of `ZRANGE 0 0 WITHSCORES`, as the lowest score; `None` for an empty set.
    ///
    /// # Errors
    /// As [`Replies::take`], and [`ReadError::Shape`] where it holds no score.
    pub fn first_score(&mut self) -> Result<Option<f64>, ReadError> {
        let items = self.array()?;
        let Some(score) = items.last() else {
            return Ok(None);
        };
        let number = match score {
            Reply::Bytes(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.map(Some).ok_or(ReadError::Shape("not a score"))
    }
}

/// A number as a count.
#[must_use]
pub fn whole(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|count| *count <= LARGEST)
}

/// A counter as Redis stores it, in digits.
#[must_use]
pub fn counter(text: &[u8]) -> Option<u64> {
    digits(text).filter(|count| *count <= LARGEST)
}

/// A number in digits and nothing else. Some ten of these come with each queue, and the standard library's way, by a string, takes
/// three times as long.
#[must_use]
pub fn digits(text: &[u8]) -> Option<u64> {
    let add = |number: u64, byte: &u8| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    };
    if text.is_empty() { None } else { text.iter().try_fold(0, add) }
}

/// What was seen, to be kept: what is known already where it is the same, else a copy, for a string of a reply shares its memory with the whole
/// batch of replies.
#[must_use]
pub fn kept(seen: &Bytes, known: Option<&Bytes>) -> Bytes {
    known.filter(|known| *known == seen).cloned().unwrap_or_else(|| Bytes::copy_from_slice(seen))
}

/// Those of the replies that are strings.
#[must_use]
pub fn bytes_of(replies: Vec<Reply>) -> Vec<Bytes> {
    let bytes = replies.into_iter().filter_map(|reply| match reply {
        Reply::Bytes(bytes) => Some(bytes),
        _ => None,
    });
    bytes.collect()
}
