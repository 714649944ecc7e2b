//! arq: one sorted set by due time; jobs in flight stay in it, marked by keys of their own.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, choose};
use crate::differential::truth::{Count, Sight, Truth};
use crate::differential::world::World;

/// The exporter tells jobs in flight among the first so many.
const MOST_IN_FLIGHT: usize = 60;

/// Jobs in the set are `delayed`, those that are due too.
pub struct Arq {
    key: &'static str,
    jobs: Jobs,
}

impl Arq {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1) }
    }

    fn id(&self, job: &Job) -> String {
        format!("{}{}", self.key, job.number)
    }

    fn mark(&self, job: &Job) -> String {
        format!("arq:in-progress:{}", self.id(job))
    }

    fn put(&mut self, mut job: Job, due: u64, world: &mut World) {
        job.due = due;
        say!(world, "ZADD", self.key, due, self.id(&job));
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "DEL", self.mark(&job));
        Some(job)
    }
}

impl Library for Arq {
    fn spec(&self) -> String {
        format!("arq:{}", self.key)
    }

    fn key(&self) -> String {
        self.key.into()
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue => {
                let job = self.jobs.make(world);
                say!(world, "SET", format!("arq:job:{}", self.id(&job)), "pickle", "PX", 86_400_000);
                self.put(job, world.now, world);
            }
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.put(job, world.now + act.seconds * 1_000, world);
            }
            Verb::Take => {
                let next = self.jobs.delayed.iter().enumerate().filter(|(_, job)| job.due <= world.now);
                let next = next.min_by_key(|(_, job)| job.due).map(|(place, _)| place);
                let Some(place) = next.filter(|_| self.jobs.in_flight.len() < MOST_IN_FLIGHT) else { return };
                let job = self.jobs.delayed.remove(place);
                say!(world, "SET", self.mark(&job), "1", "NX", "PX", 900_000);
                self.jobs.in_flight.push(job);
            }
            Verb::Finish | Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZREM", self.key, self.id(&job));
            }
            Verb::FailLater => {
                let Some(job) = self.end(act.pick, world) else { return };
                let due = job.due + act.seconds * 1_000;
                say!(world, "ZINCRBY", self.key, act.seconds * 1_000, self.id(&job));
                self.jobs.delayed.push(Job { due, ..job });
            }
            // The worker was stopped, or its mark ran out: the job stands where it stood.
            Verb::FailNow | Verb::Return | Verb::Die => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.jobs.delayed.push(job);
            }
            Verb::Remove => {
                if let Some(job) = choose(&mut self.jobs.delayed, act.pick) {
                    say!(world, "ZREM", self.key, self.id(&job));
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.key);
                for job in std::mem::take(&mut self.jobs.in_flight) {
                    say!(world, "DEL", self.mark(&job));
                }
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let mut truth = Truth::seen(&self.jobs).with_delayed(&self.jobs.delayed, now);
        truth.length = truth.due.take().unwrap_or(0);
        truth.in_flight = Some(self.jobs.in_flight.len() as u64);
        truth.sight = Sight::Sure;
        (truth.arrivals, truth.processed) = (Count::Absent, Count::Absent);
        truth
    }
}
