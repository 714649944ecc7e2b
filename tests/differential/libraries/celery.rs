//! Celery: one list a priority, and `unacked` for what workers have taken.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs};
use crate::differential::truth::Truth;
use crate::differential::world::World;
use queue_exporter::layout::Globals;

/// As kombu has them.
const STEPS: [&str; 4] = ["", "\x06\x163", "\x06\x166", "\x06\x169"];

pub struct Celery {
    key: &'static str,
    jobs: Jobs,
    /// Jobs of other queues that are not acknowledged.
    foreign: u64,
}

impl Celery {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(STEPS.len()), foreign: 0 }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    fn list(&self, line: usize) -> String {
        format!("{}:q{}", self.key, STEPS[line])
    }

    /// A message that comes back is marked, and one that is tried again is a new one.
    fn message(job: &Job) -> String {
        format!("{{\"body\":\"e30=\",\"headers\":{{\"id\":\"{}\",\"retries\":{}}}}}", job.number, job.tries)
    }

    fn push(&mut self, job: Job, world: &mut World) {
        let line = job.rank as usize;
        say!(world, "LPUSH", self.list(line), Self::message(&job));
        self.jobs.push(line, job, world);
    }

    fn deliver(&self, tag: String, queue: &str, message: &str, world: &mut World) {
        say!(world, "ZADD", self.of("unacked_index"), world.now as f64 / 1e3, &tag);
        let delivered = format!("[{message},\"{queue}\",\"{queue}\"]");
        say!(world, "HSET", self.of("unacked"), tag, delivered);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "ZREM", self.of("unacked_index"), job.number);
        say!(world, "HDEL", self.of("unacked"), job.number);
        Some(job)
    }
}

impl Library for Celery {
    fn spec(&self) -> String {
        format!("celery:q?prefix={0}:&name={0}", self.key)
    }

    fn key(&self) -> String {
        self.list(0)
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue | Verb::EnqueueRanked => {
                let mut job = self.jobs.make(world);
                job.rank = if act.verb == Verb::Enqueue { 0 } else { 1 + (act.pick % 3) as u32 };
                self.push(job, world);
            }
            // A job with an ETA is in the list until a worker takes it.
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.push(job, world);
            }
            Verb::Take => {
                let Some(line) = (0..STEPS.len()).find(|line| !self.jobs.waiting[*line].is_empty()) else { return };
                let Some(job) = self.jobs.take(line, world) else { return };
                say!(world, "RPOP", self.list(line));
                self.deliver(job.number.to_string(), "q", &Self::message(&job), world);
                self.jobs.in_flight.push(job);
            }
            Verb::Finish | Verb::Bury => drop(self.end(act.pick, world)),
            // The same task in a new message, which waits for its ETA in a worker's memory once it was taken.
            Verb::FailLater | Verb::FailNow => {
                if let Some(job) = self.end(act.pick, world) {
                    self.push(job, world);
                }
            }
            // Restored: to the end that is taken from.
            Verb::Return | Verb::Recover => {
                let Some(job) = self.end(act.pick, world) else { return };
                let line = job.rank as usize;
                say!(world, "RPUSH", self.list(line), Self::message(&job));
                self.jobs.push_front(line, job, world);
            }
            // purge
            Verb::Delete => {
                for line in 0..STEPS.len() {
                    say!(world, "DEL", self.list(line));
                }
                self.jobs.clear_waiting();
            }
            Verb::Foreign => {
                self.foreign += 1;
                self.deliver(format!("f{}", self.foreign), "other", "{}", world);
            }
            _ => {}
        }
    }

    fn truth(&self, _now: u64) -> Truth {
        let mut truth = Truth::seen(&self.jobs);
        let in_flight = self.jobs.in_flight.len() as u64;
        truth.in_flight = Some(in_flight);
        truth.globals = Some(Globals {
            in_flight: Some(in_flight + self.foreign),
            in_flight_left_out: Some(0),
            ..Globals::default()
        });
        truth
    }
}
