//! A cumulative count over a window of time: how much it grew, where all of the window was watched.
//!
//! Memory: [`Window::SAMPLES`] samples, whatever the window.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counters at one moment: of each its value, and the looks so far over which it was a lower bound only.
#[derive(Clone, Copy, Debug)]
pub struct Points<const N: usize> {
    /// [`UNKNOWN`] where there is none: an Option would be twice as large, and there are 17 of these a queue.
    values: [u64; N],
    gaps: [u32; N],
}

const UNKNOWN: u64 = u64::MAX;

impl<const N: usize> Points<N> {
    /// The counters' values, where there are any, and the looks so far over which each was a lower bound only.
    #[must_use]
    pub fn new(values: [Option<u64>; N], gaps: [u32; N]) -> Self {
        Self { values: values.map(|value| value.unwrap_or(UNKNOWN)), gaps }
    }

    /// How much each grew until `later`, where that is known and was seen whole.
    #[must_use]
    pub fn growth(&self, later: &Self) -> [Option<u64>; N] {
        let known = |value: &u64| Some(*value).filter(|value| *value != UNKNOWN);
        std::array::from_fn(|place| {
            let (before, after) = (known(self.values.get(place)?)?, known(later.values.get(place)?)?);
            if self.gaps.get(place) == later.gaps.get(place) { after.checked_sub(before) } else { None }
        })
    }
}

/// Samples spread over the window.
#[derive(Debug)]
pub struct Window<T> {
    length: Duration,
    first: Option<Instant>,
    /// Milliseconds since the first look, and what was then.
    samples: VecDeque<(u64, T)>,
}

impl<T: Copy> Window<T> {
    /// How many samples span the window: what is said of it is over the window to within a fifteenth.
    pub const SAMPLES: u32 = 16;

    /// A window of this length, of which nothing was watched yet.
    #[must_use]
    pub fn new(length: Duration) -> Self {
        Self { length, first: None, samples: VecDeque::new() }
    }

    /// Takes in what was seen at `at`; gives the seconds since the start of the window and what was seen then, once all of
    /// it was watched.
    pub fn fold(&mut self, at: Instant, seen: T) -> Option<(f64, T)> {
        let since = at.saturating_duration_since(*self.first.get_or_insert(at));
        let now = since.as_millis().try_into().unwrap_or(u64::MAX);
        let age = |(at, _): &(u64, T)| Duration::from_millis(now.saturating_sub(*at));
        // The oldest that is kept is the youngest that spans the window.
        while self.samples.get(1).is_some_and(|second| age(second) >= self.length) {
            self.samples.pop_front();
        }
        let spacing = self.length / (Self::SAMPLES - 1);
        // Polls come at least twice a window. Before a longer silence, what was seen is no start of it.
        let spans = self.length..=self.length * 3 / 2 + spacing;
        let start = self.samples.front().filter(|start| spans.contains(&age(start)));
        let start = start.map(|start| (age(start).as_secs_f64(), start.1));
        if self.samples.back().is_none_or(|last| age(last) >= spacing) {
            // All at once: growing by doubling would take twice as much.
            if self.samples.is_empty() {
                self.samples.reserve_exact(Self::SAMPLES as usize + 1);
            }
            self.samples.push_back((now, seen));
        }
        start
    }

    /// How many samples are kept.
    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.samples.len()
    }
}
