//! SAQ: lists of keys, a set of all that is not finished, and a document for each job.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::Truth;
use crate::differential::world::World;

/// For how long a worker's word lasts, in milliseconds.
const WORD: u64 = 60_000;

pub struct Saq {
    key: &'static str,
    jobs: Jobs,
    /// Until when each worker has given its word.
    workers: Vec<u64>,
}

impl Saq {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1), workers: Vec::new() }
    }

    fn of(&self, part: &str) -> String {
        format!("saq:{}:{part}", self.key)
    }

    fn id(&self, job: &Job) -> String {
        format!("saq:job:{}:{}", self.key, job.number)
    }

    /// `scheduled` is in seconds, and 0 where the job was never delayed.
    fn store(&self, job: &Job, world: &mut World) {
        let scheduled = job.due as f64 / 1e3;
        let document = format!("{{\"queued\":{},\"scheduled\":{scheduled},\"attempts\":{}}}", job.added, job.tries);
        say!(world, "SET", self.id(job), document);
    }

    fn push(&mut self, mut job: Job, world: &mut World) {
        job.came = job.due.max(job.added);
        say!(world, "ZADD", self.of("incomplete"), 0, self.id(&job));
        say!(world, "RPUSH", self.of("queued"), self.id(&job));
        self.jobs.push_again(0, job, world);
    }

    fn delay(&mut self, mut job: Job, seconds: u64, world: &mut World) {
        job.due = world.now + seconds * 1_000;
        self.store(&job, world);
        say!(world, "ZADD", self.of("incomplete"), job.due as f64 / 1e3, self.id(&job));
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "LREM", self.of("active"), 0, self.id(&job));
        Some(job)
    }
}

impl Library for Saq {
    fn spec(&self) -> String {
        format!("saq:{}", self.key)
    }

    fn key(&self) -> String {
        self.of("queued")
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue => {
                let job = self.jobs.make(world);
                self.store(&job, world);
                self.push(job, world);
            }
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.delay(job, act.seconds, world);
            }
            // schedule
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    self.push(job, world);
                }
            }
            Verb::Take => {
                let Some(job) = self.jobs.take(0, world) else { return };
                say!(world, "LMOVE", self.of("queued"), self.of("active"), "LEFT", "RIGHT");
                self.jobs.in_flight.push(job);
            }
            Verb::Finish | Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZREM", self.of("incomplete"), self.id(&job));
            }
            Verb::FailNow | Verb::Recover => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.store(&job, world);
                self.push(job, world);
            }
            Verb::FailLater => {
                if let Some(job) = self.end(act.pick, world) {
                    self.delay(job, act.seconds, world);
                }
            }
            // abort
            Verb::Remove => {
                let Some(job) = self.jobs.remove(0, act.pick, world) else { return };
                say!(world, "LREM", self.of("queued"), 0, self.id(&job));
                say!(world, "ZREM", self.of("incomplete"), self.id(&job));
            }
            Verb::Beat => {
                let place = act.pick % 3;
                if place >= self.workers.len() {
                    self.workers.resize(place + 1, 0);
                }
                self.workers[place] = world.now + WORD;
                say!(world, "ZADD", self.of("stats"), self.workers[place], place);
            }
            Verb::Delete => {
                say!(world, "DEL", self.of("queued"), self.of("active"), self.of("incomplete"));
                self.jobs.clear_waiting();
                self.jobs.in_flight.clear();
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let mut truth = Truth::stored(&self.jobs).with_delayed(&self.jobs.delayed, now);
        truth.in_flight = Some(self.jobs.in_flight.len() as u64);
        truth.consumers = Some(self.workers.iter().filter(|word| **word > now).count() as u64);
        truth
    }
}
