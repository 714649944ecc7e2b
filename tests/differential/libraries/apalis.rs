//! apalis-redis: jobs go through `scheduled` to `active`, ids are ULIDs, jobs in flight are in one set a worker.

use super::{Library, whole_seconds};
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Count, Truth};
use crate::differential::world::World;

/// The exporter's, and apalis' own, in milliseconds.
const DEAD_AFTER: u64 = 300_000;

struct Worker {
    name: String,
    beat: u64,
    jobs: Vec<Job>,
}

pub struct Apalis {
    key: &'static str,
    jobs: Jobs,
    workers: Vec<Worker>,
    hired: usize,
}

impl Apalis {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1), workers: Vec::new(), hired: 0 }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    /// 48 bits of time and a number, in Crockford's base 32.
    fn id(job: &Job) -> String {
        const DIGITS: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
        let digit = |number: u64, place: u32| char::from(DIGITS[(number >> (5 * place) & 31) as usize]);
        let time = (0..10).rev().map(|place| digit(job.added, place));
        time.chain((0..16).rev().map(|place| if place > 11 { '0' } else { digit(job.number, place) })).collect()
    }

    fn schedule(&mut self, mut job: Job, due: u64, world: &mut World) {
        job.due = whole_seconds(due);
        say!(world, "ZADD", self.of("scheduled"), job.due / 1_000, Self::id(&job));
        self.jobs.delayed.push(job);
    }

    fn push(&mut self, job: Job, world: &mut World) {
        say!(world, "RPUSH", self.of("active"), Self::id(&job));
        self.jobs.push_again(0, job, world);
    }

    fn hire(&mut self, world: &mut World) {
        self.hired += 1;
        let beat = whole_seconds(world.now);
        let worker = Worker { name: format!("w{}", self.hired), beat, jobs: Vec::new() };
        say!(world, "ZADD", self.of("workers"), worker.beat / 1_000, &worker.name);
        self.workers.push(worker);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let busy: Vec<usize> = (0..self.workers.len()).filter(|place| !self.workers[*place].jobs.is_empty()).collect();
        let place = busy.get(pick.checked_rem(busy.len())?)?;
        let set = self.of(&format!("inflight:{}", self.workers[*place].name));
        let job = crate::differential::jobs::choose(&mut self.workers[*place].jobs, pick)?;
        say!(world, "SREM", set, Self::id(&job));
        Some(job)
    }
}

impl Library for Apalis {
    fn spec(&self) -> String {
        format!("apalis:{}", self.key)
    }

    fn key(&self) -> String {
        self.of("active")
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue => {
                let job = self.jobs.make(world);
                self.schedule(job, world.now, world);
            }
            Verb::Delay => {
                let job = self.jobs.make(world);
                self.schedule(job, world.now + act.seconds * 1_000, world);
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of("scheduled"), Self::id(&job));
                    self.push(job, world);
                }
            }
            Verb::Take => {
                if self.workers.is_empty() || act.pick.is_multiple_of(16) && self.workers.len() < 5 {
                    self.hire(world);
                }
                // A worker without a beat is dead, and takes nothing.
                let alive: Vec<usize> = (0..self.workers.len())
                    .filter(|place| world.now < self.workers[*place].beat + DEAD_AFTER)
                    .collect();
                let Some(place) = act.pick.checked_rem(alive.len()).map(|pick| alive[pick]) else { return };
                let Some(job) = self.jobs.take(0, world) else { return };
                let id = Self::id(&job);
                say!(world, "LREM", self.of("active"), 1, &id);
                say!(world, "SADD", self.of(&format!("inflight:{}", self.workers[place].name)), &id);
                self.workers[place].jobs.push(job);
            }
            Verb::Finish => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "SADD", self.of("done"), Self::id(&job));
                self.jobs.done += 1;
            }
            Verb::FailNow | Verb::FailLater => {
                let Some(job) = self.end(act.pick, world) else { return };
                let wait = if act.verb == Verb::FailNow { 0 } else { act.seconds * 1_000 };
                self.schedule(job, world.now + wait, world);
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "SADD", self.of("dead"), Self::id(&job));
                self.jobs.dead += 1;
            }
            Verb::Beat => {
                if self.workers.is_empty() {
                    return self.hire(world);
                }
                let place = act.pick % self.workers.len();
                let (key, beat) = (self.of("workers"), whole_seconds(world.now));
                let worker = &mut self.workers[place];
                worker.beat = beat;
                say!(world, "ZADD", key, beat / 1_000, &worker.name);
            }
            // reenqueue_orphaned.lua
            Verb::Recover => {
                for place in 0..self.workers.len() {
                    if world.now < self.workers[place].beat + DEAD_AFTER {
                        continue;
                    }
                    let set = self.of(&format!("inflight:{}", self.workers[place].name));
                    for job in std::mem::take(&mut self.workers[place].jobs) {
                        say!(world, "SREM", &set, Self::id(&job));
                        self.push(job, world);
                    }
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.of("active"), self.of("scheduled"));
                self.jobs.clear_waiting();
                self.jobs.delayed.clear();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let mut truth = Truth::stored(&self.jobs).with_delayed(&self.jobs.delayed, now);
        let alive = |worker: &&Worker| now < worker.beat + DEAD_AFTER;
        let all: u64 = self.workers.iter().map(|worker| worker.jobs.len() as u64).sum();
        let in_flight: u64 = self.workers.iter().filter(alive).map(|worker| worker.jobs.len() as u64).sum();
        truth.in_flight = Some(in_flight);
        truth.abandoned = Some(all - in_flight);
        truth.consumers = Some(self.workers.iter().filter(alive).count() as u64);
        truth.dead = Some(self.jobs.dead);
        truth.processed = Count::Total(self.jobs.done + self.jobs.dead);
        truth.failed = Count::Total(self.jobs.dead);
        truth
    }
}
