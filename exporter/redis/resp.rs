//! Redis's protocol, RESP2: commands to bytes, bytes to replies.
//!
//! Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>. Cost: no allocation a command, one an array of a
//! reply. A string of a reply shares the memory of all that was read with it: who keeps it copies it.

use crate::reads::{self, Read, ReadError, Reply};
use bytes::{Buf, Bytes, BytesMut};

/// The longest line: a length, a number, or an error in words.
const LONGEST_LINE: usize = 64 << 10;
/// The largest string that a server lets itself be told to hold (`proto-max-bulk-len`).
const LARGEST_STRING: usize = 512 << 20;
/// Arrays within arrays: of `EXEC`, of one reply, and of what that holds.
const DEEPEST: usize = 8;
/// The most digits of a number.
const LONGEST_NUMBER: usize = 19;
const QUEUED: &[u8] = b"+QUEUED\r\n";
/// Places that are set aside for an array before its items are there.
const PLACES: usize = 1_024;

/// A word as it is sent, from its length and itself: made at compile time, for it is sent at each poll for each queue.
macro_rules! word {
    ($length:literal $text:literal) => {
        concat!("$", $length, "\r\n", $text, "\r\n")
    };
}

/// The start of a command, from the number of its words, and the length of the first and itself.
macro_rules! command {
    ($words:literal, $length:literal $name:literal) => {
        concat!("*", $words, "\r\n", word!($length $name))
    };
}

/// A part of a command.
#[derive(Clone, Copy)]
pub enum Word<'a> {
    /// As it is.
    Text(&'a [u8]),
    /// What `word!` made.
    Made(&'static str),
    /// In digits.
    Number(i64),
    /// The same, of 0 or more.
    Count(u64),
    /// A score of a sorted set, and what is equal to it.
    Score(f64),
    /// What is greater than a score of a sorted set.
    Over(f64),
    /// The id that follows this one of a stream: Redis knows `(id` since 6.2 only.
    After(&'a [u8]),
}

use Word::{After, Count, Made, Number, Over, Score, Text};

/// Commands to be sent in one write.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    commands: usize,
}

impl Batch {
    /// Forgets all commands, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.commands = 0;
    }

    /// What is sent.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many replies it gets.
    #[must_use]
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// Adds a command.
    pub fn add(&mut self, words: &[Word]) {
        self.commands += 1;
        self.head(b'*', words.len());
        for word in words {
            self.word(*word);
        }
    }

    /// Adds a read.
    pub fn add_read(&mut self, read: &Read) {
        match read {
            Read::ListLength(key) => self.put(command!(2, 4 "LLEN"), &[Text(key)]),
            Read::ListRange(key, start, stop) => {
                self.put(command!(4, 6 "LRANGE"), &[Text(key), Number(*start), Number(*stop)]);
            }
            Read::ListPosition { key, element, rank, count, max } => self.put(
                command!(9, 4 "LPOS"),
                &[
                    Text(key),
                    Text(element),
                    Made(word!(4 "RANK")),
                    Number(*rank),
                    Made(word!(5 "COUNT")),
                    Number(*count),
                    Made(word!(6 "MAXLEN")),
                    Number(*max),
                ],
            ),
            Read::SetSize(key) => self.put(command!(2, 5 "ZCARD"), &[Text(key)]),
            Read::SetCountTo(key, max) => {
                self.put(command!(4, 6 "ZCOUNT"), &[Text(key), Made(word!(4 "-inf")), Score(*max)]);
            }
            Read::SetCountAfter(key, min) => {
                self.put(command!(4, 6 "ZCOUNT"), &[Text(key), Over(*min), Made(word!(4 "+inf"))]);
            }
            Read::SetCountBetween(key, min, max) => {
                self.put(command!(4, 6 "ZCOUNT"), &[Text(key), Over(*min), Score(*max)]);
            }
            Read::SetFirst(key) => self.add_read(&Read::SetFirsts(key.clone(), 1)),
            Read::SetFirsts(key, count) => {
                let words = [Text(key), Number(0), Number(count - 1), Made(word!(10 "WITHSCORES"))];
                self.put(command!(5, 6 "ZRANGE"), &words);
            }
            // ZRANGE BYSCORE came with Redis 6.2.
            Read::SetFirstAfter(key, min) => self.put(
                command!(8, 13 "ZRANGEBYSCORE"),
                &[
                    Text(key),
                    Over(*min),
                    Made(word!(4 "+inf")),
                    Made(word!(10 "WITHSCORES")),
                    Made(word!(5 "LIMIT")),
                    Number(0),
                    Number(1),
                ],
            ),
            Read::Get(key) => self.put(command!(2, 3 "GET"), &[Text(key)]),
            Read::GetStart(key, max) => {
                let last = i64::try_from(max.saturating_sub(1)).unwrap_or(i64::MAX);
                self.put(command!(4, 8 "GETRANGE"), &[Text(key), Number(0), Number(last)]);
            }
            Read::Exists(key) => self.put(command!(2, 6 "EXISTS"), &[Text(key)]),
            Read::HashLength(key) => self.put(command!(2, 4 "HLEN"), &[Text(key)]),
            Read::HashGet(key, field) => self.put(command!(3, 4 "HGET"), &[Text(key), Text(field)]),
            Read::HashGets(key, fields) => {
                let fields = fields.iter().map(|field| Text(field.as_bytes()));
                self.add(&[Text(b"HMGET"), Text(key)].into_iter().chain(fields).collect::<Vec<_>>());
            }
            Read::HashValueLength(key, field) => self.put(command!(3, 7 "HSTRLEN"), &[Text(key), Text(field)]),
            Read::HashValues(key) => self.put(command!(2, 5 "HVALS"), &[Text(key)]),
            Read::MemberCount(key) => self.put(command!(2, 5 "SCARD"), &[Text(key)]),
            Read::Members { key, cursor, count } => {
                let words = [Text(key), Text(cursor), Made(word!(5 "COUNT")), Count(*count)];
                self.put(command!(5, 5 "SSCAN"), &words);
            }
            Read::Scan { cursor, pattern, count, kind } => {
                let scan = [Text(b"SCAN"), Text(cursor), Text(b"MATCH"), Text(pattern), Text(b"COUNT"), Count(*count)];
                let typed = [Text(b"TYPE"), Text(kind.as_bytes())];
                self.add(&if kind.is_empty() { scan.to_vec() } else { [&scan[..], &typed].concat() });
            }
            Read::StreamLength(key) => self.put(command!(2, 4 "XLEN"), &[Text(key)]),
            Read::StreamGroups(key) => self.put(command!(3, 5 "XINFO"), &[Made(word!(6 "GROUPS")), Text(key)]),
            Read::StreamInfo(key) => self.put(command!(3, 5 "XINFO"), &[Made(word!(6 "STREAM")), Text(key)]),
            Read::StreamAfter(key, after, count) => {
                let start = if after.is_empty() { Made(word!(1 "-")) } else { After(after) };
                let words = [Text(key), start, Made(word!(1 "+")), Made(word!(5 "COUNT")), Count(*count)];
                self.put(command!(6, 6 "XRANGE"), &words);
            }
            Read::StreamTo(key, last, count) => {
                let words = [Text(key), Made(word!(1 "-")), Text(last), Made(word!(5 "COUNT")), Count(*count)];
                self.put(command!(6, 6 "XRANGE"), &words);
            }
            Read::StreamFirstPending(key, group) => {
                let words = [Text(key), Text(group), Made(word!(1 "-")), Made(word!(1 "+")), Number(1)];
                self.put(command!(6, 8 "XPENDING"), &words);
            }
            Read::Type(key) => self.put(command!(2, 4 "TYPE"), &[Text(key)]),
            Read::Time => self.put(command!(1, 4 "TIME"), &[]),
        }
    }

    /// Starts a transaction.
    pub fn add_multi(&mut self) {
        self.put(command!(1, 5 "MULTI"), &[]);
    }

    /// Ends it.
    pub fn add_exec(&mut self) {
        self.put(command!(1, 4 "EXEC"), &[]);
    }

    /// Adds a command by its start and all words but the first.
    fn put(&mut self, start: &str, words: &[Word]) {
        self.commands += 1;
        self.bytes.extend_from_slice(start.as_bytes());
        for word in words {
            self.word(*word);
        }
    }

    fn head(&mut self, kind: u8, length: usize) {
        match u8::try_from(length) {
            // Nearly all are.
            Ok(digit @ 0..10) => self.bytes.extend_from_slice(&[kind, b'0' + digit, b'\r', b'\n']),
            Ok(two @ 10..100) => self.bytes.extend_from_slice(&[kind, b'0' + two / 10, b'0' + two % 10, b'\r', b'\n']),
            _ => {
                self.bytes.push(kind);
                self.bytes.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.head(b'$', text.len());
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    fn word(&mut self, word: Word) {
        match word {
            Text(text) => self.text(text),
            Made(word) => self.bytes.extend_from_slice(word.as_bytes()),
            Number(number) => self.text(itoa::Buffer::new().format(number).as_bytes()),
            Count(number) => self.text(itoa::Buffer::new().format(number).as_bytes()),
            // As short as can be and yet the same number; Redis reads it with strtod.
            Score(score) => self.text(score.to_string().as_bytes()),
            Over(score) => self.text(format!("({score}").as_bytes()),
            After(id) => self.text(following(id).as_deref().map_or(id, str::as_bytes)),
        }
    }
}

/// The smallest id after one of a stream; `None` where this is none, or the last that there can be.
fn following(id: &[u8]) -> Option<String> {
    let (time, place) = std::str::from_utf8(id).ok()?.split_once('-')?;
    let (time, place) = (time.parse::<u64>().ok()?, place.parse::<u64>().ok()?);
    match place.checked_add(1) {
        Some(place) => Some(format!("{time}-{place}")),
        None => Some(format!("{}-0", time.checked_add(1)?)),
    }
}

/// Takes replies off what was read so far, however it is cut.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Arrays that are not whole yet, from the outermost on, each with how many items it lacks.
    open: Vec<(usize, Vec<Reply>)>,
}

impl Decoder {
    /// The next reply, which the bytes must start with; `None` until more has been read.
    ///
    /// # Errors
    /// [`ReadError::Shape`] where this is no RESP2; then nothing after it can be understood.
    pub fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Reply>, ReadError> {
        while let Some(item) = take(bytes)? {
            if let Item::Array(length) = item
                && length > 0
            {
                if self.open.len() >= DEEPEST {
                    return Err(ReadError::Shape("arrays nested too deep"));
                }
                self.open.push((length, Vec::with_capacity(length.min(PLACES))));
                continue;
            }
            let mut reply = match item {
                Item::Array(_) => Reply::Array(Vec::new()),
                Item::Whole(reply) => reply,
            };
            loop {
                let Some((missing, items)) = self.open.last_mut() else { return Ok(Some(reply)) };
                items.push(reply);
                *missing -= 1;
                if *missing > 0 {
                    break;
                }
                reply = Reply::Array(std::mem::take(items));
                self.open.pop();
            }
        }
        Ok(None)
    }
}

/// What one line says, with the string that follows it.
enum Item {
    Whole(Reply),
    /// So many items follow.
    Array(usize),
}

/// Takes one off the front.
fn take(bytes: &mut BytesMut) -> Result<Option<Item>, ReadError> {
    let Some((kind, rest)) = bytes.split_first() else { return Ok(None) };
    match kind {
        b':' => {
            let Some((number, length)) = number(rest)? else { return Ok(None) };
            bytes.advance(1 + length);
            Ok(Some(Item::Whole(Reply::Int(number))))
        }
        b'$' | b'*' => {
            let Some((number, line)) = number(rest)? else { return Ok(None) };
            if number == -1 {
                bytes.advance(1 + line);
                return Ok(Some(Item::Whole(Reply::Nil)));
            }
            let length = usize::try_from(number).map_err(|_| ReadError::Shape("a length below 0"))?;
            if *kind == b'*' {
                bytes.advance(1 + line);
                return Ok(Some(Item::Array(length)));
            }
            if length > LARGEST_STRING {
                return Err(ReadError::Shape("a string that is too long"));
            }
            let start = 1 + line;
            match bytes.get(start + length..start + length + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return Err(ReadError::Shape("a string of another length")),
            }
            bytes.advance(start);
            let string = bytes.split_to(length).freeze();
            bytes.advance(2);
            Ok(Some(Item::Whole(Reply::Bytes(string))))
        }
        // The reply that comes most often: to each command within MULTI.
        b'+' if bytes.starts_with(QUEUED) => {
            bytes.advance(QUEUED.len());
            Ok(Some(Item::Whole(Reply::Bytes(Bytes::from_static(b"QUEUED")))))
        }
        b'+' | b'-' => {
            let part = rest.get(..LONGEST_LINE - 1).unwrap_or(rest);
            let Some(end) = memchr::memchr(b'\n', part) else {
                return if bytes.len() < LONGEST_LINE {
                    Ok(None)
                } else {
                    Err(ReadError::Shape("a line without an end"))
                };
            };
            let text = part.get(..end).and_then(|line| line.strip_suffix(b"\r"));
            let text = text.ok_or(ReadError::Shape("a line that does not end as it must"))?;
            let reply = match kind {
                b'+' => Reply::Bytes(Bytes::copy_from_slice(text)),
                _ => Reply::Error(String::from_utf8_lossy(text).into_owned()),
            };
            bytes.advance(1 + end + 1);
            Ok(Some(Item::Whole(reply)))
        }
        _ => Err(ReadError::Shape("a reply of a kind that RESP2 does not have")),
    }
}

/// The number that a line holds, and the length of the line with its end; `None` until that has been read.
fn number(line: &[u8]) -> Result<Option<(i64, usize)>, ReadError> {
    let is_negative = line.first() == Some(&b'-');
    let start = usize::from(matches!(line.first(), Some(b'-' | b'+')));
    let length = line.iter().skip(start).take(LONGEST_NUMBER + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if length > LONGEST_NUMBER {
        return Err(ReadError::Shape("not a number"));
    }
    let end = start + length;
    match (line.get(end), line.get(end + 1)) {
        (None, _) => return Ok(None),
        (Some(b'\r'), None) if end > start => return Ok(None),
        (Some(b'\r'), Some(b'\n')) if end > start => {}
        _ => return Err(ReadError::Shape("not a number")),
    }
    let number = line
        .get(start..end)
        .and_then(reads::digits)
        .and_then(|number| if is_negative { 0_i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() });
    number.map(|number| Some((number, end + 2))).ok_or(ReadError::Shape("not a number"))
}

/// The replies that these bytes hold when they come in parts of this length, 1 or more: for tests and fuzzing.
///
/// # Errors
/// As [`Decoder::next`].
#[doc(hidden)]
pub fn replies(bytes: &[u8], part: usize) -> Result<Vec<Reply>, ReadError> {
    let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for part in bytes.chunks(part) {
        buffer.extend_from_slice(part);
        while let Some(reply) = decoder.next(&mut buffer)? {
            found.push(reply);
        }
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(read: Read) -> String {
        let mut batch = Batch::default();
        batch.add_read(&read);
        let words: Vec<u8> = batch.bytes().to_vec();
        let words = String::from_utf8(words).unwrap();
        // Every second line is a word.
        words.split("\r\n").skip(2).step_by(2).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn commands_are_as_their_documentation_says() {
        let key = || Bytes::from_static(b"k");
        let commands = [
            (Read::ListLength(key()), "LLEN k"),
            (Read::ListRange(key(), 0, -1), "LRANGE k 0 -1"),
            (
                Read::ListPosition { key: key(), element: "e".into(), rank: -1, count: 2, max: 256 },
                "LPOS k e RANK -1 COUNT 2 MAXLEN 256",
            ),
            (Read::SetCountTo(key(), 1_795_574_013.125), "ZCOUNT k -inf 1795574013.125"),
            (Read::SetCountAfter(key(), 0.1), "ZCOUNT k (0.1 +inf"),
            (Read::SetCountBetween(key(), f64::NEG_INFINITY, 2.0), "ZCOUNT k (-inf 2"),
            (Read::SetFirst(key()), "ZRANGE k 0 0 WITHSCORES"),
            (Read::SetFirsts(key(), 8), "ZRANGE k 0 7 WITHSCORES"),
            (Read::SetFirstAfter(key(), 1e20), "ZRANGEBYSCORE k (100000000000000000000 +inf WITHSCORES LIMIT 0 1"),
            (Read::GetStart(key(), 64), "GETRANGE k 0 63"),
            (Read::HashGets(key(), &["a", "b"]), "HMGET k a b"),
            (Read::Members { key: key(), cursor: "0".into(), count: 10 }, "SSCAN k 0 COUNT 10"),
            (
                Read::Scan { cursor: "7".into(), pattern: "p*".into(), count: 10, kind: "zset" },
                "SCAN 7 MATCH p* COUNT 10 TYPE zset",
            ),
            (Read::Scan { cursor: "7".into(), pattern: "p*".into(), count: 10, kind: "" }, "SCAN 7 MATCH p* COUNT 10"),
            (Read::StreamAfter(key(), Bytes::new(), 1), "XRANGE k - + COUNT 1"),
            (Read::StreamAfter(key(), "5-1".into(), 1), "XRANGE k 5-2 + COUNT 1"),
            (Read::StreamAfter(key(), "5-18446744073709551615".into(), 1), "XRANGE k 6-0 + COUNT 1"),
            (Read::StreamTo(key(), "5-1".into(), 9), "XRANGE k - 5-1 COUNT 9"),
            (Read::StreamFirstPending(key(), "g".into()), "XPENDING k g - + 1"),
            (Read::StreamInfo(key()), "XINFO STREAM k"),
            (Read::Time, "TIME"),
        ];
        for (read, words) in commands {
            assert_eq!(sent(read), words);
        }
    }

    /// One of each kind.
    fn all_reads() -> Vec<Read> {
        let key = || Bytes::from_static(b"k");
        vec![
            Read::ListLength(key()),
            Read::ListRange(key(), -10, 100),
            Read::ListPosition { key: key(), element: "element".into(), rank: -1, count: 2, max: 12_345 },
            Read::SetSize(key()),
            Read::SetCountTo(key(), 0.5),
            Read::SetCountAfter(key(), 0.5),
            Read::SetCountBetween(key(), 0.5, 1e20),
            Read::SetFirsts(key(), 8),
            Read::SetFirst(key()),
            Read::SetFirstAfter(key(), 0.5),
            Read::Get(key()),
            Read::GetStart(key(), 64),
            Read::Exists(key()),
            Read::HashLength(key()),
            Read::HashGet(key(), "f".into()),
            Read::HashGets(key(), &["a", "b"]),
            Read::HashValueLength(key(), "f".into()),
            Read::HashValues(key()),
            Read::MemberCount(key()),
            Read::Members { key: key(), cursor: "0".into(), count: 10 },
            Read::Scan { cursor: "0".into(), pattern: "*".into(), count: 10, kind: "zset" },
            Read::StreamLength(key()),
            Read::StreamGroups(key()),
            Read::StreamInfo(key()),
            Read::StreamAfter(key(), Bytes::new(), 1),
            Read::StreamAfter(key(), "1-1".into(), 1),
            Read::StreamTo(key(), "1-1".into(), 1),
            Read::StreamFirstPending(key(), "g".into()),
            Read::Type(key()),
            Read::Time,
        ]
    }

    /// What a server reads is what was meant: as many words as are told, each as long as is told.
    #[test]
    fn every_command_is_whole() {
        for read in all_reads() {
            let mut batch = Batch::default();
            batch.add_multi();
            batch.add_read(&read);
            batch.add_exec();
            let found = replies(batch.bytes(), 4_096).unwrap();
            let words = |reply: &Reply| match reply {
                Reply::Array(words) => words.len(),
                _ => 0,
            };
            assert_eq!((found.len(), batch.commands()), (3, 3), "{read:?}");
            assert!(found.iter().all(|reply| words(reply) > 0), "{read:?}");
        }
    }

    #[test]
    fn lengths_are_those_of_bytes() {
        let mut batch = Batch::default();
        batch.add_read(&Read::HashGet("\u{e9}\r\n".into(), Bytes::new()));
        assert_eq!(batch.bytes(), "*3\r\n$4\r\nHGET\r\n$4\r\n\u{e9}\r\n\r\n$0\r\n\r\n".as_bytes());
        assert_eq!(batch.commands(), 1);
    }

    #[test]
    fn what_is_no_resp2_is_told() {
        for bad in ["x\r\n", "\r\n", "\n", ":x\r\n", "$-2\r\n", "$3\r\nabcde", "*-2\r\n", "$999999999999\r\n", "#t\r\n"]
        {
            assert!(replies(bad.as_bytes(), 1).is_err(), "{bad:?}");
        }
        assert!(replies("*1\r\n".repeat(DEEPEST + 1).as_bytes(), 1).is_err());
        assert!(replies(&[b'+'; LONGEST_LINE], 4_096).is_err());
        // No memory is set aside for what is only promised.
        assert_eq!(replies(b"*2147483647\r\n:1\r\n", 4_096), Ok(vec![]));
    }

    fn encoded(reply: &Reply, bytes: &mut Vec<u8>) {
        match reply {
            Reply::Nil => bytes.extend_from_slice(b"$-1\r\n"),
            Reply::Int(number) => bytes.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Reply::Error(text) => bytes.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Reply::Bytes(text) => {
                bytes.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
                bytes.extend_from_slice(text);
                bytes.extend_from_slice(b"\r\n");
            }
            Reply::Array(items) => {
                bytes.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                items.iter().for_each(|item| encoded(item, bytes));
            }
        }
    }

    fn any_reply() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            Just(Reply::Nil),
            any::<i64>().prop_map(Reply::Int),
            "[ -~]{0,20}".prop_map(Reply::Error),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Reply::Bytes(bytes.into())),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Reply::Array))
    }

    #[test]
    fn numbers_are_whole_and_nothing_else() {
        let number = |text: &str| replies(format!(":{text}\r\n").as_bytes(), 3).map(|found| found[0].clone());
        for kept in [i64::MIN, -1, 0, 7, 10, i64::MAX] {
            assert_eq!(number(&kept.to_string()), Ok(Reply::Int(kept)));
        }
        assert_eq!(number("+7"), Ok(Reply::Int(7)));
        for odd in ["", "-", "+", "--1", "1.5", "1e3", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "x"] {
            assert!(number(odd).is_err(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn replies_are_found_however_they_are_cut(
            wanted in proptest::collection::vec(any_reply(), 0..6),
            part in 1_usize..64,
        ) {
            let mut bytes = Vec::new();
            wanted.iter().for_each(|reply| encoded(reply, &mut bytes));
            prop_assert_eq!(replies(&bytes, part), Ok(wanted));
        }

        #[test]
        fn any_bytes_are_read_alike_however_they_are_cut(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'*'), Just(b'$'), Just(b':'), Just(b'1'), any::<u8>()], 0..80),
            part in 1_usize..20,
        ) {
            // Where they are no RESP2, parts may give some replies before that is seen.
            let whole = replies(&bytes, 80.max(bytes.len()));
            prop_assert_eq!(replies(&bytes, part), whole);
        }
    }
}
