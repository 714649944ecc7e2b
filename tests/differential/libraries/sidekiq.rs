//! Sidekiq 7 (times in seconds) and 8 (in milliseconds): a list of documents; all else is of all queues together.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::Truth;
use crate::differential::world::World;
use queue_exporter::layout::Globals;

/// Threads of the one process.
const SLOTS: u64 = 5;

/// What the process said of itself with its last heartbeat.
struct Said {
    running: u64,
    quiet: bool,
}

pub struct Sidekiq {
    key: &'static str,
    millis: bool,
    jobs: Jobs,
    process: u64,
    said: Option<Said>,
    quiet: bool,
    /// Scheduled jobs of other queues, due at once.
    foreign: Vec<u64>,
}

impl Sidekiq {
    pub fn new(key: &'static str, millis: bool) -> Self {
        Self { key, millis, jobs: Jobs::new(1), process: 1, said: None, quiet: false, foreign: Vec::new() }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    fn payload(&self, job: &Job, dated: bool) -> String {
        let time = match (dated, self.millis) {
            (false, _) => String::new(),
            (true, true) => format!(",\"enqueued_at\":{}", job.came),
            (true, false) => format!(",\"enqueued_at\":{}.{:03}", job.came / 1_000, job.came % 1_000),
        };
        format!("{{\"jid\":\"{}\",\"queue\":\"q\",\"retry_count\":{}{time}}}", job.number, job.tries)
    }

    fn push(&mut self, mut job: Job, world: &mut World) {
        world.now += 1;
        job.came = world.now;
        say!(world, "SADD", self.of("queues"), "q");
        say!(world, "LPUSH", self.of("queue:q"), self.payload(&job, true));
        self.jobs.push(0, job, world);
    }

    fn delay(&self, job: &mut Job, set: &str, seconds: u64, world: &mut World) {
        job.due = world.now + seconds * 1_000;
        say!(world, "ZADD", self.of(set), job.due as f64 / 1e3, self.payload(job, false));
    }

    fn count(&mut self, failed: bool, world: &mut World) {
        self.jobs.done += 1;
        say!(world, "INCR", self.of("stat:processed"));
        if failed {
            self.jobs.failed += 1;
            say!(world, "INCR", self.of("stat:failed"));
        }
    }

    fn beat(&mut self, world: &mut World) {
        let name = format!("host:{}:x", self.process);
        let (hash, work) = (self.of(&name), self.of(&format!("{name}:work")));
        let info = format!("{{\"concurrency\":{SLOTS},\"queues\":[\"q\"]}}");
        say!(world, "SADD", self.of("processes"), name);
        say!(world, "HSET", &hash, "info", info, "quiet", self.quiet.to_string(), "beat", world.now);
        say!(world, "DEL", &work);
        for (thread, job) in self.jobs.in_flight.iter().enumerate() {
            let running = format!("{{\"queue\":\"q\",\"payload\":{},\"run_at\":1}}", self.payload(job, true));
            say!(world, "HSET", &work, thread, running);
        }
        self.said = Some(Said { running: self.jobs.in_flight.len() as u64, quiet: self.quiet });
    }
}

impl Library for Sidekiq {
    fn spec(&self) -> String {
        format!("sidekiq:q?prefix={0}:&name={0}", self.key)
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
            Verb::Delay => {
                let mut job = self.jobs.make(world);
                self.delay(&mut job, "schedule", act.seconds, world);
                self.jobs.delayed.push(job);
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of("schedule"), self.payload(&job, false));
                    self.push(job, world);
                }
                for job in due(&mut self.jobs.retrying, world.now) {
                    say!(world, "ZREM", self.of("retry"), self.payload(&job, false));
                    self.push(job, world);
                }
            }
            Verb::Take if !self.quiet && self.jobs.in_flight.len() < SLOTS as usize => {
                let Some(job) = self.jobs.take(0, world) else { return };
                say!(world, "RPOP", self.of("queue:q"));
                self.jobs.in_flight.push(job);
            }
            Verb::Finish => {
                if self.jobs.running(act.pick).is_none() {
                    return;
                }
                self.count(false, world);
            }
            Verb::FailLater | Verb::FailNow => {
                let Some(mut job) = self.jobs.running(act.pick) else { return };
                let seconds = if act.verb == Verb::FailNow { 0 } else { act.seconds };
                self.count(true, world);
                self.delay(&mut job, "retry", seconds, world);
                self.jobs.retrying.push(job);
            }
            Verb::Bury => {
                let Some(job) = self.jobs.running(act.pick) else { return };
                self.count(true, world);
                say!(world, "ZADD", self.of("dead"), world.now as f64 / 1e3, self.payload(&job, false));
                self.jobs.dead += 1;
            }
            // A process that stops gives its jobs back.
            Verb::Return => {
                let Some(job) = self.jobs.running(act.pick) else { return };
                say!(world, "RPUSH", self.of("queue:q"), self.payload(&job, true));
                self.jobs.push_front(0, job, world);
            }
            Verb::Remove => {
                if let Some(job) = self.jobs.remove(0, act.pick, world) {
                    say!(world, "LREM", self.of("queue:q"), 1, self.payload(&job, true));
                }
            }
            Verb::Beat => self.beat(world),
            // Its keys run out, its name stays, its jobs are gone, and another takes its place.
            Verb::Die => {
                let name = format!("host:{}:x", self.process);
                say!(world, "DEL", self.of(&name), self.of(&format!("{name}:work")));
                self.jobs.in_flight.clear();
                (self.process, self.said, self.quiet) = (self.process + 1, None, false);
            }
            Verb::Pause => self.quiet = true,
            Verb::Resume => self.quiet = false,
            // clear
            Verb::Delete => {
                say!(world, "DEL", self.of("queue:q"));
                say!(world, "SREM", self.of("queues"), "q");
                self.jobs.clear_waiting();
            }
            Verb::Foreign => {
                let due = world.now + act.seconds * 1_000;
                say!(world, "ZADD", self.of("schedule"), due as f64 / 1e3, format!("f{}", self.foreign.len()));
                self.foreign.push(due);
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::stored(jobs);
        let said = self.said.as_ref();
        truth.in_flight = Some(said.map_or(0, |said| said.running));
        truth.consumers = Some(u64::from(said.is_some()));
        truth.slots = Some(said.filter(|said| !said.quiet).map_or(0, |_| SLOTS));
        let count = |due: &dyn Fn(u64) -> bool, jobs: &[Job]| jobs.iter().filter(|job| due(job.due)).count() as u64;
        let foreign_due = self.foreign.iter().filter(|due| **due <= now).count() as u64;
        let is_due = |due: u64| due <= now;
        truth.globals = Some(Globals {
            in_flight: truth.in_flight,
            workers_left_out: Some(0),
            due: Some(count(&is_due, &jobs.delayed) + count(&is_due, &jobs.retrying) + foreign_due),
            delayed: Some(count(&|due| due > now, &jobs.delayed) + self.foreign.len() as u64 - foreign_due),
            retrying: Some(count(&|due| due > now, &jobs.retrying)),
            dead: Some(jobs.dead),
            processed: Some(jobs.done),
            failed: Some(jobs.failed),
            ..Globals::default()
        });
        truth
    }
}
