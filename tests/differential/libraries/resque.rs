//! Resque: a list of documents without a time, and a key for each worker with the job that it runs.

use super::{Library, iso, whole_seconds};
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs};
use crate::differential::truth::Truth;
use crate::differential::world::World;
use queue_exporter::layout::Globals;

/// The exporter's, and Resque's own, in milliseconds.
const DEAD_AFTER: u64 = 300_000;

struct Worker {
    name: String,
    beat: u64,
    job: Option<Job>,
}

impl Worker {
    fn is_alive(&self, now: u64) -> bool {
        now < self.beat + DEAD_AFTER
    }
}

pub struct Resque {
    key: &'static str,
    jobs: Jobs,
    workers: Vec<Worker>,
    hired: usize,
    /// Failures in other queues.
    foreign: u64,
}

impl Resque {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1), workers: Vec::new(), hired: 0, foreign: 0 }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    fn payload(job: &Job) -> String {
        format!("{{\"class\":\"Mail\",\"args\":[{},{}]}}", job.number, job.tries)
    }

    fn push(&mut self, job: Job, world: &mut World) {
        say!(world, "SADD", self.of("queues"), "q");
        say!(world, "RPUSH", self.of("queue:q"), Self::payload(&job));
        self.jobs.push(0, job, world);
    }

    fn hire(&mut self, world: &mut World) {
        self.hired += 1;
        let worker = Worker { name: format!("host:{}:q", self.hired), beat: whole_seconds(world.now), job: None };
        say!(world, "SADD", self.of("workers"), &worker.name);
        say!(world, "HSET", self.of("workers:heartbeat"), &worker.name, iso(worker.beat));
        self.workers.push(worker);
    }

    /// One of the busy workers ends its job.
    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let busy: Vec<usize> = (0..self.workers.len()).filter(|place| self.workers[*place].job.is_some()).collect();
        let place = *busy.get(pick.checked_rem(busy.len())?)?;
        say!(world, "DEL", self.of(&format!("worker:{}", self.workers[place].name)));
        self.workers[place].job.take()
    }

    fn count(&mut self, failed: bool, world: &mut World) {
        self.jobs.done += 1;
        say!(world, "INCR", self.of("stat:processed"));
        if failed {
            self.jobs.failed += 1;
            say!(world, "INCR", self.of("stat:failed"));
        }
    }
}

impl Library for Resque {
    fn spec(&self) -> String {
        format!("resque:q?prefix={0}:&name={0}", self.key)
    }

    fn key(&self) -> String {
        self.of("queue:q")
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
            Verb::Take => {
                let idle = |worker: &Worker| worker.job.is_none() && worker.is_alive(world.now);
                if !self.workers.iter().any(idle) {
                    if self.workers.len() == 6 {
                        return;
                    }
                    self.hire(world);
                }
                let Some(place) =
                    self.workers.iter().position(|worker| worker.job.is_none() && worker.is_alive(world.now))
                else {
                    return;
                };
                let Some(job) = self.jobs.take(0, world) else { return };
                say!(world, "LPOP", self.of("queue:q"));
                let run = format!("{{\"queue\":\"q\",\"run_at\":\"{}\",\"payload\":{{}}}}", iso(world.now));
                say!(world, "SET", self.of(&format!("worker:{}", self.workers[place].name)), run);
                self.workers[place].job = Some(job);
            }
            Verb::Finish => {
                if self.end(act.pick, world).is_none() {
                    return;
                }
                self.count(false, world);
            }
            Verb::FailNow => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.count(true, world);
                self.push(job, world);
            }
            Verb::Bury => {
                if self.end(act.pick, world).is_none() {
                    return;
                }
                self.count(true, world);
                say!(world, "RPUSH", self.of("failed"), "{}");
                self.jobs.dead += 1;
            }
            Verb::Beat => {
                if self.workers.is_empty() {
                    return self.hire(world);
                }
                let (key, beat) = (self.of("workers:heartbeat"), whole_seconds(world.now));
                let place = act.pick % self.workers.len();
                self.workers[place].beat = beat;
                say!(world, "HSET", key, &self.workers[place].name, iso(beat));
            }
            // prune_dead_workers
            Verb::Recover => {
                while let Some(place) = self.workers.iter().position(|worker| !worker.is_alive(world.now)) {
                    let worker = self.workers.remove(place);
                    say!(world, "DEL", self.of(&format!("worker:{}", worker.name)));
                    say!(world, "SREM", self.of("workers"), &worker.name);
                    say!(world, "HDEL", self.of("workers:heartbeat"), &worker.name);
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.of("queue:q"));
                self.jobs.clear_waiting();
            }
            Verb::Foreign => {
                self.foreign += 1;
                say!(world, "RPUSH", self.of("failed"), "{}");
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let mut truth = Truth::seen(&self.jobs);
        let count =
            |wanted: &dyn Fn(&Worker) -> bool| Some(self.workers.iter().filter(|worker| wanted(worker)).count() as u64);
        truth.in_flight = count(&|worker| worker.job.is_some() && worker.is_alive(now));
        truth.abandoned = count(&|worker| worker.job.is_some() && !worker.is_alive(now));
        truth.consumers = count(&|worker| worker.is_alive(now));
        truth.slots = truth.consumers;
        truth.globals = Some(Globals {
            in_flight: truth.in_flight,
            workers_left_out: Some(0),
            dead: Some(self.jobs.dead + self.foreign),
            processed: Some(self.jobs.done),
            failed: Some(self.jobs.failed),
            ..Globals::default()
        });
        truth
    }
}
