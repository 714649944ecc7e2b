//! Whose first job someone waits for.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The queues that streams are open for, by label, with the number of streams.
#[derive(Debug, Default)]
pub struct Interest {
    counts: Mutex<HashMap<Arc<str>, usize>>,
    grown: Notify,
}

impl Interest {
    /// Waits for the jobs of a queue until the guard is dropped; `None` where `most` streams are open already.
    #[must_use]
    pub fn wait_for(self: &Arc<Self>, label: &str, most: usize) -> Option<Waiting> {
        let mut counts = self.counts();
        if counts.values().sum::<usize>() >= most {
            return None;
        }
        let label: Arc<str> = counts.get_key_value(label).map_or_else(|| label.into(), |(label, _)| Arc::clone(label));
        *counts.entry(Arc::clone(&label)).or_default() += 1;
        self.grown.notify_one();
        Some(Waiting { interest: Arc::clone(self), label })
    }

    /// Waits until one more is waited for.
    pub async fn grown(&self) {
        self.grown.notified().await;
    }

    /// The queues that are waited for.
    #[must_use]
    pub fn labels(&self) -> HashSet<Arc<str>> {
        self.counts().keys().cloned().collect()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits.
#[derive(Debug)]
pub struct Waiting {
    interest: Arc<Interest>,
    label: Arc<str>,
}

impl Waiting {
    /// For which queue.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = self.interest.counts();
        match counts.get_mut(&self.label) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.label)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_waited_for_until_the_last_one_goes() {
        let interest = Arc::new(Interest::default());
        let (first, second) = (interest.wait_for("a", 2).unwrap(), interest.wait_for("a", 2).unwrap());
        assert!(interest.wait_for("b", 2).is_none());
        drop(first);
        assert_eq!(interest.labels(), HashSet::from(["a".into()]));
        drop(second);
        assert!(interest.labels().is_empty() && interest.wait_for("b", 2).is_some());
    }
}
