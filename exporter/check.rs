//! `queue-exporter check`: reads every queue once, says what it found, what is wrong and how to mend it.
//!
//! Beside the look of the poll it asks the type of each key, and it looks at both ends of each list a second apart: a list
//! to which jobs are added at the end where the oldest should wait has its ends the wrong way round.

use crate::config::Config;
use crate::curve::Age;
use crate::layout::{ListEnds, Observation};
use crate::reader::{Outcome, Reader};
use crate::reads::{Asks, Read, ReadError, Replies, Reply, bytes_of};
use crate::redis::Connection;
use crate::spec::Queue;
use bytes::Bytes;
use serde::Serialize;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How the result is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Output {
    /// A table for people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// What was found of one queue. Fields that can't be known are left out.
#[derive(Debug, Serialize)]
pub struct Finding {
    queue: String,
    layout: &'static str,
    readable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delayed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_job_age_seconds: Option<f64>,
    notes: Vec<String>,
}

/// The time between the two looks at the ends of a list: long enough for a queue that is at work to move.
const BETWEEN: Duration = Duration::from_secs(1);
/// How far an element that was at an end may have moved in between.
const MOVED: i64 = 10_000;
/// How long queues are searched for: some 20 million keys.
const SEARCH: Duration = Duration::from_secs(10);

/// Reads every queue and returns what is to be printed, and whether all of them could be read.
pub async fn check(config: Config, output: Output) -> (String, bool) {
    let (found, mut findings) = find(&config).await;
    let queues: Vec<Queue> = config.queues.into_iter().chain(found).take(config.max_queues).collect();
    let names: Vec<(String, &'static str)> =
        queues.iter().map(|queue| (queue.label.clone(), queue.entry.name)).collect();
    let keys: Vec<(Bytes, Option<ListEnds>)> =
        queues.iter().map(|queue| (queue.layout.key().clone(), queue.layout.ends())).collect();
    let probes = match Connection::open(&config.redis, &[]).await {
        Ok(mut connection) => probe(&mut connection, &keys).await,
        Err(_) => vec![Probe::default(); keys.len()],
    };
    let outcomes = Reader::new(config.redis, queues, &[], config.discovery_ttl).read().await;
    let of_queues = names.into_iter().zip(outcomes).zip(probes);
    findings.splice(0..0, of_queues.map(|((name, outcome), probe)| finding(name, outcome, &probe)));
    let all_read = findings.iter().all(|finding| finding.readable);
    let text = match output {
        Output::Table => table(&findings),
        Output::Json => serde_json::to_string_pretty(&findings).unwrap_or_default() + "\n",
    };
    (text, all_read)
}

/// The queues that the configured patterns find within [`SEARCH`], and the patterns that could not be searched for.
async fn find(config: &Config) -> (Vec<Queue>, Vec<Finding>) {
    let mut labels: HashSet<String> = config.queues.iter().map(|queue| queue.label.clone()).collect();
    let mut reader = Reader::new(config.redis.clone(), Vec::new(), &config.discoveries, config.discovery_ttl);
    let end = Instant::now() + SEARCH;
    let is_done = |reader: &Reader| reader.finders().all(|(finder, error)| finder.sweeps() > 0 || error.is_some());
    while !is_done(&reader) && Instant::now() < end {
        reader.read().await;
        if reader.silence().is_some() {
            break;
        }
    }
    let (mut found, mut faults) = (Vec::new(), Vec::new());
    for ((finder, error), discovery) in reader.finders().zip(&config.discoveries) {
        let undone = || ReadError::Mismatch(format!("not all keys were searched within {} s", SEARCH.as_secs()));
        let unsearched = || reader.silence().cloned().unwrap_or_else(undone);
        if let Some(error) = error.cloned().or_else(|| (finder.sweeps() == 0).then(unsearched)) {
            let name = (discovery.pattern(), discovery.entry.name);
            faults.push(finding(name, Err(error), &Probe::default()));
        }
        let wanted = finder.names().filter(|name| discovery.wants(name));
        let queues = wanted.map(|name| discovery.queue(name.clone()));
        found.extend(queues.filter(|queue| labels.insert(queue.label.clone())));
    }
    (found, faults)
}

/// What `check` asks beside a look.
#[derive(Clone, Debug, Default)]
struct Probe {
    /// The type of the key; `none` where it does not exist.
    kind: Option<String>,
    /// Jobs are added where the oldest should wait, and leave where new ones should come.
    wrong_end: bool,
}

async fn probe(connection: &mut Connection, keys: &[(Bytes, Option<ListEnds>)]) -> Vec<Probe> {
    let before = ends(connection, keys).await;
    let some_list_moves = before.iter().any(Option::is_some);
    if some_list_moves {
        tokio::time::sleep(BETWEEN).await;
    }
    let mut asks = Asks::default();
    for ((key, ends), before) in keys.iter().zip(&before) {
        asks.add(true, |ask| {
            ask.plain.push(Read::Type(key.clone()));
            if let (Some(ends), Some((newest, oldest))) = (ends, before) {
                let rank = if ends.newest_first { 1 } else { -1 };
                for (element, rank) in [(newest, rank), (oldest, -rank)] {
                    let (key, element) = (key.clone(), element.clone());
                    ask.plain.push(Read::ListPosition { key, element, rank, count: 1, max: MOVED });
                }
                ask.plain.push(Read::ListLength(key.clone()));
            }
        });
    }
    let mut replies = Replies::of_many(connection.read(&asks).await);
    asks.requests()
        .zip(keys)
        .map(|(request, (_, ends))| {
            replies.turn(request.size());
            let kind = match replies.take().ok() {
                Some(Reply::Bytes(kind)) => Some(String::from_utf8_lossy(&kind).into_owned()),
                _ => None,
            };
            let mut position = || match replies.take().ok() {
                Some(Reply::Array(found)) => Some(found.first().and_then(|found| match found {
                    Reply::Int(index) => Some(*index),
                    _ => None,
                })),
                _ => None,
            };
            let (newest, oldest) = (position(), position());
            let length = match replies.take() {
                Ok(Reply::Int(length)) => length,
                _ => 0,
            };
            let end = ends.map_or(0, |ends| if ends.newest_first { length - 1 } else { 0 });
            // The newest has left, and something has come behind the oldest.
            let wrong_end = newest == Some(None) && oldest.flatten().is_some_and(|index| index != end);
            Probe { kind, wrong_end }
        })
        .collect()
}

/// The newest and the oldest element of each list that has two or more.
async fn ends(connection: &mut Connection, keys: &[(Bytes, Option<ListEnds>)]) -> Vec<Option<(Bytes, Bytes)>> {
    let mut asks = Asks::default();
    for (key, ends) in keys {
        asks.add(true, |ask| {
            if let Some(ends) = ends {
                let (newest, oldest) = if ends.newest_first { (0, -1) } else { (-1, 0) };
                ask.plain.push(Read::ListRange(key.clone(), newest, newest));
                ask.plain.push(Read::ListRange(key.clone(), oldest, oldest));
            }
        });
    }
    let mut replies = Replies::of_many(connection.read(&asks).await);
    let element = |replies: &mut Replies| bytes_of(replies.array().ok()?).into_iter().next();
    let found = asks.requests().map(|request| {
        replies.turn(request.size());
        let (newest, oldest) = (element(&mut replies)?, element(&mut replies)?);
        (newest != oldest).then_some((newest, oldest))
    });
    found.collect()
}

fn finding((queue, layout): (String, &'static str), outcome: Outcome, probe: &Probe) -> Finding {
    let mut notes = Vec::new();
    let seen = match &outcome {
        Ok(seen) => {
            notes.extend(remarks(layout, seen, probe));
            *seen
        }
        Err(error) => {
            notes.push(remedy(error, layout, probe));
            Observation::default()
        }
    };
    let oldest_job_age_seconds = match seen.age {
        Age::Known { seconds, .. } => Some(seconds),
        _ => None,
    };
    Finding {
        queue,
        layout,
        readable: outcome.is_ok(),
        length: seen.length,
        in_flight: seen.in_flight,
        delayed: seen.delayed,
        oldest_job_age_seconds,
        notes,
    }
}

/// What is worth knowing of a queue that can be read.
fn remarks(layout: &str, seen: &Observation, probe: &Probe) -> Vec<String> {
    let mut notes = Vec::new();
    if probe.kind.as_deref() == Some("none") {
        notes.push(
            "no such key: an empty queue, or another name; Redis drops a list or set when its last job leaves".into(),
        );
    }
    if probe.wrong_end {
        notes.push(
            "jobs come in where the oldest should wait: the ends are the wrong way round; set oldest=head for RPUSH and \
             LPOP, oldest=tail for LPUSH and RPOP"
                .into(),
        );
    }
    if seen.length.is_none() {
        let why = match layout {
            "arq" => "the first due jobs are all in flight, and more may wait: length and in flight are absent",
            _ => "Redis gives no lag of the group, and too many entries wait to count them: the length is absent",
        };
        notes.push(why.into());
    }
    if layout == "stream" && seen.length.is_some_and(|length| length > 0) && seen.age == Age::Unknown {
        notes.push("the ids of the entries are no times: the age is absent".into());
    }
    if layout == "list" && matches!(seen.age, Age::AtLeast(_)) {
        notes.push("its age will be known once the jobs that are there now have left; with time=PATH, at once".into());
    }
    notes
}

/// What is wrong with a queue that can't be read, and how to mend it.
fn remedy(error: &ReadError, layout: &str, probe: &Probe) -> String {
    match (error.kind(), &probe.kind) {
        ("wrong_type", Some(kind)) => format!(
            "the key is a {kind}, not what layout {layout} reads: set the layout that fits, or the right key ({error})"
        ),
        ("wrong_type", None) => format!("a key is not what layout {layout} reads: set the layout that fits ({error})"),
        ("no_permission", _) => {
            format!("the user may not do that: give it the commands in the README's ACL SETUSER line ({error})")
        }
        ("login", _) => format!("check user and password in REDIS_URL ({error})"),
        ("no_answer", _) => format!("check host, port and TLS in REDIS_URL, and that Redis runs ({error})"),
        _ => error.to_string(),
    }
}

fn table(findings: &[Finding]) -> String {
    let dash = || "–".to_string();
    let count = |count: Option<u64>| count.map_or_else(dash, |count| count.to_string());
    let age = |age: Option<f64>| age.map_or_else(dash, |age| format!("{age:.1} s"));
    let mut rows = vec![["", "queue", "layout", "length", "in flight", "delayed", "oldest waits"].map(String::from)];
    for finding in findings {
        rows.push([
            if finding.readable { "ok" } else { "FAIL" }.to_string(),
            finding.queue.clone(),
            finding.layout.to_string(),
            count(finding.length),
            count(finding.in_flight),
            count(finding.delayed),
            age(finding.oldest_job_age_seconds),
        ]);
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..7).map(|column| width(column).unwrap_or(0)).collect();
    let notes = std::iter::once(&[][..]).chain(findings.iter().map(|finding| &finding.notes[..]));
    let mut text = String::new();
    for (row, notes) in rows.iter().zip(notes) {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let _ = if column < 3 { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        let _ = writeln!(text, "{}", line.trim_end());
        for note in notes {
            let _ = writeln!(text, "      {note}");
        }
    }
    text
}
