//! RQ: a list of ids, sets for jobs in flight, scheduled and failed, and the time in each job's hash.

use super::{Library, iso, whole_seconds};
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::Truth;
use crate::differential::world::World;

/// For how long a worker gives its word, in milliseconds.
const WORD: u64 = 90_000;

pub struct Rq {
    key: &'static str,
    jobs: Jobs,
    /// Jobs between queue and worker.
    between: Vec<Job>,
}

impl Rq {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1), between: Vec::new() }
    }

    fn of(&self, part: &str) -> String {
        format!("rq:{part}:{}", self.key)
    }

    fn stamp(&self, mut job: Job, world: &mut World) -> Job {
        world.now += 1;
        job.came = world.now;
        job.batch = world.batch();
        say!(world, "SADD", "rq:queues", self.of("queue"));
        say!(world, "HSET", format!("rq:job:{}", job.number), "enqueued_at", iso(job.came));
        job
    }

    fn push(&mut self, job: Job, world: &mut World) {
        let job = self.stamp(job, world);
        say!(world, "RPUSH", self.of("queue"), job.number);
        self.jobs.push_again(0, job, world);
    }

    fn schedule(&mut self, mut job: Job, seconds: u64, world: &mut World) {
        job.due = whole_seconds(world.now) + seconds * 1_000;
        say!(world, "ZADD", self.of("scheduled"), job.due / 1_000, job.number);
        self.jobs.delayed.push(job);
    }

    fn execution(job: &Job) -> String {
        format!("{}:{}", job.number, job.tries)
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "ZREM", self.of("wip"), Self::execution(&job));
        Some(job)
    }
}

impl Library for Rq {
    fn spec(&self) -> String {
        format!("rq:{}", self.key)
    }

    fn key(&self) -> String {
        self.of("queue")
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
            // at_front
            Verb::EnqueueFront => {
                let job = self.jobs.make(world);
                let job = self.stamp(job, world);
                say!(world, "LPUSH", self.of("queue"), job.number);
                self.jobs.push_front(0, job, world);
            }
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.schedule(job, act.seconds, world);
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of("scheduled"), job.number);
                    self.push(job, world);
                }
            }
            Verb::Take if !self.jobs.paused => {
                let intermediate = format!("rq:queue:{}:intermediate", self.key);
                if let Some(job) = self.jobs.take(0, world) {
                    say!(world, "LMOVE", self.of("queue"), &intermediate, "LEFT", "RIGHT");
                    self.between.push(job);
                }
                // Now and then the exporter looks while one is between.
                if !act.pick.is_multiple_of(8) {
                    for mut job in std::mem::take(&mut self.between) {
                        job.lease = whole_seconds(world.now) + WORD;
                        say!(world, "ZADD", self.of("wip"), job.lease / 1_000, Self::execution(&job));
                        say!(world, "LREM", &intermediate, 1, job.number);
                        self.jobs.in_flight.push(job);
                    }
                }
            }
            Verb::Finish => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZADD", self.of("finished"), world.now / 1_000 + 500, job.number);
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZADD", self.of("failed"), world.now / 1_000 + 31_536_000, job.number);
                self.jobs.dead += 1;
            }
            Verb::FailNow => {
                if let Some(job) = self.end(act.pick, world) {
                    self.push(job, world);
                }
            }
            Verb::FailLater => {
                if let Some(job) = self.end(act.pick, world) {
                    self.schedule(job, act.seconds, world);
                }
            }
            // The registry's cleanup: jobs of workers that died have failed.
            Verb::Recover => {
                while let Some(place) = self.jobs.in_flight.iter().position(|job| job.lease <= world.now) {
                    let Some(job) = self.end(place, world) else { return };
                    say!(world, "ZADD", self.of("failed"), world.now / 1_000 + 31_536_000, job.number);
                    self.jobs.dead += 1;
                }
            }
            Verb::Beat => {
                let (key, lease) = (self.of("wip"), whole_seconds(world.now) + WORD);
                for job in &mut self.jobs.in_flight {
                    job.lease = lease;
                    say!(world, "ZADD", &key, lease / 1_000, Self::execution(job));
                }
            }
            Verb::Remove => {
                let Some(job) = self.jobs.remove(0, act.pick, world) else { return };
                say!(world, "LREM", self.of("queue"), 1, job.number);
                say!(world, "DEL", format!("rq:job:{}", job.number));
            }
            // empty
            Verb::Delete => {
                say!(world, "DEL", self.of("queue"));
                self.jobs.clear_waiting();
            }
            Verb::Pause => {
                say!(world, "SET", "rq:suspended", 1);
                self.jobs.paused = true;
            }
            Verb::Resume => {
                say!(world, "DEL", "rq:suspended");
                self.jobs.paused = false;
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::stored(jobs).with_delayed(&jobs.delayed, now).with_leases(&jobs.in_flight, now);
        truth.in_flight = truth.in_flight.map(|jobs| jobs + self.between.len() as u64);
        truth.dead = Some(jobs.dead);
        truth.paused = Some(jobs.paused);
        truth
    }
}
