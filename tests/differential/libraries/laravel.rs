//! Laravel: a list of documents that hold whole seconds, Horizon's with a fraction, old ones with no time; sets for delayed and
//! reserved jobs.

use super::{Library, whole_seconds};
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::Truth;
use crate::differential::world::World;

/// `retry_after`, in milliseconds.
const RETRY_AFTER: u64 = 90_000;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Horizon,
    Old,
}

pub struct Laravel {
    key: &'static str,
    kind: Kind,
    jobs: Jobs,
}

impl Laravel {
    pub fn plain(key: &'static str) -> Self {
        Self { key, kind: Kind::Plain, jobs: Jobs::new(1) }
    }

    pub fn horizon(key: &'static str) -> Self {
        Self { kind: Kind::Horizon, ..Self::plain(key) }
    }

    pub fn old(key: &'static str) -> Self {
        Self { kind: Kind::Old, ..Self::plain(key) }
    }

    fn of(&self, part: &str) -> String {
        format!("laravel_database_queues:{}{part}", self.key)
    }

    fn payload(&self, job: &Job) -> String {
        let time = match self.kind {
            Kind::Plain => format!(",\"createdAt\":{}", job.added / 1_000),
            Kind::Horizon => format!(",\"pushedAt\":\"{}.{:03}\"", job.came / 1_000, job.came % 1_000),
            Kind::Old => String::new(),
        };
        format!("{{\"uuid\":{},\"attempts\":{}{time}}}", job.number, job.tries)
    }

    fn push(&mut self, job: Job, world: &mut World) {
        say!(world, "RPUSH", self.of(""), self.payload(&job));
        say!(world, "RPUSH", self.of(":notify"), 1);
        self.jobs.push(0, job, world);
    }

    fn delay(&mut self, mut job: Job, seconds: u64, world: &mut World) {
        job.due = whole_seconds(world.now) + seconds * 1_000;
        say!(world, "ZADD", self.of(":delayed"), job.due / 1_000, self.payload(&job));
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "ZREM", self.of(":reserved"), self.payload(&job));
        Some(job)
    }
}

impl Library for Laravel {
    fn spec(&self) -> String {
        format!("laravel:{}", self.key)
    }

    fn key(&self) -> String {
        self.of("")
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue => {
                let job = self.jobs.make(world);
                self.push(job, world);
            }
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.delay(job, act.seconds, world);
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of(":delayed"), self.payload(&job));
                    self.push(job, world);
                }
            }
            Verb::Take => {
                let Some(mut job) = self.jobs.take(0, world) else { return };
                job.lease = whole_seconds(world.now) + RETRY_AFTER;
                say!(world, "LPOP", self.of(""));
                say!(world, "LPOP", self.of(":notify"));
                say!(world, "ZADD", self.of(":reserved"), job.lease / 1_000, self.payload(&job));
                self.jobs.in_flight.push(job);
            }
            Verb::Finish | Verb::Bury => drop(self.end(act.pick, world)),
            // release
            Verb::FailLater | Verb::FailNow => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.delay(job, if act.verb == Verb::FailNow { 0 } else { act.seconds }, world);
            }
            // A worker that looks puts those back whose time has run out.
            Verb::Recover => {
                while let Some(place) = self.jobs.in_flight.iter().position(|job| job.lease <= world.now) {
                    if let Some(job) = self.end(place, world) {
                        self.push(job, world);
                    }
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.of(""), self.of(":delayed"), self.of(":reserved"), self.of(":notify"));
                self.jobs.clear_waiting();
                self.jobs.in_flight.clear();
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let truth = if self.kind == Kind::Old { Truth::seen(jobs) } else { Truth::stored(jobs) };
        truth.with_delayed(&jobs.delayed, now).with_leases(&jobs.in_flight, now)
    }
}
