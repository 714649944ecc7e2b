//! A plain list: bare, with all that people keep beside one, and with counters and a time in its payloads.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Count, Truth};
use crate::differential::world::World;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bare,
    /// RPUSH and LPOP, jobs in flight, delayed, retrying and dead ones beside it.
    Companions,
    /// The same with LPUSH and RPOP, counters, and times in the payloads.
    Counted,
}

pub struct List {
    key: &'static str,
    kind: Kind,
    /// Whether a job that is tried again has the same bytes.
    repeats: bool,
    jobs: Jobs,
}

impl List {
    pub fn bare(key: &'static str) -> Self {
        Self { key, kind: Kind::Bare, repeats: false, jobs: Jobs::new(1) }
    }

    pub fn repeating(key: &'static str) -> Self {
        Self { repeats: true, ..Self::bare(key) }
    }

    pub fn with_companions(key: &'static str) -> Self {
        Self { kind: Kind::Companions, ..Self::bare(key) }
    }

    pub fn counted(key: &'static str) -> Self {
        Self { kind: Kind::Counted, ..Self::bare(key) }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    /// A job that is tried again has other bytes, as where workers count their tries in it; in the bare list it has the same.
    fn payload(&self, job: &Job) -> String {
        let tries = if self.repeats { 0 } else { job.tries };
        format!("{{\"id\":{},\"tries\":{tries},\"at\":{}}}", job.number, job.added)
    }

    fn is_head(&self) -> bool {
        self.kind == Kind::Companions
    }

    fn push(&mut self, job: Job, world: &mut World) {
        if self.is_head() {
            say!(world, "RPUSH", self.key, self.payload(&job));
        } else {
            say!(world, "LPUSH", self.key, self.payload(&job));
        }
        if self.repeats {
            self.jobs.push_again(0, job, world);
        } else {
            self.jobs.push(0, job, world);
        }
    }

    fn give_back(&mut self, job: Job, world: &mut World) {
        if self.is_head() {
            say!(world, "LPUSH", self.key, self.payload(&job));
        } else {
            say!(world, "RPUSH", self.key, self.payload(&job));
        }
        self.jobs.push_front(0, job, world);
    }

    fn take(&mut self, world: &mut World) {
        let (pop, from) = if self.is_head() { ("LPOP", "LEFT") } else { ("RPOP", "RIGHT") };
        let Some(job) = self.jobs.take(0, world) else { return };
        if self.kind == Kind::Bare {
            let mut command = redis::cmd(pop);
            command.arg(self.key);
            world.add(command);
        } else {
            // The payload stays as it is in flight; the try is noted when the job is put anywhere else.
            say!(world, "LMOVE", self.key, self.of("run"), from, "LEFT");
        }
        self.jobs.in_flight.push(job);
    }

    /// Takes a job out of those in flight.
    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        if self.kind != Kind::Bare {
            let taken = Job { tries: job.tries - 1, ..job.clone() };
            say!(world, "LREM", self.of("run"), 1, self.payload(&taken));
        }
        Some(job)
    }

    fn count(&mut self, failed: bool, world: &mut World) {
        if self.kind != Kind::Counted {
            return;
        }
        self.jobs.done += 1;
        say!(world, "INCR", self.of("done"));
        if failed {
            self.jobs.failed += 1;
            say!(world, "INCR", self.of("failed"));
        }
    }
}

impl Library for List {
    fn spec(&self) -> String {
        let key = self.key;
        let beside = format!("in_flight={key}:run&dead={key}:dead&delayed={key}:later&retrying={key}:again");
        match self.kind {
            Kind::Bare => format!("list:{key}"),
            Kind::Companions => format!("list:{key}?oldest=head&{beside}"),
            Kind::Counted => format!("list:{key}?{beside}&processed={key}:done&failed={key}:failed&time=at"),
        }
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
                self.push(job, world);
            }
            Verb::Delay if self.kind != Kind::Bare => {
                let mut job = self.jobs.make(world);
                job.due = world.now + act.seconds * 1_000;
                say!(world, "ZADD", self.of("later"), job.due, self.payload(&job));
                self.jobs.delayed.push(job);
            }
            Verb::Take => self.take(world),
            Verb::Finish => {
                if self.end(act.pick, world).is_none() {
                    return;
                }
                self.count(false, world);
            }
            Verb::FailNow => {
                if let Some(job) = self.end(act.pick, world) {
                    self.push(job, world);
                }
            }
            Verb::FailLater if self.kind != Kind::Bare => {
                let Some(mut job) = self.end(act.pick, world) else { return };
                job.due = world.now + act.seconds * 1_000;
                say!(world, "ZADD", self.of("again"), job.due, self.payload(&job));
                self.jobs.retrying.push(job);
            }
            Verb::Bury => {
                let Some(job) = self.end(act.pick, world) else { return };
                self.count(true, world);
                if self.kind != Kind::Bare {
                    say!(world, "LPUSH", self.of("dead"), self.payload(&job));
                    self.jobs.dead += 1;
                }
            }
            Verb::Promote => {
                for job in due(&mut self.jobs.delayed, world.now) {
                    say!(world, "ZREM", self.of("later"), self.payload(&job));
                    self.push(job, world);
                }
                for job in due(&mut self.jobs.retrying, world.now) {
                    say!(world, "ZREM", self.of("again"), self.payload(&job));
                    self.push(job, world);
                }
            }
            Verb::Return => {
                if let Some(job) = self.end(act.pick, world) {
                    self.give_back(job, world);
                }
            }
            Verb::Remove => {
                if let Some(job) = self.jobs.remove(0, act.pick, world) {
                    say!(world, "LREM", self.key, 1, self.payload(&job));
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.key);
                self.jobs.clear_waiting();
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        if self.kind == Kind::Bare {
            return Truth::seen(jobs);
        }
        let truth = if self.kind == Kind::Counted { Truth::stored(jobs) } else { Truth::seen(jobs) };
        let mut truth = truth.with_delayed(&jobs.delayed, now).with_retrying(&jobs.retrying, now);
        truth.in_flight = Some(jobs.in_flight.len() as u64);
        truth.dead = Some(jobs.dead);
        if self.kind == Kind::Counted {
            truth.processed = Count::Total(jobs.done);
            truth.failed = Count::Total(jobs.failed);
            // What came is what is done, in flight or still there.
            truth.arrivals = Count::Total(jobs.done + truth.length + jobs.in_flight.len() as u64);
        }
        truth
    }
}
