//! Random histories of a stream and its group on a real Redis: after each step the length is the number of entries that
//! were not delivered, counted one by one. `PROPTEST_CASES` is how many histories, 300 unless set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use queue_exporter::config::Config;
use queue_exporter::curve::Age;
use queue_exporter::flow::Count;
use queue_exporter::reader::Reader;
use support::Redis;

/// So many entries are counted one by one, at either end.
const COUNT_MAX: u64 = 1_000;
/// More than that.
const MANY: usize = 1_030;

#[derive(Clone, Debug)]
enum Step {
    /// [`MANY`].
    AddMany,
    DeliverMany,
    Add(u8),
    Deliver(u8),
    Acknowledge(u8),
    /// Deletes the entry at this place among all.
    Delete(u8),
    /// Keeps so many.
    Trim(u8),
    /// Moves the group to the entry at this place.
    SetId(u8),
    /// To the start, or to the end.
    Recreate(bool),
    Drop,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::AddMany),
        1 => Just(Step::DeliverMany),
        6 => (1_u8..5).prop_map(Step::Add),
        4 => (1_u8..5).prop_map(Step::Deliver),
        3 => (1_u8..4).prop_map(Step::Acknowledge),
        2 => any::<u8>().prop_map(Step::Delete),
        1 => (0_u8..6).prop_map(Step::Trim),
        1 => any::<u8>().prop_map(Step::SetId),
        1 => any::<bool>().prop_map(Step::Recreate),
        1 => Just(Step::Drop),
    ]
}

struct World {
    connection: redis::Connection,
}

impl World {
    fn run<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        support::command(words).query(&mut self.connection).unwrap()
    }

    fn ids(&mut self) -> Vec<String> {
        let entries: Vec<(String, Vec<String>)> = self.run(&["XRANGE", "s", "-", "+"]);
        entries.into_iter().map(|(id, _)| id).collect()
    }

    fn exists(&mut self) -> bool {
        self.run::<u32>(&["EXISTS", "s"]) == 1
    }

    fn add(&mut self, count: usize) {
        let mut pipe = redis::pipe();
        for _ in 0..count {
            pipe.add_command(support::command(&["XADD", "s", "*", "f", "v"]));
        }
        pipe.query::<redis::Value>(&mut self.connection).unwrap();
    }

    fn deliver(&mut self, count: usize) {
        let (count, words) = (count.to_string(), ["XREADGROUP", "GROUP", "workers", "c", "COUNT"]);
        self.run::<redis::Value>(&[&words[..], &[&count, "STREAMS", "s", ">"]].concat());
    }

    fn groups(&mut self) -> Vec<std::collections::HashMap<String, redis::Value>> {
        if self.exists() { self.run(&["XINFO", "GROUPS", "s"]) } else { Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        let at = |ids: &[String], place: u8| ids.get(usize::from(place) % ids.len().max(1)).cloned();
        if self.groups().is_empty() {
            self.run::<()>(&["XGROUP", "CREATE", "s", "workers", "0", "MKSTREAM"]);
        }
        match step {
            Step::AddMany => self.add(MANY),
            Step::Add(count) => self.add((*count).into()),
            Step::DeliverMany => self.deliver(MANY),
            Step::Deliver(count) => self.deliver((*count).into()),
            Step::Acknowledge(count) => {
                let pending: Vec<(String, String, u64, u64)> =
                    self.run(&["XPENDING", "s", "workers", "-", "+", &count.to_string()]);
                pending.iter().for_each(|(id, ..)| _ = self.run::<u64>(&["XACK", "s", "workers", id]));
            }
            Step::Delete(place) => {
                let ids = self.ids();
                at(&ids, *place).iter().for_each(|id| _ = self.run::<u64>(&["XDEL", "s", id]));
            }
            Step::Trim(count) => _ = self.run::<u64>(&["XTRIM", "s", "MAXLEN", &count.to_string()]),
            Step::SetId(place) => {
                let ids = self.ids();
                at(&ids, *place).iter().for_each(|id| self.run::<()>(&["XGROUP", "SETID", "s", "workers", id]));
            }
            Step::Recreate(at_start) => {
                self.run::<u64>(&["XGROUP", "DESTROY", "s", "workers"]);
                self.run::<()>(&["XGROUP", "CREATE", "s", "workers", if *at_start { "0" } else { "$" }]);
            }
            Step::Drop => _ = self.run::<u64>(&["DEL", "s"]),
        }
    }

    /// What is so, by looking at each entry.
    fn truth(&mut self) -> Truth {
        let groups = self.groups();
        let Some(group) = groups.first() else { return Truth::default() };
        let delivered: String = redis::from_redis_value(group["last-delivered-id"].clone()).unwrap();
        let pending: u64 = redis::from_redis_value(group["pending"].clone()).unwrap();
        let parts = |id: &str| {
            let (time, place) = id.split_once('-').unwrap();
            (time.parse::<u64>().unwrap(), place.parse::<u64>().unwrap())
        };
        let ids = self.ids();
        let waiting: Vec<_> = ids.iter().map(|id| parts(id)).filter(|id| *id > parts(&delivered)).collect();
        let first = waiting.first().map(|(time, _)| *time as f64 / 1e3);
        let info: std::collections::HashMap<String, redis::Value> = self.run(&["XINFO", "STREAM", "s"]);
        let added = info.get("entries-added").map(|added| redis::from_redis_value(added.clone()).unwrap());
        Truth { waiting: waiting.len() as u64, delivered: (ids.len() - waiting.len()) as u64, first, pending, added }
    }
}

#[derive(Debug, Default)]
struct Truth {
    waiting: u64,
    /// Of those that are still there.
    delivered: u64,
    /// When the first of those that wait came.
    first: Option<f64>,
    pending: u64,
    /// Ever added, where Redis knows that.
    added: Option<u64>,
}

/// A Redis and an exporter's reader of its stream; each history starts afresh.
struct Bench {
    redis: Redis,
    world: World,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn start() -> Self {
        let redis = Redis::start();
        let world = World { connection: redis.connect() };
        Self { world, redis, runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap() }
    }

    /// Takes each step, looks where it says so, and compares.
    fn follow(&mut self, history: &[(Step, bool)]) -> Result<(), TestCaseError> {
        self.world.run::<redis::Value>(&["FLUSHALL"]);
        let variables = [("REDIS_URL", self.redis.url()), ("QUEUES", "stream:s".to_string())];
        let config = Config::from_env(variables.map(|(name, value)| (name.into(), value.into())).into_iter()).unwrap();
        let mut reader = Reader::new(config.redis, config.queues, &[], config.discovery_ttl);
        for (step, looks) in history {
            self.world.take(step);
            // What is lost and what is delivered after it between two looks can't be told from what is delivered.
            if !looks && !matches!(step, Step::Delete(_) | Step::Trim(_)) {
                continue;
            }
            let seen = self.runtime.block_on(reader.read()).pop().unwrap();
            let truth = self.world.truth();
            let seen = match seen {
                Ok(seen) => seen,
                Err(error) => return Err(TestCaseError::fail(format!("after {step:?}: {error}"))),
            };
            // Absent only where it can't be counted from either end.
            if seen.length.is_some() || truth.waiting <= COUNT_MAX || truth.delivered <= COUNT_MAX {
                prop_assert_eq!(seen.length, Some(truth.waiting), "after {:?}: {:?}", step, truth);
            }
            prop_assert_eq!(seen.in_flight, Some(truth.pending), "after {:?}", step);
            if let (Count::Total(arrivals), Some(added)) = (seen.counts.arrivals, truth.added) {
                // Redis's own count forgets those that were lost before the group read anything.
                prop_assert!(arrivals <= added, "{} after {:?}: {:?}", arrivals, step, truth);
            }
            match (truth.first, seen.age) {
                (None, age) => prop_assert_eq!(age, Age::EMPTY),
                (Some(first), Age::Known { seconds, .. }) => {
                    let truth = queue_exporter::clock::unix_now() - first;
                    prop_assert!((truth - seconds).abs() < 0.5, "age {} for {}", seconds, truth);
                }
                (Some(_), age) => prop_assert!(false, "age {:?}", age),
            }
        }
        Ok(())
    }
}

#[test]
fn the_length_is_the_number_of_undelivered_entries_whatever_happens() {
    let bench = std::cell::RefCell::new(Bench::start());
    let histories = prop::collection::vec((step(), any::<bool>()), 1..60);
    let cases = std::env::var("PROPTEST_CASES").map_or(300, |cases| cases.parse().unwrap());
    TestRunner::new(Cases { cases, failure_persistence: None, ..Cases::default() })
        .run(&histories, |history| bench.borrow_mut().follow(&history))
        .unwrap();
}

/// Histories that were once misread: the last delivered entry goes after a lag that was too high, so that Redis says 0 for
/// a while.
#[test]
fn a_lag_of_zero_does_not_hide_that_later_ones_are_too_high() {
    use Step::{Acknowledge, Add, Delete, Deliver};
    let unseen = |steps: &[Step]| steps.iter().map(|step| (step.clone(), false)).collect::<Vec<_>>();
    let mut bench = Bench::start();
    let start = [Add(3), Deliver(1), Delete(9), Delete(104), Add(1), Deliver(2), Delete(103), Add(2)];
    bench.follow(&[unseen(&start), vec![(Deliver(1), true)]].concat()).unwrap();
    let start = [Add(6), Deliver(4), Add(4), Delete(34), Add(1), Deliver(2), Add(1), Deliver(3)];
    let then = [Delete(10), Acknowledge(1), Delete(0), Add(1), Deliver(1)];
    bench.follow(&[unseen(&start), vec![(Deliver(2), true)], unseen(&then), vec![(Add(1), true)]].concat()).unwrap();
}
