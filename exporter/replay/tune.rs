//! Looks for the row of the table that costs least and still starts the jobs in time: on some workloads, to be held against others that it
//! has not seen.
//!
//! The search goes along one setting after another, as long as that helps: the settings hardly work against each other, and each
//! step costs a replay of each workload. What misses the goal is never chosen over what reaches it, however cheap.

use super::outcome::Outcome;
use super::simulate::{Around, simulate};
use super::table::{Cluster, Direction, Row, Worker};
use super::workload::Workload;
use fastrand::Rng;
use serde_json::Value;
use std::num::NonZeroUsize;

/// What a row must reach on the workloads that it is tuned on. There is some slack to what it is to reach elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The share of jobs that start within the objective, over all workloads.
    pub share: f64,
    /// The same in each.
    pub worst: f64,
    /// Changes of direction an hour, in each.
    pub reversals_per_hour: f64,
    /// Jobs that are cut off with their workers.
    pub killed: u64,
}

impl Default for Goal {
    fn default() -> Self {
        // 99 % and 98.5 % are to be held on workloads that were not seen.
        Self { share: 0.997, worst: 0.996, reversals_per_hour: 5.5, killed: 0 }
    }
}

/// What a plan came to on several workloads.
#[derive(Clone, Debug, Default)]
pub struct Score {
    /// The share of all jobs that was in time.
    pub share: f64,
    /// The same of the worst workload.
    pub worst: f64,
    /// Worker hours on all of them, where those on spot nodes count less.
    pub hours: f64,
    /// Jobs that were cut off.
    pub killed: u64,
    /// Changes of direction an hour where they were most.
    pub reversals_per_hour: f64,
}

impl Score {
    /// Of these outcomes.
    #[must_use]
    pub fn of(outcomes: &[Outcome], spot_discount: f64) -> Self {
        let total = |number: fn(&Outcome) -> u64| outcomes.iter().map(number).sum::<u64>();
        let (jobs, in_time) = (total(|outcome| outcome.jobs), total(|outcome| outcome.in_time));
        Self {
            share: if jobs == 0 { 1.0 } else { in_time as f64 / jobs as f64 },
            worst: outcomes.iter().map(Outcome::share_in_time).fold(1.0, f64::min),
            hours: outcomes.iter().map(|outcome| outcome.worker_hours(spot_discount)).sum(),
            killed: total(|outcome| outcome.killed),
            reversals_per_hour: outcomes
                .iter()
                .map(|outcome| outcome.reversals as f64 / outcome.hours)
                .fold(0.0, f64::max),
        }
    }

    /// How far it is from the goal; 0 where it is reached.
    #[must_use]
    pub fn misses(&self, goal: Goal) -> f64 {
        let short = |wanted: f64, is: f64| (wanted - is).max(0.0);
        let restless = (self.reversals_per_hour / goal.reversals_per_hour - 1.0).max(0.0);
        short(goal.share, self.share)
            + short(goal.worst, self.worst)
            + 0.01 * restless
            + 0.001 * self.killed.saturating_sub(goal.killed) as f64
    }

    fn is_better(&self, than: &Self, goal: Goal) -> bool {
        let (is, was) = (self.misses(goal), than.misses(goal));
        if (is > 0.0) != (was > 0.0) {
            return is == 0.0;
        }
        // While the goal is missed, a hundredth of the jobs is worth a third of the cost. A thousandth of the cost is noise, and what is nearer
        // to how it was is kept.
        let value = |score: &Self, misses: f64| score.hours.max(f64::MIN_POSITIVE).ln() + 30.0 * misses;
        value(self, is) < value(than, was) - 0.001
    }
}

/// Where it looks.
pub struct Search<'a> {
    /// Whose row it is.
    pub worker: &'a Worker,
    /// What it is tuned on.
    pub workloads: &'a [Workload],
    /// What is around it.
    pub around: Around,
    /// What the table does not say.
    pub cluster: Cluster,
    /// What is to be reached.
    pub goal: Goal,
    /// The mean of what a job takes, in seconds, and the longest.
    pub job_seconds: f64,
    /// See `job_seconds`.
    pub longest_job: f64,
    /// What a worker on a spot node costs less.
    pub spot_discount: f64,
    /// Busy workers are kept, though their jobs would end within the grace period.
    pub keep_busy: bool,
}

/// One setting and what it may be.
type Change = Box<dyn Fn(&mut Row)>;

impl Search<'_> {
    /// What a row comes to.
    #[must_use]
    pub fn score(&self, row: &Row) -> Score {
        let worker = Worker { row: row.clone(), ..self.worker.clone() };
        let plan = worker.plan(self.cluster);
        let one = |(place, workload): (usize, &Workload)| {
            let around = Around { seed: self.around.seed + place as u64, ..self.around };
            simulate(&plan, &around, workload)
        };
        // As many at once as there are processors; the outcome does not depend on it.
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let all: Vec<_> = self.workloads.iter().enumerate().collect();
        let outcomes = std::thread::scope(|scope| {
            let parts: Vec<_> = all
                .chunks(all.len().div_ceil(threads).max(1))
                .map(|part| scope.spawn(move || part.iter().copied().map(one).collect::<Vec<_>>()))
                .collect();
            let joined =
                parts.into_iter().map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.flatten().collect::<Vec<_>>()
        });
        Score::of(&outcomes, self.spot_discount)
    }

    /// The best row that was found, and what it comes to. `progress` is told the share of the search that is done.
    pub fn best(&self, mut progress: impl FnMut(f64)) -> (Row, Score) {
        let settings = self.settings();
        let steps: usize = settings.iter().map(Vec::len).sum();
        let starts = self.starts();
        let all = (starts.len() * (ROUNDS * steps + PAIRS)) as f64;
        let found: Vec<_> = starts
            .into_iter()
            .enumerate()
            .map(|(place, start)| {
                let before = (place * (ROUNDS * steps + PAIRS)) as f64;
                self.climb(start, &settings, |done| progress((before + done as f64) / all))
            })
            .collect();
        progress(1.0);
        let better =
            |best: (Row, Score), next: (Row, Score)| if next.1.is_better(&best.1, self.goal) { next } else { best };
        found.into_iter().reduce(better).unwrap_or_else(|| (self.worker.row.clone(), self.score(&self.worker.row)))
    }

    /// The row as it is, and one that follows the backlog as closely as it may.
    fn starts(&self) -> Vec<Row> {
        let given = self.worker.row.clone();
        let mut close = given.clone();
        if self.may_be_sent_away() {
            close.in_flight = Value::Bool(false);
        }
        close.arrival_rate = false;
        close.scale_up = Direction { stabilization_window_seconds: 0, percent: 100, period_seconds: 15 };
        close.scale_down = Direction { stabilization_window_seconds: 300, percent: 100, period_seconds: 15 };
        vec![given, close]
    }

    /// A worker that ends its job in the time that it is given need not be waited for.
    fn may_be_sent_away(&self) -> bool {
        let row = &self.worker.row;
        let spot = row.spot.termination_grace_period_seconds;
        let grace = if row.spot.enabled { spot } else { row.termination_grace_period_seconds };
        !self.keep_busy && self.longest_job <= grace as f64
    }

    fn climb(&self, start: Row, settings: &[Vec<Change>], mut progress: impl FnMut(usize)) -> (Row, Score) {
        let mut score = self.score(&start);
        let mut best = start;
        let mut attempt = |row: Row, best: &mut Row| {
            if row == *best || 2 * row.scale_down_depth > row.scale_up_depth {
                return;
            }
            let found = self.score(&row);
            if found.is_better(&score, self.goal) {
                (*best, score) = (row, found);
            }
        };
        let steps: usize = settings.iter().map(Vec::len).sum();
        for round in 0..ROUNDS {
            let before = best.clone();
            let mut done = round * steps;
            for changes in settings {
                let from = best.clone();
                for change in changes {
                    let mut row = from.clone();
                    change(&mut row);
                    attempt(row, &mut best);
                    done += 1;
                    progress(done);
                }
            }
            if best == before {
                break;
            }
        }
        // Two settings at once, by chance: what no single step leads to.
        let mut rng = Rng::with_seed(self.around.seed);
        for pair in 0..PAIRS {
            let mut row = best.clone();
            for _ in 0..2 {
                let setting = settings.get(rng.usize(0..settings.len()));
                if let Some(change) = setting.and_then(|changes| changes.get(rng.usize(0..changes.len()))) {
                    change(&mut row);
                }
            }
            attempt(row, &mut best);
            progress(ROUNDS * steps + pair + 1);
        }
        (best, score)
    }

    fn settings(&self) -> Vec<Vec<Change>> {
        let mut settings: Vec<Vec<Change>> = Vec::new();
        // The backlog that is done within a part of the objective; and under which part of that workers go.
        let whole = self.worker.row.objective() / self.job_seconds * self.worker.row.slots as f64;
        let mut depths: Vec<Change> = Vec::new();
        for part in [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8] {
            for under in [0.5, 0.25, 0.1] {
                depths.push(Box::new(move |row: &mut Row| {
                    row.scale_up_depth = ((part * whole) as u64).max(2);
                    row.scale_down_depth = ((row.scale_up_depth as f64 * under) as u64).max(1);
                }));
            }
        }
        settings.push(depths);
        let mut kept: Vec<Change> = vec![Box::new(|row| row.in_flight = Value::String("auto".into()))];
        if self.may_be_sent_away() {
            kept.push(Box::new(|row| row.in_flight = Value::Bool(false)));
        }
        settings.push(kept);
        let job_seconds = self.job_seconds;
        settings.push(vec![
            Box::new(|row| row.arrival_rate = false),
            Box::new(move |row| {
                row.arrival_rate = true;
                if row.job_seconds == 0.0 {
                    row.job_seconds = (job_seconds * 1_000.0).round() / 1_000.0;
                }
            }),
        ]);
        settings.push(windows(|row, window| row.scale_up.stabilization_window_seconds = window, &[0, 15, 30, 60]));
        settings.push(windows(
            |row, window| row.scale_down.stabilization_window_seconds = window,
            &[30, 60, 120, 180, 300, 600, 900],
        ));
        // More of those that are always there, where nothing else is soon enough.
        let (min, max) = (self.worker.row.min_replicas, self.worker.row.max_replicas);
        let mut floors: Vec<Change> = vec![Box::new(move |row: &mut Row| row.min_replicas = min)];
        for part in [0.2, 0.3, 0.4, 0.5, 0.7] {
            let floor = (part * f64::from(max)).ceil() as i32;
            if floor > min {
                floors.push(Box::new(move |row: &mut Row| row.min_replicas = floor));
            }
        }
        settings.push(floors);
        let mut steps: Vec<Change> = Vec::new();
        for percent in [10, 25, 50, 100] {
            for period in [15, 30, 60, 120] {
                steps.push(Box::new(move |row: &mut Row| {
                    (row.scale_down.percent, row.scale_down.period_seconds) = (percent, period);
                }));
            }
        }
        settings.push(steps);
        let mut steps: Vec<Change> = Vec::new();
        for percent in [50, 100, 400] {
            steps.push(Box::new(move |row: &mut Row| {
                (row.scale_up.percent, row.scale_up.period_seconds) = (percent, 15);
            }));
        }
        settings.push(steps);
        settings
    }
}

/// How often all settings are gone through, at most.
const ROUNDS: usize = 3;
/// How many pairs of settings are tried after that.
const PAIRS: usize = 120;

fn windows(set: fn(&mut Row, u64), seconds: &[u64]) -> Vec<Change> {
    seconds.iter().copied().map(|seconds| Box::new(move |row: &mut Row| set(row, seconds)) as Change).collect()
}
