//! A few elements of a list, kept with their numbers as landmarks between its oldest job and its newest.
//!
//! They lie dense near both ends and sparse between: near the old end one is needed within a short search at every look,
//! near the new end they tell how many of the newest were removed.

use bytes::Bytes;
use std::collections::VecDeque;

/// Landmarks of one list, oldest first.
#[derive(Debug, Default)]
pub struct Anchors {
    kept: VecDeque<(i64, Bytes)>,
}

impl Anchors {
    /// How many are kept.
    pub const LIMIT: usize = 24;
    /// How many of the newest a second round looks for, and how many of the oldest beside them.
    const SAMPLE: (usize, usize) = (6, 2);

    /// Adds the newest job, or the one before it, unless it is kept already; `oldest` is the number of the job at the old end.
    pub fn add(&mut self, job: i64, element: Bytes, oldest: i64) {
        let Err(place) = self.kept.binary_search_by_key(&job, |(kept, _)| *kept) else { return };
        self.kept.insert(place, (job, element));
        if self.kept.len() > Self::LIMIT {
            self.thin(oldest, job);
        }
    }

    /// The element of one job, where it is kept.
    #[must_use]
    pub fn element(&self, job: i64) -> Option<Bytes> {
        self.kept.iter().find(|(kept, _)| *kept == job).map(|(_, element)| element.clone())
    }

    /// The oldest one in `from..=to`.
    #[must_use]
    pub fn first_in(&self, from: i64, to: i64) -> Option<i64> {
        self.jobs().find(|job| *job >= from && *job <= to)
    }

    /// Whether one of the two newest is this job.
    #[must_use]
    pub fn ends_with(&self, job: i64) -> bool {
        self.kept.iter().rev().take(2).any(|(kept, _)| *kept == job)
    }

    /// The newest one in `from..=to`.
    #[must_use]
    pub fn last_in(&self, from: i64, to: i64) -> Option<i64> {
        self.jobs().filter(|job| *job >= from && *job <= to).last()
    }

    /// How many there are before this job.
    #[must_use]
    pub fn before(&self, job: i64) -> usize {
        self.jobs().take_while(|kept| *kept < job).count()
    }

    /// The few that a second round looks for, all before job `newest`.
    #[must_use]
    pub fn sample(&self, newest: i64) -> Vec<i64> {
        let all: Vec<i64> = self.jobs().filter(|job| *job < newest).collect();
        let old = all.len().saturating_sub(Self::SAMPLE.0).min(Self::SAMPLE.1);
        let young = all.len().saturating_sub(Self::SAMPLE.0);
        all.iter().take(old).chain(all.iter().skip(young)).copied().collect()
    }

    /// Drops one, whose element turned out to be no landmark.
    pub fn remove(&mut self, job: i64) {
        self.kept.retain(|(kept, _)| *kept != job);
    }

    /// Drops those after `job`.
    pub fn cut_after(&mut self, job: i64) {
        self.kept.retain(|(kept, _)| *kept <= job);
    }

    /// Drops those before `oldest`.
    pub fn forget_before(&mut self, oldest: i64) {
        while self.jobs().next().is_some_and(|job| job < oldest) {
            self.kept.pop_front();
        }
    }

    /// Drops all.
    pub fn clear(&mut self) {
        self.kept.clear();
    }

    fn jobs(&self) -> impl Iterator<Item = i64> + '_ {
        self.kept.iter().map(|(job, _)| *job)
    }

    /// Drops the one whose loss leaves the smallest gap, measured against its distance from the nearer end.
    fn thin(&mut self, oldest: i64, newest: i64) {
        let jobs: Vec<i64> = self.jobs().collect();
        let crowded = jobs.windows(3).enumerate().map(|(index, window)| {
            let (before, job, after) = (window.first(), window.get(1), window.last());
            let (Some(before), Some(job), Some(after)) = (before, job, after) else {
                return (index + 1, f64::MAX);
            };
            let far = (newest - job).min(job - oldest).max(0) + 1;
            (index + 1, (after - before) as f64 / far as f64)
        });
        if let Some((index, _)) = crowded.min_by(|one, other| one.1.total_cmp(&other.1)) {
            self.kept.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pushes: i64, oldest: i64) -> Vec<i64> {
        let mut anchors = Anchors::default();
        for job in 0..pushes {
            anchors.add(job, Bytes::new(), oldest);
        }
        anchors.jobs().collect()
    }

    #[test]
    fn they_stay_few_and_dense_at_both_ends() {
        let kept = after(10_000, 0);
        assert_eq!(kept.len(), Anchors::LIMIT);
        assert_eq!(kept.last(), Some(&9_999));
        assert!(kept[0] < 16, "{kept:?}");
        assert!(kept[kept.len() - 3] > 9_900, "{kept:?}");
    }

    #[test]
    fn a_sample_has_the_newest_and_the_oldest() {
        let mut anchors = Anchors::default();
        for job in 1..=12 {
            anchors.add(job, Bytes::new(), 1);
        }
        assert_eq!(anchors.sample(12), [1, 2, 6, 7, 8, 9, 10, 11]);
        assert_eq!(anchors.sample(3), [1, 2]);
    }
}
