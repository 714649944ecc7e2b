//! Huey: a list, or a sorted set by priority, and a schedule to which a worker moves what it took too early.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Count, Sight, Truth};
use crate::differential::world::World;

/// What both have in common.
struct Schedule {
    key: &'static str,
}

impl Schedule {
    fn set(&self) -> String {
        format!("huey.schedule.{}", self.key)
    }

    fn jobs(&self) -> String {
        format!("huey.redis.{}", self.key)
    }

    fn pickle(job: &Job) -> String {
        format!("\u{80}{}:{}:{}", job.number, job.tries, job.due)
    }

    fn add(&self, job: Job, jobs: &mut Jobs, world: &mut World) {
        say!(world, "ZADD", self.set(), job.due as f64 / 1e3, Self::pickle(&job));
        jobs.delayed.push(job);
    }

    /// Those that are due.
    fn due(&self, jobs: &mut Jobs, world: &mut World) -> Vec<Job> {
        let due = due(&mut jobs.delayed, world.now);
        for job in &due {
            say!(world, "ZREM", self.set(), Self::pickle(job));
        }
        due
    }
}

pub struct Huey {
    schedule: Schedule,
    jobs: Jobs,
}

impl Huey {
    pub fn new(key: &'static str) -> Self {
        Self { schedule: Schedule { key }, jobs: Jobs::new(1) }
    }

    fn push(&mut self, job: Job, world: &mut World) {
        say!(world, "LPUSH", self.schedule.jobs(), Schedule::pickle(&job));
        self.jobs.push(0, job, world);
    }
}

impl Library for Huey {
    fn spec(&self) -> String {
        format!("huey:{}", self.schedule.key)
    }

    fn key(&self) -> String {
        self.schedule.jobs()
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            // A scheduled job goes through the list first.
            Verb::Enqueue | Verb::Delay => {
                let mut job = self.jobs.make(world);
                job.due = if act.verb == Verb::Delay { world.now + act.seconds * 1_000 } else { 0 };
                self.push(job, world);
            }
            Verb::Take => {
                let Some(job) = self.jobs.take(0, world) else { return };
                say!(world, "RPOP", self.schedule.jobs());
                if job.due > world.now {
                    self.schedule.add(job, &mut self.jobs, world);
                } else {
                    self.jobs.in_flight.push(job);
                }
            }
            Verb::Promote => {
                for job in self.schedule.due(&mut self.jobs, world) {
                    self.push(job, world);
                }
            }
            Verb::Finish | Verb::Bury => drop(self.jobs.running(act.pick)),
            Verb::FailNow => {
                if let Some(job) = self.jobs.running(act.pick) {
                    self.push(job, world);
                }
            }
            Verb::FailLater => {
                if let Some(mut job) = self.jobs.running(act.pick) {
                    job.due = world.now + act.seconds * 1_000;
                    self.schedule.add(job, &mut self.jobs, world);
                }
            }
            // flush
            Verb::Delete => {
                say!(world, "DEL", self.schedule.jobs(), self.schedule.set());
                self.jobs.clear_waiting();
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        Truth::seen(&self.jobs).with_delayed(&self.jobs.delayed, now)
    }
}

/// PriorityRedisHuey; jobs that wait are in `ranked`, the next is the first.
pub struct PriorityHuey {
    schedule: Schedule,
    jobs: Jobs,
    ranked: Vec<Job>,
}

impl PriorityHuey {
    pub fn new(key: &'static str) -> Self {
        Self { schedule: Schedule { key }, jobs: Jobs::new(1), ranked: Vec::new() }
    }

    /// The time at which it came, as eight bytes, and a pickle.
    fn member(job: &Job) -> Vec<u8> {
        [(job.came * 1_000).to_be_bytes().to_vec(), Schedule::pickle(job).into_bytes()].concat()
    }

    fn push(&mut self, mut job: Job, world: &mut World) {
        world.now += 1;
        job.came = world.now;
        say!(world, "ZADD", self.schedule.jobs(), -i64::from(job.rank), Self::member(&job));
        self.ranked.push(job);
        self.ranked.sort_by_key(|job| (std::cmp::Reverse(job.rank), job.came));
    }
}

impl Library for PriorityHuey {
    fn spec(&self) -> String {
        format!("huey:{}", self.schedule.key)
    }

    fn key(&self) -> String {
        self.schedule.jobs()
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue | Verb::EnqueueRanked | Verb::Delay => {
                let mut job = self.jobs.make(world);
                job.due = if act.verb == Verb::Delay { world.now + act.seconds * 1_000 } else { 0 };
                job.rank = if act.verb == Verb::EnqueueRanked { (act.pick % 4) as u32 } else { 0 };
                self.push(job, world);
            }
            // ZPOPMIN
            Verb::Take => {
                if self.ranked.is_empty() {
                    return;
                }
                let job = self.ranked.remove(0);
                say!(world, "ZPOPMIN", self.schedule.jobs(), 1);
                if job.due > world.now {
                    self.schedule.add(job, &mut self.jobs, world);
                } else {
                    self.jobs.in_flight.push(job);
                }
            }
            Verb::Promote => {
                for job in self.schedule.due(&mut self.jobs, world) {
                    self.push(job, world);
                }
            }
            Verb::Finish | Verb::Bury => drop(self.jobs.running(act.pick)),
            Verb::FailNow => {
                if let Some(job) = self.jobs.running(act.pick) {
                    self.push(job, world);
                }
            }
            Verb::FailLater => {
                if let Some(mut job) = self.jobs.running(act.pick) {
                    job.due = world.now + act.seconds * 1_000;
                    self.schedule.add(job, &mut self.jobs, world);
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.schedule.jobs(), self.schedule.set());
                self.ranked.clear();
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let mut truth = Truth::seen(&self.jobs).with_delayed(&self.jobs.delayed, now);
        truth.length = self.ranked.len() as u64;
        truth.since.extend(self.ranked.iter().map(|job| job.came));
        let one_rank = self.ranked.iter().all(|job| job.rank == self.ranked[0].rank);
        truth.sight = if one_rank { Sight::Sure } else { Sight::Partly };
        // Read as a list until it was seen to be a set, which may be at any look since it was one.
        (truth.arrivals, truth.processed) = match self.ranked.is_empty() {
            true => (Count::Any, Count::Any),
            false => (Count::Absent, Count::Absent),
        };
        truth
    }
}
