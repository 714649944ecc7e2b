//! A sorted set by due time: bare, and with all that people keep beside one.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, choose};
use crate::differential::truth::{Count, Sight, Truth};
use crate::differential::world::World;

/// All jobs in the set are `delayed`, those that are due too.
pub struct SortedSet {
    key: &'static str,
    counted: bool,
    jobs: Jobs,
}

impl SortedSet {
    pub fn bare(key: &'static str) -> Self {
        Self { key, counted: false, jobs: Jobs::new(1) }
    }

    pub fn counted(key: &'static str) -> Self {
        Self { counted: true, ..Self::bare(key) }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    fn put(&mut self, mut job: Job, due: u64, world: &mut World) {
        job.due = due;
        say!(world, "ZADD", self.key, due, job.number);
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        if self.counted {
            say!(world, "ZREM", self.of("run"), job.number);
        }
        Some(job)
    }

    fn count(&mut self, world: &mut World) {
        if self.counted {
            self.jobs.done += 1;
            say!(world, "INCR", self.of("done"));
        }
    }
}

impl Library for SortedSet {
    fn spec(&self) -> String {
        let key = self.key;
        if self.counted {
            format!("zset:{key}?in_flight={key}:run&dead={key}:dead&retrying={key}:again&processed={key}:done&unit=ms")
        } else {
            format!("zset:{key}")
        }
    }

    fn key(&self) -> String {
        self.key.into()
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        let later = |world: &World| world.now + act.seconds * 1_000;
        match act.verb {
            Verb::Enqueue => {
                let job = self.jobs.make(world);
                self.put(job, world.now, world);
            }
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.put(job, later(world), world);
            }
            Verb::Take => {
                let next = self.jobs.delayed.iter().enumerate().filter(|(_, job)| job.due <= world.now);
                let next = next.min_by_key(|(_, job)| job.due).map(|(place, _)| place);
                let Some(place) = next else { return };
                let job = self.jobs.delayed.remove(place);
                say!(world, "ZREM", self.key, job.number);
                if self.counted {
                    say!(world, "ZADD", self.of("run"), world.now, job.number);
                }
                self.jobs.in_flight.push(job);
            }
            Verb::Finish => {
                if self.end(act.pick, world).is_none() {
                    return;
                }
                self.count(world);
            }
            Verb::FailNow | Verb::Return => {
                if let Some(job) = self.end(act.pick, world) {
                    self.put(job, world.now, world);
                }
            }
            Verb::FailLater => {
                let Some(mut job) = self.end(act.pick, world) else { return };
                job.due = later(world);
                if self.counted {
                    say!(world, "ZADD", self.of("again"), job.due, job.number);
                    self.jobs.retrying.push(job);
                } else {
                    self.put(job.clone(), job.due, world);
                }
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.count(world);
                if self.counted {
                    say!(world, "ZADD", self.of("dead"), world.now, job.number);
                    self.jobs.dead += 1;
                }
            }
            Verb::Promote => {
                for job in crate::differential::jobs::due(&mut self.jobs.retrying, world.now) {
                    say!(world, "ZREM", self.of("again"), job.number);
                    self.put(job, world.now, world);
                }
            }
            Verb::Remove => {
                if let Some(job) = choose(&mut self.jobs.delayed, act.pick) {
                    say!(world, "ZREM", self.key, job.number);
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.key);
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::seen(jobs).with_delayed(&jobs.delayed, now);
        // Those that are due are the ones that wait.
        truth.length = truth.due.take().unwrap_or(0);
        truth.sight = Sight::Sure;
        (truth.arrivals, truth.processed) = (Count::Absent, Count::Absent);
        if self.counted {
            truth = truth.with_retrying(&jobs.retrying, now);
            truth.in_flight = Some(jobs.in_flight.len() as u64);
            truth.dead = Some(jobs.dead);
            truth.processed = Count::Total(jobs.done);
            truth.arrivals = Count::Total(jobs.done + truth.length + jobs.in_flight.len() as u64);
        }
        truth
    }
}
