//! TaskIQ's list broker: a bare list.

use super::Library;
use super::list::List;
use crate::differential::history::Act;
use crate::differential::jobs::Jobs;
use crate::differential::truth::Truth;
use crate::differential::world::World;

pub struct Taskiq(List);

pub fn list(key: &'static str) -> Taskiq {
    Taskiq(List::bare(key))
}

impl Library for Taskiq {
    fn spec(&self) -> String {
        format!("taskiq:{}", self.0.key())
    }

    fn key(&self) -> String {
        self.0.key()
    }

    fn act(&mut self, act: Act, world: &mut World) {
        self.0.act(act, world);
    }

    fn jobs(&self) -> &Jobs {
        self.0.jobs()
    }

    fn truth(&self, now: u64) -> Truth {
        self.0.truth(now)
    }
}
