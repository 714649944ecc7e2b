//! Dramatiq: a list of ids and a hash of messages, the same again for delayed ones, and a set for dead ones.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, choose, due};
use crate::differential::truth::Truth;
use crate::differential::world::World;

pub struct Dramatiq {
    key: &'static str,
    jobs: Jobs,
}

impl Dramatiq {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1) }
    }

    fn of(&self, part: &str) -> String {
        format!("dramatiq:{}{part}", self.key)
    }

    /// Each enqueuing makes a new id of Redis' own.
    fn id(job: &Job) -> String {
        format!("{}-{}", job.number, job.tries)
    }

    fn message(job: &Job) -> String {
        let eta = if job.due > 0 { format!("\"eta\":{}", job.due) } else { String::new() };
        format!("{{\"options\":{{{eta}}},\"message_timestamp\":{}}}", job.added)
    }

    fn push(&mut self, mut job: Job, world: &mut World) {
        job.came = job.due.max(job.added);
        let id = Self::id(&job);
        say!(world, "HSET", self.of(".msgs"), &id, Self::message(&job));
        say!(world, "RPUSH", self.of(""), id);
        self.jobs.push(0, job, world);
    }

    fn delay(&mut self, mut job: Job, seconds: u64, world: &mut World) {
        job.due = world.now + seconds * 1_000;
        say!(world, "HSET", self.of(".DQ.msgs"), Self::id(&job), Self::message(&job));
        say!(world, "RPUSH", self.of(".DQ"), Self::id(&job));
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "HDEL", self.of(".msgs"), Self::id(&job));
        Some(Job { tries: job.tries + 1, ..job })
    }
}

impl Library for Dramatiq {
    fn spec(&self) -> String {
        format!("dramatiq:{}", self.key)
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
            // A worker takes them from the delay queue, and enqueues them when their time comes.
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "LREM", self.of(".DQ"), 1, Self::id(&job));
                    say!(world, "HDEL", self.of(".DQ.msgs"), Self::id(&job));
                    self.push(Job { tries: job.tries + 1, ..job }, world);
                }
            }
            Verb::Take => {
                let Some(mut job) = self.jobs.take(0, world) else { return };
                job.tries -= 1;
                say!(world, "LPOP", self.of(""));
                say!(world, "SADD", format!("dramatiq:__acks__.w.{}", self.key), Self::id(&job));
                self.jobs.in_flight.push(job);
            }
            Verb::Finish => drop(self.end(act.pick, world)),
            Verb::FailNow => {
                if let Some(job) = self.end(act.pick, world) {
                    self.push(job, world);
                }
            }
            Verb::FailLater => {
                if let Some(job) = self.end(act.pick, world) {
                    self.delay(job, act.seconds, world);
                }
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZADD", self.of(".XQ"), world.now, Self::id(&job));
                self.jobs.dead += 1;
            }
            // requeue: to the end where jobs come in, with the id that they had.
            Verb::Return | Verb::Recover => {
                let Some(job) = self.jobs.running(act.pick) else { return };
                say!(world, "SREM", format!("dramatiq:__acks__.w.{}", self.key), Self::id(&job));
                say!(world, "RPUSH", self.of(""), Self::id(&job));
                self.jobs.push_again(0, job, world);
            }
            // A worker that holds a delayed message in its memory.
            Verb::Beat => {
                if let Some(job) = choose(&mut self.jobs.delayed, act.pick) {
                    say!(world, "LREM", self.of(".DQ"), 1, Self::id(&job));
                    self.jobs.delayed.push(job);
                }
            }
            // purge
            Verb::Delete => {
                say!(world, "DEL", self.of(""), self.of(".msgs"), self.of(".DQ"), self.of(".DQ.msgs"), self.of(".XQ"));
                self.jobs.clear_waiting();
                self.jobs.in_flight.clear();
                self.jobs.delayed.clear();
                self.jobs.dead = 0;
            }
            _ => {}
        }
    }

    fn truth(&self, _now: u64) -> Truth {
        let mut truth = Truth::stored(&self.jobs);
        truth.in_flight = Some(self.jobs.in_flight.len() as u64);
        // Whether or not they are due.
        truth.delayed = Some(self.jobs.delayed.len() as u64);
        truth.dead = Some(self.jobs.dead);
        truth
    }
}
