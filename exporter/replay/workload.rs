//! The jobs of one queue over a stretch of time: when each comes and how long a worker takes over it. Made from a seed, or read by
//! [`super::csv`] and [`super::history`].

use super::{Micros, SECOND, micros};
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// One job.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// When it comes.
    pub at: Micros,
    /// How long a worker takes over it.
    pub takes: Micros,
}

/// Jobs in the order in which they come, over a stretch that begins at 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// All of them.
    pub jobs: Vec<Job>,
    /// How long the stretch is.
    pub length: Micros,
}

/// How many jobs come when, as the share of the workers' maximum that they keep busy.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// The same all the time: 40 %.
    Flat,
    /// One wave, from 10 % to 70 %.
    Diurnal,
    /// 10 % and 60 % by turns, six of each.
    Steps,
    /// 15 %, and every 36 minutes (or six objectives) at once what the maximum does in 20 to 50 % of the objective.
    Bursts,
    /// Rising from 5 % to 75 %, with noise that is the same for a minute.
    Ramp,
    /// 35 % at first, while jobs come to take half as long again.
    Drift,
    /// Batches whose sizes are heavy-tailed (Pareto, 1.5), 30 % on average.
    Batches,
    /// All of the above, one after another.
    Mixed,
}

/// All of them but the mixture.
pub const SHAPES: [Shape; 7] =
    [Shape::Flat, Shape::Diurnal, Shape::Steps, Shape::Bursts, Shape::Ramp, Shape::Drift, Shape::Batches];

/// What a workload is made for.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The mean of the time that a job takes, in seconds.
    pub job_seconds: f64,
    /// Jobs that all workers at the maximum run at once.
    pub slots: f64,
    /// How long a job may wait, in seconds.
    pub objective: f64,
    /// The length of the stretch, in seconds.
    pub seconds: f64,
}

impl Shape {
    /// Its name in `--shape`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::Diurnal => "diurnal",
            Self::Steps => "steps",
            Self::Bursts => "bursts",
            Self::Ramp => "ramp",
            Self::Drift => "drift",
            Self::Batches => "batches",
            Self::Mixed => "mixed",
        }
    }

    /// The jobs of this shape: a Poisson process whose rate changes, by thinning (Lewis and Shedler), and times from an
    /// exponential distribution, so that they vary as much as they are long.
    #[must_use]
    pub fn workload(self, scale: Scale, seed: u64) -> Workload {
        if self == Self::Mixed {
            return mixed(scale, seed);
        }
        let mut rng = Rng::with_seed(seed ^ (self as u64) << 32);
        let most = scale.slots / scale.job_seconds;
        let noise: Vec<f64> = (0..=(scale.seconds / 60.0) as usize).map(|_| 0.7 + 0.6 * rng.f64()).collect();
        let share = |time: f64| {
            let place = time / scale.seconds;
            match self {
                Self::Flat => 0.4,
                Self::Diurnal => 0.4 - 0.3 * (2.0 * PI * place).cos(),
                Self::Steps if ((place * 12.0) as u64).is_multiple_of(2) => 0.1,
                Self::Steps => 0.6,
                Self::Bursts => 0.15,
                Self::Ramp => (0.05 + 0.7 * place) * noise.get((time / 60.0) as usize).copied().unwrap_or(1.0),
                Self::Drift => 0.35,
                Self::Batches | Self::Mixed => 0.0,
            }
        };
        let mut jobs = Vec::new();
        let job = |rng: &mut Rng, time: f64| {
            let slower = if self == Self::Drift { 1.0 + 0.5 * time / scale.seconds } else { 1.0 };
            Job { at: micros(time), takes: micros(exponential(rng) * scale.job_seconds * slower).max(1) }
        };
        let mut time = 0.0;
        if self != Self::Batches {
            loop {
                time += exponential(&mut rng) / most;
                if time >= scale.seconds {
                    break;
                }
                if rng.f64() < share(time) {
                    jobs.push(job(&mut rng, time));
                }
            }
        }
        if self == Self::Bursts {
            let count = (scale.seconds / (6.0 * scale.objective).max(2_160.0)).max(1.0);
            for _ in 0..count as u64 {
                let at = rng.f64() * scale.seconds;
                let size = (0.2 + 0.3 * rng.f64()) * most * scale.objective;
                jobs.extend((0..size as u64).map(|_| job(&mut rng, at)));
            }
        }
        if self == Self::Batches {
            // Pareto with a shape of 1.5 and a least size of 3 has a mean of 9; none larger than half of what the objective allows.
            let largest = (0.5 * most * scale.objective).max(3.0);
            loop {
                time += exponential(&mut rng) * 9.0 / (0.3 * most);
                if time >= scale.seconds {
                    break;
                }
                let size = (3.0 / (1.0 - rng.f64()).powf(1.0 / 1.5)).min(largest);
                jobs.extend((0..size as u64).map(|_| job(&mut rng, time)));
            }
        }
        jobs.sort_by_key(|job| job.at);
        Workload { jobs, length: micros(scale.seconds) }
    }
}

fn mixed(scale: Scale, seed: u64) -> Workload {
    let part = Scale { seconds: scale.seconds / SHAPES.len() as f64, ..scale };
    let mut jobs = Vec::new();
    for (place, shape) in SHAPES.into_iter().enumerate() {
        let start = micros(part.seconds * place as f64);
        jobs.extend(shape.workload(part, seed).jobs.into_iter().map(|job| Job { at: job.at + start, ..job }));
    }
    Workload { jobs, length: micros(scale.seconds) }
}

/// The most jobs and days that are replayed: 16 bytes a job, and a poll for each second.
const MOST_JOBS: f64 = 50e6;
const MOST_DAYS: f64 = 366.0;

/// Whether so many jobs over so many seconds can be replayed.
///
/// # Errors
/// What is too much, and the remedy.
pub fn fits(jobs: f64, seconds: f64) -> Result<(), String> {
    if jobs > MOST_JOBS {
        return Err(format!(
            "the load has {jobs:.0} jobs; at most {MOST_JOBS:.0} are replayed: take a shorter part of it"
        ));
    }
    if seconds > MOST_DAYS * 86_400.0 {
        return Err(format!(
            "the load spans {:.0} days; at most {MOST_DAYS:.0} are replayed: see whether its times are in seconds",
            seconds / 86_400.0
        ));
    }
    Ok(())
}

/// With a mean of 1.
fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

impl Workload {
    /// Work in seconds of one slot.
    #[must_use]
    pub fn work(&self) -> f64 {
        self.jobs.iter().map(|job| super::seconds(job.takes)).sum()
    }

    /// Its part from `start` on, for `length`.
    #[must_use]
    pub fn part(&self, start: Micros, length: Micros) -> Self {
        let within = self.jobs.iter().filter(|job| (start..start + length).contains(&job.at));
        let jobs = within.map(|job| Job { at: job.at - start, ..*job }).collect();
        Self { jobs, length: length.min(self.length.saturating_sub(start)) }
    }

    /// Splits it into its days, or into quarters where it has but one.
    #[must_use]
    pub fn days(&self) -> Vec<Self> {
        const DAY: Micros = 86_400 * SECOND;
        let length = if self.length >= 2 * DAY { DAY } else { self.length.div_ceil(4).max(1) };
        let parts = (0..self.length.div_ceil(length)).map(|day| self.part(day * length, length));
        parts.filter(|part| part.length * 2 >= length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale { job_seconds: 2.0, slots: 10.0, objective: 120.0, seconds: 7_200.0 };

    #[test]
    fn each_shape_brings_the_share_of_the_maximum_that_it_says() {
        let share = |shape: Shape| {
            let works: Vec<f64> = (1..=8).map(|seed| shape.workload(SCALE, seed).work()).collect();
            works.iter().sum::<f64>() / works.len() as f64 / (SCALE.slots * SCALE.seconds)
        };
        for (shape, expected) in [
            (Shape::Flat, 0.4),
            (Shape::Diurnal, 0.4),
            (Shape::Steps, 0.35),
            // 15 % and three bursts of 0.35 of 120 s on average
            (Shape::Bursts, 0.15 + 3.0 * 0.35 * 120.0 / 7_200.0),
            (Shape::Ramp, 0.4),
            (Shape::Drift, 0.35 * 1.25),
            (Shape::Mixed, 0.35),
        ] {
            let share = share(shape);
            assert!((share - expected).abs() < 0.05 * expected, "{shape:?}: {share} is not {expected}");
        }
        // The tail is cut, which takes some of the mean.
        assert!((0.2..0.32).contains(&share(Shape::Batches)));
    }

    #[test]
    fn the_same_seed_gives_the_same_jobs_in_order() {
        for shape in SHAPES.into_iter().chain([Shape::Mixed]) {
            let workload = shape.workload(SCALE, 7);
            assert_eq!(workload, shape.workload(SCALE, 7));
            assert_ne!(workload, shape.workload(SCALE, 8));
            assert!(workload.jobs.is_sorted_by_key(|job| job.at));
            assert!(workload.jobs.iter().all(|job| job.at < workload.length && job.takes > 0));
        }
    }

    #[test]
    fn days_hold_all_jobs_of_whole_days() {
        let day = 86_400.0;
        let workload = Shape::Flat.workload(Scale { seconds: 3.0 * day, job_seconds: 200.0, ..SCALE }, 1);
        let days = workload.days();
        assert_eq!(days.len(), 3);
        assert_eq!(days.iter().map(|day| day.jobs.len()).sum::<usize>(), workload.jobs.len());
        assert_eq!(Shape::Flat.workload(SCALE, 1).days().len(), 4);
    }
}
