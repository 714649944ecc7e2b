//! The list watcher against a model that knows every job: random histories, both directions, virtual time.
//!
//! What must hold on every first-in first-out history: the true age of the oldest job lies within the published bound at
//! every look, the bound is no more than one poll, and counts are exact at every look that says so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use bytes::Bytes;
use proptest::prelude::*;
use queue_exporter::curve::Age;
use queue_exporter::fifo::{Fifo, Look, Seen};
use queue_exporter::reads::{Ask, Read, Replies, Reply};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A list that knows when each of its elements came; index 0 is the newest.
struct Model {
    start: Instant,
    now: f64,
    newest_first: bool,
    jobs: VecDeque<(Bytes, f64)>,
    made: u64,
    came: u64,
    left: i64,
}

impl Model {
    fn new(newest_first: bool) -> Self {
        Self { start: Instant::now(), now: 0.0, newest_first, jobs: VecDeque::new(), made: 0, came: 0, left: 0 }
    }

    fn push(&mut self, jobs: u64) {
        for _ in 0..jobs {
            self.made += 1;
            self.push_payload(Bytes::from(format!("job {}", self.made)));
        }
    }

    fn push_payload(&mut self, payload: Bytes) {
        self.jobs.push_front((payload, self.now));
        self.came += 1;
    }

    fn pop(&mut self, jobs: u64) {
        for _ in 0..jobs {
            if self.jobs.pop_back().is_some() {
                self.left += 1;
            }
        }
    }

    fn reply(&self, read: &Read) -> Reply {
        let length = self.jobs.len() as i64;
        let position = |index: usize| {
            if self.newest_first { index as i64 } else { length - 1 - index as i64 }
        };
        match read {
            Read::ListLength(_) => Reply::Int(length),
            Read::ListRange(_, start, stop) => {
                assert!((*start, *stop) == if self.newest_first { (0, 1) } else { (-2, -1) });
                let mut newest: Vec<Reply> =
                    self.jobs.iter().take(2).map(|(job, _)| Reply::Bytes(job.clone())).collect();
                if !self.newest_first {
                    newest.reverse();
                }
                Reply::Array(newest)
            }
            Read::ListPosition { element, rank, count, max, .. } => {
                let from_new = (*rank == 1) == self.newest_first;
                let order: Box<dyn Iterator<Item = usize>> =
                    if from_new { Box::new(0..self.jobs.len()) } else { Box::new((0..self.jobs.len()).rev()) };
                let found = order.take(*max as usize).filter(|index| self.jobs[*index].0 == *element);
                Reply::Array(found.take(*count as usize).map(|index| Reply::Int(position(index))).collect())
            }
            other => panic!("not a read of a list: {other:?}"),
        }
    }

    /// One look of at most three rounds, as the poller does it.
    fn look(&self, fifo: &mut Fifo) -> Seen {
        let at = self.start + Duration::from_secs_f64(self.now);
        for _ in 0..3 {
            let mut ask = Ask::default();
            fifo.ask(&mut ask);
            let replies = ask.atomic.iter().map(|read| Ok(self.reply(read))).collect();
            let look = Look { sent: at, received: at, unix: 0.0, pops: None };
            if let Some(seen) = fifo.answer(&mut Replies::new(replies), look).unwrap() {
                return seen;
            }
        }
        panic!("a fourth round was asked for");
    }

    fn true_age(&self) -> f64 {
        self.jobs.back().map_or(0.0, |(_, came)| self.now - came)
    }
}

#[derive(Clone, Debug)]
enum Event {
    Push(u64),
    Pop(u64),
    Wait(f64),
    Look,
}

fn history() -> impl Strategy<Value = Vec<Event>> {
    // Small and large pushes and pops, so that queues drain, stay short, and grow past every bound of the search.
    let event = prop_oneof![
        4 => (1_u64..20).prop_map(Event::Push),
        1 => (100_u64..12_000).prop_map(Event::Push),
        4 => (1_u64..20).prop_map(Event::Pop),
        1 => (100_u64..12_000).prop_map(Event::Pop),
        4 => (0.01_f64..0.4).prop_map(Event::Wait),
        4 => Just(Event::Look),
    ];
    prop::collection::vec(event, 1..250)
}

const POLL: f64 = 1.0;
const SLACK: f64 = 1e-6;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn ages_are_in_bound_and_counts_are_exact_on_every_fifo_history(events in history(), newest_first: bool) {
        let mut model = Model::new(newest_first);
        let mut fifo = Fifo::new(Bytes::from_static(b"q"), newest_first);
        let first = model.look(&mut fifo);
        prop_assert_eq!(first.step, None);
        let (mut came, mut left, mut looked, mut longest) = (0, 0, 0.0, 0.0_f64);
        for event in events {
            match &event {
                Event::Push(jobs) => model.push(*jobs),
                Event::Pop(jobs) => model.pop(*jobs),
                Event::Wait(seconds) => model.now += *seconds,
                Event::Look => {}
            }
            // The poller looks about once a poll, whatever happens.
            if !matches!(event, Event::Look) && model.now - looked < POLL {
                continue;
            }
            longest = longest.max(model.now - looked);
            let seen = model.look(&mut fifo);
            let step = seen.step.unwrap();
            prop_assert_eq!(seen.length, model.jobs.len() as u64);
            let (arrivals, departures) = (model.came - came, model.left - left);
            if step.exact {
                prop_assert_eq!((step.arrivals, step.departures), (arrivals, departures));
            } else {
                prop_assert!(step.arrivals <= arrivals && step.departures <= departures, "no lower bound: {:?}", step);
            }
            let Age::Known { seconds, error } = seen.age else {
                return Err(TestCaseError::fail(format!("no age: {:?}", seen.age)));
            };
            prop_assert!((seconds - model.true_age()).abs() <= error + SLACK, "{} ± {} is not {}", seconds, error, model.true_age());
            prop_assert!(error <= longest, "a bound of {}, with looks {} apart at most", error, longest);
            (came, left, looked) = (model.came, model.left, model.now);
        }
    }

    #[test]
    fn a_backlog_from_before_the_start_has_a_least_age_until_it_has_left(backlog in 1_u64..300, pops in prop::collection::vec(0_u64..40, 1..40)) {
        let mut model = Model::new(true);
        model.push(backlog);
        let mut fifo = Fifo::new(Bytes::from_static(b"q"), true);
        model.look(&mut fifo);
        for pop in pops {
            model.now += POLL;
            model.push(1);
            model.pop(pop);
            let seen = model.look(&mut fifo);
            match seen.age {
                Age::Known { seconds, error } => {
                    prop_assert!((seconds - model.true_age()).abs() <= error + SLACK);
                    prop_assert!(model.left >= backlog as i64);
                }
                Age::AtLeast(seconds) => prop_assert!(seconds <= model.true_age() + SLACK),
                Age::Unknown => return Err(TestCaseError::fail("no age")),
            }
        }
    }
}

/// A steady queue of `backlog` jobs, watched for a minute before something happens to it.
fn steady(backlog: u64, newest_first: bool) -> (Model, Fifo) {
    let mut model = Model::new(newest_first);
    let mut fifo = Fifo::new(Bytes::from_static(b"q"), newest_first);
    model.look(&mut fifo);
    model.push(backlog);
    for _ in 0..60 {
        minute_step(&mut model, &mut fifo);
    }
    (model, fifo)
}

/// One poll in which 20 jobs come and 20 leave.
fn minute_step(model: &mut Model, fifo: &mut Fifo) -> Seen {
    for _ in 0..20 {
        model.now += POLL / 20.0;
        model.push(1);
        model.pop(1);
    }
    model.look(fifo)
}

/// Polls on for a minute; the share of looks whose published bound misses the truth must be 0, after `settle` looks.
fn assert_true_from(model: &mut Model, fifo: &mut Fifo, settle: usize) {
    for look in 0..60 {
        let seen = minute_step(model, fifo);
        if look < settle {
            continue;
        }
        match seen.age {
            Age::Known { seconds, error } => {
                let truth = model.true_age();
                assert!((seconds - truth).abs() <= error + SLACK, "look {look}: {seconds} ± {error} is not {truth}");
            }
            Age::AtLeast(seconds) => assert!(seconds <= model.true_age() + SLACK, "look {look}"),
            Age::Unknown => {}
        }
    }
}

#[test]
fn elements_removed_from_the_middle_are_noticed_at_the_next_look() {
    for newest_first in [true, false] {
        let (mut model, mut fifo) = steady(2_000, newest_first);
        let mut index = 0;
        model.jobs.retain(|_| {
            index += 1;
            !(600..1_400).contains(&index) || index % 2 == 0
        });
        assert_true_from(&mut model, &mut fifo, 0);
    }
}

#[test]
fn the_newest_removed_time_and_again_never_look_like_a_drain() {
    for newest_first in [true, false] {
        let (mut model, mut fifo) = steady(1_000, newest_first);
        for _ in 0..30 {
            model.jobs.pop_front();
            let seen = model.look(&mut fifo);
            assert!(matches!(seen.age, Age::Known { seconds, .. } if seconds > 10.0), "{seen:?}");
            assert_true_from(&mut model, &mut fifo, 0);
        }
    }
}

#[test]
fn a_trim_at_either_end_keeps_ages_true() {
    for newest_first in [true, false] {
        let (mut model, mut fifo) = steady(2_000, newest_first);
        model.jobs.truncate(1_000);
        assert_true_from(&mut model, &mut fifo, 0);
        let (mut model, mut fifo) = steady(2_000, newest_first);
        model.jobs.drain(..1_000);
        assert_true_from(&mut model, &mut fifo, 0);
    }
}

#[test]
fn a_deleted_list_starts_anew() {
    let (mut model, mut fifo) = steady(2_000, true);
    model.jobs.clear();
    let seen = minute_step(&mut model, &mut fifo);
    assert!(!seen.step.unwrap().exact);
    assert_true_from(&mut model, &mut fifo, 0);
}

#[test]
fn a_returned_job_makes_the_age_a_least_age_and_departures_net() {
    let (mut model, mut fifo) = steady(500, true);
    let taken = model.jobs.pop_back().unwrap();
    model.left += 1;
    assert_eq!(model.look(&mut fifo).step.unwrap().departures, 1);
    model.jobs.push_back(taken);
    let seen = model.look(&mut fifo);
    assert_eq!(seen.step.unwrap().departures, -1);
    assert!(matches!(seen.age, Age::AtLeast(seconds) if seconds <= model.true_age() + SLACK), "{:?}", seen.age);
}

#[test]
fn equal_payloads_are_never_counted_as_exact_nor_dated() {
    let mut model = Model::new(true);
    let mut fifo = Fifo::new(Bytes::from_static(b"q"), true);
    model.look(&mut fifo);
    for look in 0..60 {
        model.now += POLL;
        for _ in 0..10 {
            model.push_payload(Bytes::from_static(b"tick"));
        }
        model.pop(9);
        let seen = model.look(&mut fifo);
        assert!(!seen.step.unwrap().exact, "look {look}");
        match seen.age {
            Age::Known { seconds, error } => {
                assert!((seconds - model.true_age()).abs() <= error + SLACK, "look {look}")
            }
            Age::AtLeast(seconds) => assert!(seconds <= model.true_age() + SLACK, "look {look}"),
            Age::Unknown => {}
        }
    }
}

#[test]
fn copies_of_recent_jobs_do_not_make_ages_drift() {
    for seed in 0..50_u64 {
        let (mut model, mut fifo) = steady(500, true);
        for poll in 0..200_u64 {
            let copy = model.jobs[((seed * 31 + poll * 7) % 19) as usize].0.clone();
            model.push_payload(copy);
            model.pop(1);
            let seen = minute_step(&mut model, &mut fifo);
            if let Age::Known { seconds, error } = seen.age {
                let truth = model.true_age();
                assert!(
                    (seconds - truth).abs() <= error + SLACK,
                    "seed {seed}, poll {poll}: {seconds} ± {error}, not {truth}"
                );
            }
        }
    }
}

#[test]
fn an_element_over_the_limit_leaves_the_length() {
    let (mut model, mut fifo) = steady(500, true);
    model.push_payload(Bytes::from(vec![b'x'; 100_000]));
    model.look(&mut fifo);
    for _ in 0..10 {
        model.now += POLL;
        model.pop(1);
        let seen = model.look(&mut fifo);
        assert_eq!(seen.length, model.jobs.len() as u64);
        assert!(!seen.step.unwrap().exact);
        assert!(!matches!(seen.age, Age::Known { .. }), "{:?}", seen.age);
    }
}
