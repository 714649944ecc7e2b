//! A stream with one consumer group: bare, with all that people keep beside one, and TaskIQ's.

use super::Library;
use crate::differential::history::{Act, Verb};
use crate::differential::jobs::{Job, Jobs, due};
use crate::differential::truth::{Count, Sight, Truth};
use crate::differential::world::World;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Bare,
    /// Consumers delete what they have done; delayed, retrying and dead jobs beside it.
    Companions,
    Taskiq,
}

pub struct Stream {
    key: &'static str,
    kind: Kind,
    made: bool,
    /// Entries added since the stream was made, and acknowledged.
    added: u64,
    acknowledged: u64,
    jobs: Jobs,
}

impl Stream {
    pub fn bare(key: &'static str) -> Self {
        Self { key, kind: Kind::Bare, made: false, added: 0, acknowledged: 0, jobs: Jobs::new(1) }
    }

    pub fn with_companions(key: &'static str) -> Self {
        Self { kind: Kind::Companions, ..Self::bare(key) }
    }

    pub fn of_taskiq(key: &'static str) -> Self {
        Self { kind: Kind::Taskiq, ..Self::bare(key) }
    }

    fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.key)
    }

    fn group(&self) -> &'static str {
        if self.kind == Kind::Taskiq { "taskiq" } else { "workers" }
    }

    /// The group, as a worker makes it when it starts.
    fn make(&mut self, world: &mut World) {
        if !self.made {
            self.made = true;
            say!(world, "XGROUP", "CREATE", self.key, self.group(), "0", "MKSTREAM");
        }
    }

    /// An entry's id is the moment at which it is added, as Redis makes it, by the history's clock.
    fn push(&mut self, mut job: Job, world: &mut World) {
        world.now += 1;
        job.came = world.now;
        self.added += 1;
        say!(world, "XADD", self.key, format!("{}-0", job.came), "data", job.number);
        self.jobs.push(0, job, world);
    }

    fn end(&mut self, pick: usize, world: &mut World) -> Option<Job> {
        let job = self.jobs.running(pick)?;
        let id = format!("{}-0", job.came);
        say!(world, "XACK", self.key, self.group(), &id);
        if self.kind == Kind::Companions {
            say!(world, "XDEL", self.key, &id);
        }
        self.acknowledged += 1;
        Some(job)
    }
}

impl Library for Stream {
    fn spec(&self) -> String {
        let key = self.key;
        match self.kind {
            Kind::Bare => format!("stream:{key}"),
            Kind::Companions => format!(
                "stream:{key}?group=workers&dead={key}:dead&delayed={key}:later&retrying={key}:again&failed={key}:failed"
            ),
            Kind::Taskiq => format!("taskiq:{key}"),
        }
    }

    fn key(&self) -> String {
        self.key.into()
    }

    fn jobs(&self) -> &Jobs {
        &self.jobs
    }

    fn act(&mut self, act: Act, world: &mut World) {
        let companions = self.kind == Kind::Companions;
        match act.verb {
            Verb::Enqueue => {
                self.make(world);
                let job = self.jobs.make(world);
                self.push(job, world);
            }
            Verb::Delay if companions => {
                let mut job = self.jobs.make(world);
                job.due = world.now + act.seconds * 1_000;
                say!(world, "ZADD", self.of("later"), job.due, job.number);
                self.jobs.delayed.push(job);
            }
            Verb::Take => {
                let Some(job) = self.jobs.take(0, world) else { return };
                say!(world, "XREADGROUP", "GROUP", self.group(), "w", "COUNT", 1, "STREAMS", self.key, ">");
                self.jobs.in_flight.push(job);
            }
            Verb::Finish => drop(self.end(act.pick, world)),
            Verb::FailNow => {
                if let Some(job) = self.end(act.pick, world) {
                    self.push(job, world);
                }
            }
            Verb::FailLater if companions => {
                let Some(mut job) = self.end(act.pick, world) else { return };
                job.due = world.now + act.seconds * 1_000;
                say!(world, "ZADD", self.of("again"), job.due, job.number);
                self.jobs.retrying.push(job);
            }
            Verb::Bury if companions => {
                if self.end(act.pick, world).is_none() {
                    return;
                }
                say!(world, "XADD", self.of("dead"), "*", "data", "x");
                say!(world, "INCR", self.of("failed"));
                self.jobs.dead += 1;
                self.jobs.failed += 1;
            }
            Verb::Promote => {
                let jobs = [due(&mut self.jobs.delayed, world.now), due(&mut self.jobs.retrying, world.now)].concat();
                for job in jobs {
                    self.make(world);
                    say!(world, "ZREM", self.of("later"), job.number);
                    say!(world, "ZREM", self.of("again"), job.number);
                    self.push(job, world);
                }
            }
            // Another consumer claims a pending entry: it stays pending.
            Verb::Recover => {
                if let Some(job) = self.jobs.in_flight.get(act.pick % self.jobs.in_flight.len().max(1)) {
                    let id = format!("{}-0", job.came);
                    say!(world, "XCLAIM", self.key, self.group(), "other", 0, id);
                }
            }
            Verb::Delete => {
                say!(world, "DEL", self.key);
                self.jobs.clear_waiting();
                self.jobs.in_flight.clear();
                (self.made, self.added, self.acknowledged) = (false, 0, 0);
                // Its workers start again; without them nothing would tell that the queue is no list.
                if self.kind == Kind::Taskiq {
                    self.make(world);
                }
            }
            _ => {}
        }
    }

    fn truth(&self, now: u64) -> Truth {
        let jobs = &self.jobs;
        let mut truth = Truth::stored(jobs);
        if self.kind == Kind::Companions {
            truth = truth.with_delayed(&jobs.delayed, now).with_retrying(&jobs.retrying, now);
            truth.dead = Some(jobs.dead);
            truth.failed = Count::Total(jobs.failed);
        }
        truth.sight = Sight::Sure;
        truth.in_flight = Some(jobs.in_flight.len() as u64);
        // A TaskIQ queue of which nothing exists is read as a list.
        let as_list = self.kind == Kind::Taskiq && !self.made;
        if as_list {
            truth.in_flight = None;
        }
        (truth.arrivals, truth.processed) = match (as_list, self.kind) {
            (true, _) => (Count::Seen, Count::Seen),
            // Redis has no lag while the last entry that was delivered is deleted.
            (false, Kind::Companions) => (Count::Maybe(self.added), Count::Maybe(self.acknowledged)),
            (false, _) => (Count::Total(self.added), Count::Total(self.acknowledged)),
        };
        truth
    }
}
