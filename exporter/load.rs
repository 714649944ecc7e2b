//! How busy the workers of a queue are, and how long they take: what one worker is measured to do.
//!
//! By Little's law (J. D. C. Little, "A proof for the queuing formula L = λW", Operations Research 9, 1961) the mean number
//! of jobs in flight is the rate at which they are done times the mean time that one takes. Both are means over one window, so
//! neither the workers nor the jobs have to say anything.

use crate::window::{Points, Window};
use std::time::{Duration, Instant};

/// Fewer jobs than this in a window say too little of how long one takes.
const FEWEST: f64 = 10.0;

/// The load of one queue over time.
#[derive(Debug)]
pub struct Load {
    /// Jobs in flight at the last look, where they were seen.
    last: Option<(Instant, u64)>,
    /// The time spent on jobs so far, in milliseconds.
    spent: u64,
    /// Looks over which that is not known.
    gaps: u32,
    length: Duration,
    window: Window<Points<1>>,
}

/// The means of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Means {
    /// Jobs in flight.
    pub busy: Option<f64>,
    /// Seconds that a job takes, where enough were done.
    pub job_seconds: Option<f64>,
    /// Where too few were done: how long a job takes at least, by those that were done or are under way.
    pub job_seconds_at_least: Option<f64>,
}

impl Load {
    /// The load over `window`.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self { last: None, spent: 0, gaps: 0, length: window, window: Window::new(window) }
    }

    /// Notes that a look came to nothing: what was in flight since the last one is not known.
    pub fn lost(&mut self) {
        self.last = None;
        self.gaps = self.gaps.wrapping_add(1);
    }

    /// Takes in what a look at `now` saw: jobs in flight, and the rate at which jobs are done over the same window.
    pub fn fold(&mut self, in_flight: Option<u64>, processing_rate: Option<f64>, now: Instant) -> Means {
        match (self.last, in_flight) {
            (Some((before, was)), Some(is)) => {
                let time = u64::try_from(now.saturating_duration_since(before).as_millis()).unwrap_or(u64::MAX);
                self.spent = self.spent.saturating_add(time.saturating_mul(was.saturating_add(is)) / 2);
            }
            (None, Some(_)) => {}
            (_, None) => self.lost(),
        }
        self.last = in_flight.map(|jobs| (now, jobs));
        let point = Points::new([in_flight.map(|_| self.spent)], [self.gaps]);
        let start = self.window.fold(now, point);
        let busy = start.and_then(|(seconds, before)| {
            let [spent] = before.growth(&point);
            Some(spent? as f64 / 1_000.0 / seconds)
        });
        let Some((busy, rate)) = busy.zip(processing_rate) else { return Means { busy, ..Means::default() } };
        let seconds = self.length.as_secs_f64();
        if rate * seconds >= FEWEST {
            return Means { busy: Some(busy), job_seconds: Some(busy / rate), ..Means::default() };
        }
        let touched = rate * seconds + in_flight.unwrap_or(0) as f64;
        let at_least = if touched > 0.0 { busy * seconds / touched } else { 0.0 };
        Means { busy: Some(busy), job_seconds: None, job_seconds_at_least: Some(at_least) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(load: &mut Load, seen: impl Iterator<Item = Option<u64>>, rate: Option<f64>) -> Means {
        let start = Instant::now();
        let mut means = Means::default();
        for (second, in_flight) in seen.enumerate() {
            means = load.fold(in_flight, rate, start + Duration::from_secs(second as u64));
        }
        means
    }

    #[test]
    fn four_in_flight_and_two_a_second_take_two_seconds_each() {
        let means = fold(&mut Load::new(Duration::from_secs(60)), (0..70).map(|_| Some(4)), Some(2.0));
        assert_eq!(means, Means { busy: Some(4.0), job_seconds: Some(2.0), job_seconds_at_least: None });
    }

    #[test]
    fn where_nothing_is_done_a_job_may_take_any_time() {
        let means = fold(&mut Load::new(Duration::from_secs(60)), (0..70).map(|_| Some(0)), Some(0.0));
        assert_eq!(means, Means { busy: Some(0.0), job_seconds: None, job_seconds_at_least: Some(0.0) });
    }

    #[test]
    fn nothing_is_said_of_a_window_that_was_not_watched_whole() {
        assert_eq!(fold(&mut Load::new(Duration::from_secs(60)), (0..60).map(|_| Some(4)), None), Means::default());
        let missing = (0..100).map(|second| (second != 70).then_some(4));
        assert_eq!(fold(&mut Load::new(Duration::from_secs(60)), missing, Some(2.0)), Means::default());
        let left = (0..140).map(|second| (second != 70).then_some(4));
        assert_eq!(fold(&mut Load::new(Duration::from_secs(60)), left, Some(2.0)).busy, Some(4.0));
    }

    #[test]
    fn few_jobs_say_how_long_one_takes_at_least() {
        let means = fold(&mut Load::new(Duration::from_secs(60)), (0..70).map(|_| Some(4)), Some(0.1));
        // Six were done and four are under way, in 240 seconds of work.
        assert_eq!(means, Means { busy: Some(4.0), job_seconds: None, job_seconds_at_least: Some(24.0) });
    }
}
