//! The curve of cumulative arrivals of one queue over time, and what it says of the age of its oldest job.
//!
//! Jobs are numbered in the order in which they came. A [`Segment`] says of a run of numbers when they came: after one
//! look at the queue and before another. In a first-in first-out queue the number of the job that is now oldest is the
//! newest number less the length, plus one; its segment bounds its age. This needs nothing of the jobs themselves.
//!
//! Memory: 48 bytes a segment, at most [`Curve::LIMIT`] of them. A queue whose jobs span more looks than that has
//! neighbours merged, first where the merged segment is narrow against its own age, so the bound stays about a hundredth
//! of the age or better.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When a run of jobs came.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    /// Number of the first job.
    first: i64,
    /// Number of the last job.
    last: i64,
    /// None of them came before this; `None` where they were there at the first look.
    from: Option<Instant>,
    /// All of them had come by this.
    to: Instant,
}

/// How long the oldest job has waited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Age {
    /// `seconds`, give or take `error`.
    Known {
        /// The age in seconds.
        seconds: f64,
        /// The most by which it can be off, in seconds.
        error: f64,
    },
    /// At least so many seconds; no more can be said.
    AtLeast(f64),
    /// Nothing can be said.
    Unknown,
}

impl Age {
    /// The age of an empty queue.
    pub const EMPTY: Self = Self::Known { seconds: 0.0, error: 0.0 };

    /// The age of the older of two jobs, each known to within its error.
    #[must_use]
    pub fn older(self, other: Self) -> Self {
        let at_least = |age| match age {
            Self::Known { seconds, error } => f64::max(seconds - error, 0.0),
            Self::AtLeast(seconds) => seconds,
            Self::Unknown => 0.0,
        };
        let least = at_least(self).max(at_least(other));
        match (self, other) {
            (Self::Known { seconds: one, error }, Self::Known { seconds: two, error: margin }) => {
                let most = (one + error).max(two + margin);
                match if one >= two { (one, error) } else { (two, margin) } {
                    // One that is the older for sure keeps its own numbers.
                    (seconds, error) if seconds + error >= most && seconds - error >= least => {
                        Self::Known { seconds, error }
                    }
                    _ => Self::Known { seconds: (least + most) / 2.0, error: (most - least) / 2.0 },
                }
            }
            (Self::Unknown, Self::Unknown) => Self::Unknown,
            _ => Self::AtLeast(least),
        }
    }
}

/// The arrivals of one queue: segments without gaps or overlaps, oldest first.
#[derive(Debug, Default)]
pub struct Curve {
    segments: VecDeque<Segment>,
}

impl Curve {
    /// Segments kept before neighbours are merged: 17 minutes of arrivals at one look a second.
    pub const LIMIT: usize = 1024;

    /// Forgets everything and starts with the jobs `first..=last` that came by `to`, and not before `from` if given.
    pub fn restart(&mut self, first: i64, last: i64, from: Option<Instant>, to: Instant) {
        self.segments.clear();
        self.push(first, last, from, to);
    }

    /// Adds the jobs `first..=last`, that came by `to`, and not before `from` if given.
    pub fn push(&mut self, first: i64, last: i64, from: Option<Instant>, to: Instant) {
        if first > last {
            return;
        }
        self.segments.push_back(Segment { first, last, from, to });
        if self.segments.len() > Self::LIMIT {
            self.merge(to);
        }
    }

    /// Takes back all jobs after number `last`: they were removed at the end where jobs come in.
    /// Returns the earliest moment at which a job that stands in their place can have come.
    pub fn cut_after(&mut self, last: i64) -> Option<Instant> {
        while self.segments.back().is_some_and(|segment| segment.first > last) {
            self.segments.pop_back();
        }
        let segment = self.segments.back_mut()?;
        segment.last = segment.last.min(last);
        segment.from
    }

    /// Drops what is known of jobs before number `oldest`: they have left.
    pub fn forget_before(&mut self, oldest: i64) {
        while self.segments.front().is_some_and(|segment| segment.last < oldest) {
            self.segments.pop_front();
        }
    }

    /// How long the oldest job has waited at `now`, where its number lies in `least..=most`.
    ///
    /// Inside one segment the job is placed by its rank, as if arrivals were even, but not nearer to an end than a
    /// quarter: so the mean error is small and the bound is three quarters of the segment at most.
    #[must_use]
    pub fn age(&self, least: i64, most: i64, now: Instant) -> Age {
        let holding = |job: i64| self.segments.iter().find(|segment| segment.last >= job);
        let (Some(older), Some(younger)) = (holding(least), holding(most)) else {
            return Age::Unknown;
        };
        let waited = now.saturating_duration_since(younger.to).as_secs_f64();
        let Some(from) = older.from.filter(|_| older.first <= least) else {
            return Age::AtLeast(waited);
        };
        let width = younger.to.saturating_duration_since(from).as_secs_f64();
        let rank = if older == younger {
            let middle = (least + most - 2 * older.first) as f64 / 2.0 + 0.5;
            (middle / ((older.last - older.first + 1) as f64)).clamp(0.25, 0.75)
        } else {
            0.5
        };
        let after = width * rank;
        Age::Known { seconds: waited + width - after, error: after.max(width - after) }
    }

    /// Halves the number of segments, at the price of wider ones where they are oldest.
    fn merge(&mut self, now: Instant) {
        let mut share = 1.0 / 256.0;
        while self.segments.len() > Self::LIMIT * 3 / 4 {
            let mut merged: VecDeque<Segment> = VecDeque::with_capacity(self.segments.len());
            for segment in self.segments.drain(..) {
                match merged.back_mut() {
                    Some(last) if narrow(last, &segment, now, share) => {
                        last.last = segment.last;
                        last.to = segment.to;
                    }
                    _ => merged.push_back(segment),
                }
            }
            self.segments = merged;
            share *= 2.0;
        }
    }
}

/// Whether both segments together are no wider than `share` of the age of the younger.
fn narrow(older: &Segment, younger: &Segment, now: Instant, share: f64) -> bool {
    let Some(from) = older.from else { return false };
    let width: Duration = younger.to.saturating_duration_since(from);
    width.as_secs_f64() <= now.saturating_duration_since(younger.to).as_secs_f64() * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// Job number `second` came in the second that starts at `second`.
    fn push_second(curve: &mut Curve, start: Instant, second: u32) {
        let (job, from) = (i64::from(second), f64::from(second));
        curve.push(job, job, Some(at(start, from)), at(start, from + 1.0));
    }

    #[test]
    fn the_oldest_job_is_placed_inside_its_segment_by_rank() {
        let start = Instant::now();
        let mut curve = Curve::default();
        curve.push(1, 4, Some(start), at(start, 1.0));
        curve.push(5, 8, Some(at(start, 1.0)), at(start, 2.0));
        let Age::Known { seconds, error } = curve.age(6, 6, at(start, 10.0)) else { panic!("unknown") };
        assert!((seconds - (8.0 + 1.0 - 0.375)).abs() < 1e-9, "{seconds}");
        assert!((error - 0.625).abs() < 1e-9, "{error}");
    }

    #[test]
    fn jobs_from_before_the_first_look_have_a_least_age_only() {
        let start = Instant::now();
        let mut curve = Curve::default();
        curve.restart(1, 5, None, start);
        curve.push(6, 6, Some(start), at(start, 1.0));
        assert_eq!(curve.age(5, 5, at(start, 9.0)), Age::AtLeast(9.0));
        assert!(matches!(curve.age(6, 6, at(start, 9.0)), Age::Known { .. }));
        curve.forget_before(6);
        assert!(matches!(curve.age(5, 5, at(start, 9.0)), Age::AtLeast(_)), "a job that had left is back");
    }

    #[test]
    fn a_day_of_backlog_keeps_few_segments_and_a_bound_of_two_hundredths() {
        let start = Instant::now();
        let mut curve = Curve::default();
        for second in 0..86_400_u32 {
            push_second(&mut curve, start, second);
        }
        assert!(curve.segments.len() <= Curve::LIMIT, "{}", curve.segments.len());
        let now = at(start, 86_400.0);
        for job in (0..86_399_u32).step_by(97) {
            let Age::Known { seconds, error } = curve.age(i64::from(job), i64::from(job), now) else {
                panic!("unknown")
            };
            let truth = 86_400.0 - f64::from(job) - 0.5;
            assert!((seconds - truth).abs() <= error, "job {job}: {seconds} is not {truth} within {error}");
            assert!(error <= (0.02 * seconds).max(1.0), "job {job}: {error} of {seconds}");
        }
    }

    #[test]
    fn jobs_taken_back_at_the_new_end_leave_the_curve() {
        let start = Instant::now();
        let mut curve = Curve::default();
        for second in 0..10_u32 {
            push_second(&mut curve, start, second);
        }
        assert_eq!(curve.cut_after(4), Some(at(start, 4.0)));
        assert_eq!(curve.age(5, 5, at(start, 10.0)), Age::Unknown);
        assert!(matches!(curve.age(4, 4, at(start, 10.0)), Age::Known { .. }));
    }
}
