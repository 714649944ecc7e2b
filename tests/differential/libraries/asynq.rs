//! asynq: lists of ids, a lease for each job in flight, sets for delayed, retrying and archived jobs, and counters.

use super::{Library, whole_seconds};
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Count, Truth};
use crate::differential::world::World;

/// How long a lease is, in milliseconds.
const LEASE: u64 = 30_000;

pub struct Asynq {
    key: &'static str,
    jobs: Jobs,
}

impl Asynq {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1) }
    }

    fn of(&self, part: &str) -> String {
        format!("asynq:{{{}}}:{part}", self.key)
    }

    fn task(&self, job: &Job) -> String {
        self.of(&format!("t:{}", job.number))
    }

    fn push(&mut self, mut job: Job, world: &mut World) {
        world.now += 1;
        (job.came, job.dated) = (world.now, true);
        say!(world, "HSET", self.task(&job), "state", "pending", "pending_since", job.came * 1_000_000);
        say!(world, "LPUSH", self.of("pending"), job.number);
        self.jobs.push_again(0, job, world);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "LREM", self.of("active"), 0, job.number);
        say!(world, "ZREM", self.of("lease"), job.number);
        Some(job)
    }

    fn count(&mut self, failed: bool, world: &mut World) {
        self.jobs.done += 1;
        say!(world, "INCR", self.of("processed"));
        if failed {
            self.jobs.failed += 1;
            say!(world, "INCR", self.of("failed"));
        }
    }

    fn retry(&mut self, mut job: Job, seconds: u64, world: &mut World) {
        self.count(true, world);
        job.due = whole_seconds(world.now + seconds * 1_000);
        say!(world, "ZADD", self.of("retry"), job.due / 1_000, job.number);
        say!(world, "HSET", self.task(&job), "state", "retry");
        self.jobs.retrying.push(job);
    }
}

impl Library for Asynq {
    fn spec(&self) -> String {
        format!("asynq:{}", self.key)
    }

    fn key(&self) -> String {
        self.of("pending")
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue => {
                let job = self.jobs.make(world);
                say!(world, "SADD", "asynq:queues", self.key);
                self.push(job, world);
            }
            Verb::Delay => {
                let mut job = self.jobs.make(world);
                job.due = whole_seconds(world.now + act.seconds * 1_000);
                say!(world, "HSET", self.task(&job), "state", "scheduled");
                say!(world, "ZADD", self.of("scheduled"), job.due / 1_000, job.number);
                self.jobs.delayed.push(job);
            }
            Verb::Take if !self.jobs.paused => {
                let Some(mut job) = self.jobs.take(0, world) else { return };
                say!(world, "RPOPLPUSH", self.of("pending"), self.of("active"));
                say!(world, "HSET", self.task(&job), "state", "active");
                say!(world, "HDEL", self.task(&job), "pending_since");
                job.lease = whole_seconds(world.now + LEASE);
                job.dated = false;
                say!(world, "ZADD", self.of("lease"), job.lease / 1_000, job.number);
                self.jobs.in_flight.push(job);
            }
            Verb::Finish => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "DEL", self.task(&job));
                self.count(false, world);
            }
            Verb::FailLater | Verb::FailNow => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.retry(job, if act.verb == Verb::FailNow { 0 } else { act.seconds }, world);
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZADD", self.of("archived"), world.now / 1_000, job.number);
                say!(world, "HSET", self.task(&job), "state", "archived");
                self.jobs.dead += 1;
                self.count(true, world);
            }
            // The recoverer: jobs whose lease has run out are tried again.
            Verb::Recover => {
                while let Some(place) = self.jobs.in_flight.iter().position(|job| job.lease <= world.now) {
                    if let Some(job) = self.end(place, world) {
                        self.retry(job, act.seconds, world);
                    }
                }
            }
            Verb::Beat => {
                let (now, lease) = (world.now, whole_seconds(world.now + LEASE));
                let key = self.of("lease");
                // A lease that has run out is not renewed.
                for job in self.jobs.in_flight.iter_mut().filter(|job| job.lease > now) {
                    job.lease = lease;
                    say!(world, "ZADD", &key, "XX", lease / 1_000, job.number);
                }
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of("scheduled"), job.number);
                    self.push(job, world);
                }
                for job in due(&mut self.jobs.retrying, world.now) {
                    say!(world, "ZREM", self.of("retry"), job.number);
                    self.push(job, world);
                }
            }
            // A server that shuts down gives its jobs back; they have no time then.
            Verb::Return => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "RPUSH", self.of("pending"), job.number);
                say!(world, "HSET", self.task(&job), "state", "pending");
                self.jobs.push_front(0, job, world);
            }
            Verb::Remove => {
                let Some(job) = self.jobs.remove(0, act.pick, world) else { return };
                say!(world, "LREM", self.of("pending"), 0, job.number);
                say!(world, "DEL", self.task(&job));
            }
            Verb::Delete => {
                for part in ["pending", "active", "lease", "scheduled", "retry", "archived", "paused"] {
                    say!(world, "DEL", self.of(part));
                }
                self.jobs.clear_waiting();
                self.jobs.in_flight.clear();
                self.jobs.delayed.clear();
                self.jobs.retrying.clear();
                (self.jobs.dead, self.jobs.paused) = (0, false);
            }
            Verb::Pause => {
                say!(world, "SET", self.of("paused"), world.now / 1_000, "NX");
                self.jobs.paused = true;
            }
            Verb::Resume => {
                say!(world, "DEL", self.of("paused"));
                self.jobs.paused = false;
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::stored(jobs)
            .with_delayed(&jobs.delayed, now)
            .with_retrying(&jobs.retrying, now)
            .with_leases(&jobs.in_flight, now);
        truth.dead = Some(jobs.dead);
        truth.paused = Some(jobs.paused);
        truth.processed = Count::Total(jobs.done);
        truth.failed = Count::Total(jobs.failed);
        truth
    }
}
