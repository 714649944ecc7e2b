//! Bull 4: jobs with a priority are in `wait` itself, at the end that is taken from.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Sight, Truth};
use crate::differential::world::World;

pub struct Bull {
    key: &'static str,
    jobs: Jobs,
}

impl Bull {
    pub fn new(key: &'static str) -> Self {
        Self { key, jobs: Jobs::new(1) }
    }

    fn of(&self, part: &str) -> String {
        format!("bull:{}:{part}", self.key)
    }

    fn target(&self) -> String {
        self.of(if self.jobs.paused { "paused" } else { "wait" })
    }

    fn add(&mut self, delay: u64, world: &mut World) -> Job {
        let mut job = self.jobs.make(world);
        job.came = job.added + delay;
        say!(world, "INCR", self.of("id"));
        let key = self.of(&job.number.to_string());
        let opts = format!("{{\"delay\":{delay}}}");
        say!(world, "HSET", key, "name", "n", "data", "{}", "opts", opts, "timestamp", job.added, "delay", delay);
        job
    }

    fn push(&mut self, job: Job, world: &mut World) {
        say!(world, "LPUSH", self.target(), job.number);
        self.jobs.push_again(0, job, world);
    }

    /// addJob: before the first one of a lower priority, which to an observer of the ends is a job given back.
    fn push_ranked(&mut self, mut job: Job, rank: u32, world: &mut World) {
        job.rank = rank;
        job.batch = world.batch();
        say!(world, "ZADD", self.of("priority"), rank, job.number);
        let before = self.jobs.all_waiting().filter(|other| other.rank > 0 && other.rank <= rank).count();
        match before.checked_sub(1).map(|place| self.jobs.waiting[0][place].number) {
            Some(other) => say!(world, "LINSERT", self.target(), "BEFORE", other, job.number),
            None => say!(world, "RPUSH", self.target(), job.number),
        }
        self.jobs.push_front(0, job, world);
        let list = &mut self.jobs.waiting[0];
        list.make_contiguous()[..=before].rotate_left(1);
    }

    fn delay(&mut self, mut job: Job, millis: u64, world: &mut World) {
        job.due = world.now + millis;
        say!(world, "ZADD", self.of("delayed"), job.due * 4_096 + (job.number & 0xfff), job.number);
        self.jobs.delayed.push(job);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        say!(world, "LREM", self.of("active"), -1, job.number);
        Some(job)
    }
}

impl Library for Bull {
    fn spec(&self) -> String {
        format!("bull:{}", self.key)
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
            // A lifo job among those with a priority would not be where their set says.
            Verb::EnqueueFront if self.jobs.all_waiting().all(|job| job.rank == 0) => {
                let job = Job { batch: world.batch(), ..self.add(0, world) };
                say!(world, "RPUSH", self.target(), job.number);
                self.jobs.push_front(0, job, world);
            }
            Verb::EnqueueRanked => {
                let job = self.add(0, world);
                self.push_ranked(job, 1 + (act.pick % 3) as u32, world);
            }
            Verb::Delay => {
                let job = self.add(act.seconds * 1_000, world);
                self.delay(job, act.seconds * 1_000, world);
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of("delayed"), job.number);
                    self.push(job, world);
                }
            }
            Verb::Take if !self.jobs.paused => {
                let Some(job) = self.jobs.take(0, world) else { return };
                say!(world, "RPOPLPUSH", self.of("wait"), self.of("active"));
                say!(world, "ZREM", self.of("priority"), job.number);
                self.jobs.in_flight.push(Job { rank: 0, ..job });
            }
            Verb::Finish => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZADD", self.of("completed"), world.now, job.number);
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "ZADD", self.of("failed"), world.now, job.number);
                self.jobs.dead += 1;
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
                if self.jobs.all_waiting().any(|job| job.rank > 0) {
                    return;
                }
                let Some(job) = self.end(act.pick, world) else { return };
                say!(world, "RPUSH", self.target(), job.number);
                self.jobs.push_front(0, job, world);
            }
            Verb::Remove => {
                let Some(job) = self.jobs.remove(0, act.pick, world) else { return };
                say!(world, "LREM", self.target(), 0, job.number);
                say!(world, "ZREM", self.of("priority"), job.number);
            }
            // obliterate
            Verb::Delete => {
                for part in
                    ["wait", "paused", "meta-paused", "priority", "active", "delayed", "completed", "failed", "id"]
                {
                    say!(world, "DEL", self.of(part));
                }
                self.jobs.clear_waiting();
                self.jobs.in_flight.clear();
                self.jobs.delayed.clear();
                (self.jobs.dead, self.jobs.paused) = (0, false);
            }
            Verb::Pause if !self.jobs.paused => {
                if self.jobs.length() > 0 {
                    say!(world, "RENAME", self.of("wait"), self.of("paused"));
                }
                say!(world, "SET", self.of("meta-paused"), 1);
                self.jobs.paused = true;
            }
            Verb::Resume if self.jobs.paused => {
                if self.jobs.length() > 0 {
                    say!(world, "RENAME", self.of("paused"), self.of("wait"));
                }
                say!(world, "DEL", self.of("meta-paused"));
                self.jobs.paused = false;
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::stored(jobs).with_delayed(&jobs.delayed, now);
        if jobs.all_waiting().any(|job| job.rank > 0) && truth.sight == Sight::Sure {
            truth.sight = Sight::Partly;
        }
        truth.in_flight = Some(jobs.in_flight.len() as u64);
        truth.dead = Some(jobs.dead);
        truth.paused = Some(jobs.paused);
        truth
    }
}
