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
    /// Made up of what is there and the total of those processed: it is reset only with that.
    Sum(u64),
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
        // A total that somebody else keeps misses nothing; steps do where they were not seen for a while.
        let misses = |count: Count, meter: &Meter| matches!(count, Count::Step(_)) && (counts.gap || meter.lost);
        let missed = (misses(counts.arrivals, &self.arrivals), misses(counts.processed, &self.processed));
        let was_reset = self.processed.fold(counts.processed);
        self.arrivals.fold(match counts.arrivals {
            // What waits and is done goes down for a moment where it is taken in between.
            Count::Sum(sum) if !was_reset => Count::Total(self.arrivals.published.unwrap_or(0).max(sum)),
            Count::Sum(sum) => Count::Total(sum),
            count => count,
        });
        self.failed.fold(counts.failed);
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
    /// The most that it was.
    most: u64,
    published: Option<u64>,
    /// Whether it could not be known at the last look.
    lost: bool,
    /// Looks over which it is a lower bound only.
    gaps: u32,
}

impl Meter {
    /// Takes in a count; returns whether the counter was reset.
    fn fold(&mut self, count: Count) -> bool {
        self.lost = matches!(count, Count::Unknown);
        let before = self.published;
        match count {
            Count::Unknown => self.published = None,
            Count::Step(step) => {
                self.net = self.net.saturating_add(step);
                self.most = self.most.max(u64::try_from(self.net).unwrap_or(0));
                self.published = Some(self.most);
            }
            Count::Total(total) | Count::Sum(total) => {
                let held = before.filter(|before| total < *before && total >= before / 2);
                self.published = Some(held.unwrap_or(total));
            }
        }
        before.zip(self.published).is_some_and(|(before, now)| now < before)
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
    fn after_a_silence_there_is_no_rate_until_a_window_was_watched_again() {
        let (mut flow, start) = (Flow::new(Duration::from_secs(10)), Instant::now());
        let mut at = |second, total| {
            let counts = Counts { arrivals: Count::Total(total), ..Counts::default() };
            flow.fold(&counts, start + Duration::from_secs(second)).arrival_rate
        };
        let before: Vec<_> = (0..20).map(|second| at(second, second)).collect();
        assert_eq!(before[19], Some(1.0));
        let after: Vec<_> = (100..112).map(|second| at(second, 1_000)).collect();
        assert_eq!((after[0], after[9], after[11]), (None, None, Some(0.0)));
    }

    #[test]
    fn steps_that_were_not_seen_for_a_while_are_a_gap() {
        let mut counts = vec![steps(5, 3); 40];
        counts[25].arrivals = Count::Unknown;
        let totals = fold_all(&mut Flow::new(Duration::from_secs(10)), &counts[..32]);
        assert_eq!((totals.arrival_rate, totals.processing_rate, totals.gaps), (None, Some(3.0), 1));
        assert_eq!(totals.arrivals, Some(31 * 5));
        assert_eq!(fold_all(&mut Flow::new(Duration::from_secs(10)), &counts).arrival_rate, Some(5.0));
    }

    #[test]
    fn jobs_that_are_taken_and_not_yet_counted_as_done_came_once() {
        let counts = |waiting: u64, done: u64| Counts {
            arrivals: Count::Sum(waiting + done),
            processed: Count::Total(done),
            ..Counts::default()
        };
        let mut flow = Flow::new(Duration::from_secs(10));
        assert_eq!(fold_all(&mut flow, &[counts(100, 0), counts(0, 0), counts(0, 60)]).arrivals, Some(100));
        assert_eq!(fold_all(&mut flow, &[counts(0, 100), counts(20, 100)]).arrivals, Some(120));
        assert_eq!(fold_all(&mut flow, &[counts(2, 0)]).arrivals, Some(2));
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
