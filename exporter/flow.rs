//! What came and went in one queue over time: counters that never go back, gaps, and rates over a window.
//!
//! A layout gives either true totals, kept by its library or by the workers, or the steps that a look saw. A total that
//! falls by less than half is a stale answer and is held; one that falls further was reset, and is passed through as
//! Prometheus expects of a counter. A rate is published only when the whole window was watched and holds no gap.
//!
//! Memory: [`Window::SAMPLES`] samples of 32 bytes a queue, whatever the window.

use crate::window::{Points, Window};
use std::time::{Duration, Instant};

/// What a layout says of arrivals and departures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    /// Jobs put in.
    pub arrivals: Count,
    /// Jobs done, or taken where completion can't be seen.
    pub processed: Count,
    /// Jobs failed.
    pub failed: Count,
    /// Whether this look could only give lower bounds.
    pub gap: bool,
}

/// One of the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Count {
    /// It can't be known.
    #[default]
    Unknown,
    /// The value of a counter that somebody else keeps.
    Total(u64),
    /// The change since the last look; below 0 where jobs were returned.
    Step(i64),
}

impl From<Option<u64>> for Count {
    fn from(total: Option<u64>) -> Self {
        total.map_or(Self::Unknown, Self::Total)
    }
}

/// The counters and rates of one queue, as published.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Jobs put in.
    pub arrivals: Option<u64>,
    /// Jobs done.
    pub processed: Option<u64>,
    /// Jobs failed.
    pub failed: Option<u64>,
    /// Looks over which the first two are lower bounds only.
    pub gaps: u64,
    /// Jobs put in a second, over the window.
    pub arrival_rate: Option<f64>,
    /// Jobs done a second, over the window.
    pub processing_rate: Option<f64>,
}

/// The memory of one queue's flow.
#[derive(Debug)]
pub struct Flow {
    arrivals: Meter,
    processed: Meter,
    failed: Meter,
    gaps: u64,
    /// Arrivals and processed.
    window: Window<Points<2>>,
}

impl Flow {
    /// A flow whose rates are over `window`.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self {
            arrivals: Meter::default(),
            processed: Meter::default(),
            failed: Meter::default(),
            gaps: 0,
            window: Window::new(window),
        }
    }

    /// Takes in what a look at `now` saw.
    pub fn fold(&mut self, counts: &Counts, now: Instant) -> Totals {
        self.arrivals.fold(counts.arrivals);
        self.processed.fold(counts.processed);
        self.failed.fold(counts.failed);
        // A total that somebody else keeps misses nothing.
        let misses = |count: Count| counts.gap && matches!(count, Count::Step(_));
        let missed = (misses(counts.arrivals), misses(counts.processed));
        self.gaps += u64::from(missed.0 || missed.1);
        self.arrivals.gaps += u32::from(missed.0);
        self.processed.gaps += u32::from(missed.1);
        let points =
            Points::new([self.arrivals.published, self.processed.published], [self.arrivals.gaps, self.processed.gaps]);
        let rates = self
            .window
            .fold(now, points)
            .map(|(seconds, before)| before.growth(&points).map(|growth| growth.map(|growth| growth as f64 / seconds)));
        let [arrival_rate, processing_rate] = rates.unwrap_or_default();
        Totals {
            arrivals: self.arrivals.published,
            processed: self.processed.published,
            failed: self.failed.published,
            gaps: self.gaps,
            arrival_rate,
            processing_rate,
        }
    }
}

/// One counter.
#[derive(Debug, Default)]
struct Meter {
    /// The sum of the steps, returned jobs taken off.
    net: i64,
    published: Option<u64>,
    /// Looks over which it is a lower bound only.
    gaps: u32,
}

impl Meter {
    fn fold(&mut self, count: Count) {
        match count {
            Count::Unknown => self.published = None,
            Count::Step(step) => {
                self.net = self.net.saturating_add(step);
                let net = u64::try_from(self.net).unwrap_or(0);
                self.published = Some(self.published.unwrap_or(0).max(net));
            }
            Count::Total(total) => {
                let held = self.published.filter(|before| total < *before && total >= before / 2);
                self.published = Some(held.unwrap_or(total));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fold_all(flow: &mut Flow, counts: &[Counts]) -> Totals {
        let start = Instant::now();
        let mut totals = Totals::default();
        for (second, counts) in counts.iter().enumerate() {
            totals = flow.fold(counts, start + Duration::from_secs(second as u64));
        }
        totals
    }

    fn steps(arrivals: i64, processed: i64) -> Counts {
        Counts { arrivals: Count::Step(arrivals), processed: Count::Step(processed), ..Counts::default() }
    }

    #[test]
    fn rates_are_over_the_window_once_it_is_full() {
        let mut flow = Flow::new(Duration::from_secs(10));
        assert_eq!(fold_all(&mut flow, &[steps(5, 3); 10]).arrival_rate, None);
        let mut flow = Flow::new(Duration::from_secs(10));
        let totals = fold_all(&mut flow, &[steps(5, 3); 40]);
        assert_eq!((totals.arrival_rate, totals.processing_rate), (Some(5.0), Some(3.0)));
        assert_eq!((totals.arrivals, totals.processed), (Some(200), Some(120)));
    }

    #[test]
    fn a_gap_keeps_rates_away_until_it_has_left_the_window() {
        let mut flow = Flow::new(Duration::from_secs(10));
        let mut counts = vec![steps(5, 3); 40];
        counts[29].gap = true;
        assert_eq!(fold_all(&mut flow, &counts[..39]).arrival_rate, None);
        let mut flow = Flow::new(Duration::from_secs(10));
        assert_eq!(fold_all(&mut flow, &counts).arrival_rate, Some(5.0));
    }

    #[test]
    fn a_gap_does_not_touch_a_total() {
        let counts = |n: u64| Counts {
            arrivals: Count::Step(5),
            processed: Count::Total(n * 3),
            gap: true,
            ..Counts::default()
        };
        let totals = fold_all(&mut Flow::new(Duration::from_secs(10)), &(0..40).map(counts).collect::<Vec<_>>());
        assert_eq!((totals.arrival_rate, totals.processing_rate, totals.gaps), (None, Some(3.0), 40));
    }

    #[test]
    fn returned_jobs_are_taken_off_before_more_are_counted() {
        let mut flow = Flow::new(Duration::from_secs(10));
        assert_eq!(fold_all(&mut flow, &[steps(0, 10), steps(0, -4)]).processed, Some(10));
        assert_eq!(fold_all(&mut flow, &[steps(0, 3)]).processed, Some(10));
        assert_eq!(fold_all(&mut flow, &[steps(0, 3)]).processed, Some(12));
    }

    #[test]
    fn a_small_dip_of_a_total_is_held_and_a_reset_is_passed_on() {
        let total = |n| Counts { processed: Count::Total(n), ..Counts::default() };
        let mut flow = Flow::new(Duration::from_secs(10));
        assert_eq!(fold_all(&mut flow, &[total(1000), total(990)]).processed, Some(1000));
        assert_eq!(fold_all(&mut flow, &[total(1001)]).processed, Some(1001));
        assert_eq!(fold_all(&mut flow, &[total(0)]).processed, Some(0));
        assert_eq!(fold_all(&mut flow, &[total(20)]).processed, Some(20));
    }

    proptest! {
        #[test]
        fn counters_of_steps_never_go_back_and_samples_stay_few(steps in prop::collection::vec((0_i64..50, -20_i64..50, 0_u64..3000), 1..300)) {
            let mut flow = Flow::new(Duration::from_secs(60));
            let mut now = Instant::now();
            let (mut before, mut net) = (0, 0);
            for (arrivals, processed, wait) in steps {
                now += Duration::from_millis(wait);
                let totals = flow.fold(&self::steps(arrivals, processed), now);
                net += processed;
                let processed = totals.processed.unwrap();
                prop_assert!(processed >= before && processed as i64 >= net);
                prop_assert!(flow.window.kept() <= Window::<()>::SAMPLES as usize + 1);
                before = processed;
            }
        }
    }
}
