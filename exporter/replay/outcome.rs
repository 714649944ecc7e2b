//! What came of a plan: how long jobs waited, what the workers cost, and how restless their number was.

use super::{Micros, seconds};
use serde::Serialize;

/// Waiting times by their logarithm, to within a hundredth of each, from a millisecond on.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    counts: Vec<u64>,
    total: u64,
    longest: Micros,
}

const GROWTH: f64 = 1.01;

impl Waits {
    /// Takes in one.
    pub fn add(&mut self, wait: Micros) {
        // In milliseconds, so that the first place holds all that is under one.
        let place = ((wait as f64 / 1_000.0).max(1.0).ln() / GROWTH.ln()) as usize;
        if self.counts.len() <= place {
            self.counts.resize(place + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(wait);
    }

    /// In seconds, the wait that this share of the jobs did not exceed.
    #[must_use]
    pub fn at(&self, share: f64) -> f64 {
        let wanted = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let within = if place == 0 { 0.0 } else { GROWTH.powi(place as i32 + 1) / 1_000.0 };
                return within.min(seconds(self.longest));
            }
        }
        0.0
    }

    /// The longest, in seconds.
    #[must_use]
    pub fn longest(&self) -> f64 {
        seconds(self.longest)
    }
}

/// One moment of a replay, to draw.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Moment {
    /// Seconds since it began.
    pub time: f64,
    /// Jobs that wait.
    pub backlog: u64,
    /// Seconds that the oldest job has waited.
    pub age: f64,
    /// Workers wanted.
    pub wanted: i32,
    /// Workers that take jobs.
    pub ready: i32,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Jobs that came.
    pub jobs: u64,
    /// Of these, started within the objective.
    pub in_time: u64,
    /// How long they waited; those that were never started, until the end.
    pub waits: Waits,
    /// Jobs that were cut off with their worker and put back.
    pub killed: u64,
    /// Seconds of all workers, from the start of each until it was gone; and of those on spot nodes.
    pub worker_seconds: f64,
    /// See `worker_seconds`.
    pub spot_seconds: f64,
    /// Seconds that slots were busy.
    pub busy_seconds: f64,
    /// Changes of the number of workers that is wanted.
    pub changes: u64,
    /// Of these, those in the other direction than the last.
    pub reversals: u64,
    /// The length of the replay in hours.
    pub hours: f64,
    /// What happened when, where asked for.
    pub moments: Vec<Moment>,
}

impl Outcome {
    /// The share of jobs that were started within the objective; 1 where none came.
    #[must_use]
    pub fn share_in_time(&self) -> f64 {
        if self.jobs == 0 { 1.0 } else { self.in_time as f64 / self.jobs as f64 }
    }

    /// Hours of all workers, where one on a spot node counts as what is left of its price.
    #[must_use]
    pub fn worker_hours(&self, spot_discount: f64) -> f64 {
        (self.worker_seconds - spot_discount * self.spot_seconds) / 3_600.0
    }

    /// The share of the time of all slots that no job was in.
    #[must_use]
    pub fn idle(&self, slots: u64) -> f64 {
        let there = self.worker_seconds * slots as f64;
        if there > 0.0 { 1.0 - self.busy_seconds / there } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_hundredth() {
        let mut waits = Waits::default();
        for second in 1..=1_000_u64 {
            waits.add(second * super::super::SECOND);
        }
        for (share, expected) in [(0.5, 500.0), (0.95, 950.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let found = waits.at(share);
            assert!((found / expected - 1.0).abs() < 0.0101, "{share}: {found}");
        }
        assert_eq!((waits.longest(), Waits::default().at(0.5)), (1_000.0, 0.0));
    }
}
