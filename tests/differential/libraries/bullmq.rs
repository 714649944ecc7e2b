//! BullMQ 5 (a paused queue's jobs are in another list) and 6 (they stay), with the library's own counters or without.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Count, Sight, Truth};
use crate::differential::world::World;

pub struct BullMq {
    key: &'static str,
    major: u32,
    metrics: bool,
    jobs: Jobs,
    /// Jobs with a priority: the next is the first.
    ranked: Vec<Job>,
    started: bool,
}

impl BullMq {
    pub fn new(key: &'static str, major: u32, metrics: bool) -> Self {
        Self { key, major, metrics, jobs: Jobs::new(1), ranked: Vec::new(), started: false }
    }

    fn of(&self, part: &str) -> String {
        format!("bull:{}:{part}", self.key)
    }

    /// The list of waiting jobs.
    fn target(&self) -> String {
        self.of(if self.jobs.paused && self.major < 6 { "paused" } else { "wait" })
    }

    /// A queue or worker that starts writes its version down.
    fn start(&mut self, world: &mut World) {
        if !self.started {
            self.started = true;
            say!(world, "HSET", self.of("meta"), "version", format!("bullmq:{}.7.0", self.major));
            // The counters are there once a job of each kind is done: this queue has a past.
            if self.metrics {
                (self.jobs.done, self.jobs.failed) = (1, 1);
                say!(world, "HINCRBY", self.of("metrics:completed"), "count", 1);
                say!(world, "HINCRBY", self.of("metrics:failed"), "count", 1);
            }
        }
    }

    fn add(&mut self, delay: u64, world: &mut World) -> Job {
        self.start(world);
        let mut job = self.jobs.make(world);
        job.came = job.added + delay;
        let opts = if delay > 0 { format!("{{\"delay\":{delay},\"attempts\":3}}") } else { "{\"attempts\":3}".into() };
        say!(world, "INCR", self.of("id"));
        let key = self.of(&job.number.to_string());
        say!(world, "HSET", key, "name", "n", "data", "{}", "opts", opts, "timestamp", job.added, "delay", delay);
        job
    }

    fn push(&mut self, job: Job, world: &mut World) {
        say!(world, "LPUSH", self.target(), job.number);
        say!(world, "ZADD", self.of("marker"), 0, "0");
        self.jobs.push_again(0, job, world);
    }

    fn delay(&mut self, mut job: Job, millis: u64, world: &mut World) {
        job.due = world.now + millis;
        say!(world, "ZADD", self.of("delayed"), job.due * 4_096 + job.number % 4_096, job.number);
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "LREM", self.of("active"), -1, job.number);
        Some(job)
    }

    /// moveToFinished
    fn finish(&mut self, pick: usize, set: &str, world: &mut World) -> bool {
        let Some(job) = self.end(pick, world) else { return false };
        say!(world, "ZADD", self.of(set), world.now, job.number);
        if self.metrics {
            say!(world, "HINCRBY", self.of(&format!("metrics:{set}")), "count", 1);
        }
        true
    }

    fn promote(&mut self, world: &mut World) {
        for job in due(&mut self.jobs.delayed, world.now) {
            say!(world, "ZREM", self.of("delayed"), job.number);
            say!(world, "HSET", self.of(&job.number.to_string()), "delay", 0);
            self.push(job, world);
        }
    }
}

impl Library for BullMq {
    fn spec(&self) -> String {
        format!("bullmq:{}", self.key)
    }

    fn key(&self) -> String {
        self.of("wait")
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        match act.verb {
            Verb::Enqueue => {
                let job = self.add(0, world);
                self.push(job, world);
            }
            // lifo
            Verb::EnqueueFront => {
                let job = self.add(0, world);
                say!(world, "RPUSH", self.target(), job.number);
                self.jobs.push_front(0, Job { batch: world.batch(), ..job }, world);
            }
            Verb::EnqueueRanked => {
                let mut job = self.add(0, world);
                job.rank = 1 + (act.pick % 3) as u32;
                job.batch = world.batch();
                let score = (u64::from(job.rank) << 32) + job.number;
                say!(world, "ZADD", self.of("prioritized"), score, job.number);
                self.jobs.pushed += 1;
                self.ranked.push(job);
                self.ranked.sort_by_key(|job| (job.rank, job.number));
            }
            Verb::Delay => {
                let job = self.add(act.seconds * 1_000, world);
                // Its due time is that of its submission and its delay.
                self.delay(job, act.seconds * 1_000, world);
            }
            Verb::Promote if !self.jobs.paused => self.promote(world),
            // moveToActive
            Verb::Take if !self.jobs.paused => {
                self.promote(world);
                if let Some(job) = self.jobs.take(0, world) {
                    say!(world, "RPOPLPUSH", self.of("wait"), self.of("active"));
                    self.jobs.in_flight.push(job);
                } else if !self.ranked.is_empty() {
                    let job = self.ranked.remove(0);
                    say!(world, "ZREM", self.of("prioritized"), job.number);
                    say!(world, "LPUSH", self.of("active"), job.number);
                    self.jobs.left += 1;
                    self.jobs.in_flight.push(Job { rank: 0, ..job });
                }
            }
            Verb::Finish => self.jobs.done += u64::from(self.finish(act.pick, "completed", world)),
            Verb::Bury => {
                let buried = u64::from(self.finish(act.pick, "failed", world));
                self.jobs.dead += buried;
                self.jobs.failed += buried;
            }
            Verb::FailLater => {
                if let Some(job) = self.end(act.pick, world) {
                    self.delay(job, act.seconds * 1_000, world);
                }
            }
            Verb::FailNow => {
                if let Some(job) = self.end(act.pick, world) {
                    self.push(job, world);
                }
            }
            // moveStalledJobsToWait
            Verb::Return => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "RPUSH", self.target(), job.number);
                self.jobs.push_front(0, job, world);
            }
            Verb::Remove => {
                let Some(job) = self.jobs.remove(0, act.pick, world) else { return };
                say!(world, "LREM", self.target(), 0, job.number);
                say!(world, "DEL", self.of(&job.number.to_string()));
            }
            // obliterate
            Verb::Delete => {
                let parts = "wait paused prioritized active delayed completed failed meta id pc marker metrics:completed metrics:failed";
                for part in parts.split(' ') {
                    say!(world, "DEL", self.of(part));
                }
                self.jobs.clear_waiting();
                self.jobs.left += self.ranked.len() as i64;
                self.ranked.clear();
                self.jobs.in_flight.clear();
                self.jobs.delayed.clear();
                (self.jobs.dead, self.jobs.done, self.jobs.failed) = (0, 0, 0);
                (self.jobs.paused, self.started) = (false, false);
                // What starts writes its version again, before it adds anything.
                self.start(world);
            }
            Verb::Pause if !self.jobs.paused => {
                self.start(world);
                if self.major < 6 && self.jobs.length() > 0 {
                    say!(world, "RENAME", self.of("wait"), self.of("paused"));
                }
                say!(world, "HSET", self.of("meta"), "paused", 1);
                self.jobs.paused = true;
            }
            Verb::Resume if self.jobs.paused => {
                if self.major < 6 && self.jobs.length() > 0 {
                    say!(world, "RENAME", self.of("paused"), self.of("wait"));
                }
                say!(world, "HDEL", self.of("meta"), "paused");
                self.jobs.paused = false;
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::stored(jobs).with_delayed(&jobs.delayed, now);
        truth.length += self.ranked.len() as u64;
        truth.since.extend(self.ranked.iter().map(|job| job.came));
        if self.ranked.len() > 1 && truth.sight == Sight::Sure {
            truth.sight = Sight::Partly;
        }
        truth.in_flight = Some(jobs.in_flight.len() as u64);
        truth.dead = Some(jobs.dead);
        truth.paused = Some(jobs.paused);
        if self.metrics && self.started {
            truth.processed = Count::Total(jobs.done + jobs.failed);
            truth.failed = Count::Total(jobs.failed);
        }
        truth
    }
}
