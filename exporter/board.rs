//! What is known of each queue between polls: its last good reading while that is fresh, its counters and rates, its
//! recent past, and what is wrong with it.

use crate::desired::Desired;
use crate::flow::Flow;
use crate::layout::Globals;
use crate::metrics::Stats;
use crate::reader::{LibraryName, Outcome};
use crate::reads::ReadError;
use crate::snapshot::{Identity, LibraryRow, Reading, Row, Snapshot, Trace};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The side that is shown: what is known of each queue.
pub struct Board {
    entries: Vec<Entry>,
    libraries: Vec<Library>,
    rate_window: Duration,
    stale_after: Duration,
    redis_up: bool,
    polled: bool,
    /// Whether some queues, but not all, got no answer.
    partly_silent: bool,
}

struct Library {
    name: LibraryName,
    good: Option<(Instant, Globals)>,
    problem: Option<String>,
}

struct Entry {
    id: Arc<Identity>,
    flow: Flow,
    /// Where the policy asks for it.
    desired: Option<Box<Desired>>,
    /// Shared with the snapshots, of which the last one and the next are there at once.
    good: Option<(Instant, Arc<Reading>)>,
    problem: Option<Arc<str>>,
    trace: Arc<Trace>,
}

impl Entry {
    /// Takes in what a look gave; returns the error where nothing was heard.
    fn take(&mut self, outcome: Outcome, now: Instant, stats: &Stats) -> Option<ReadError> {
        match outcome {
            Ok(seen) => {
                let totals = self.flow.fold(&seen.counts, now);
                let desired = self.desired.as_mut().and_then(|desired| desired.fold(&seen, &totals, now));
                self.good = Some((now, Arc::new(Reading { seen, totals, desired })));
                if self.problem.take().is_some() {
                    tracing::info!(queue = &*self.id.label, "can be read again");
                }
                return None;
            }
            Err(error) => {
                if let Some(desired) = &mut self.desired {
                    desired.lost();
                }
                if error.is_silence() {
                    self.problem.get_or_insert_with(|| error.to_string().into());
                    return Some(error);
                }
                stats.failed(&error);
                self.good = None;
                let text: Arc<str> = error.to_string().into();
                if self.problem.as_ref() != Some(&text) {
                    tracing::warn!(queue = &*self.id.label, error = %text, kind = error.kind(), "can't be read");
                }
                self.problem = Some(text);
            }
        }
        None
    }
}

impl Board {
    /// A board on which nothing is known yet.
    #[must_use]
    pub fn new(rate_window: Duration, stale_after: Duration) -> Self {
        Self {
            entries: Vec::new(),
            libraries: Vec::new(),
            rate_window,
            stale_after,
            redis_up: false,
            polled: false,
            partly_silent: false,
        }
    }

    /// Adds a queue of which nothing is known yet.
    pub fn add(&mut self, id: Identity) {
        let flow = Flow::new(self.rate_window);
        let desired = Desired::new(id.policy, self.rate_window).map(Box::new);
        self.entries.push(Entry { id: Arc::new(id), flow, desired, good: None, problem: None, trace: Arc::default() });
    }

    /// Keeps those queues whose place is not in `gone`.
    pub fn remove(&mut self, gone: &HashSet<usize>) {
        let mut place = 0..;
        self.entries.retain(|_| !place.next().is_some_and(|place| gone.contains(&place)));
    }

    /// Takes in what a poll saw of libraries as a whole.
    pub fn take_libraries(&mut self, seen: Vec<(LibraryName, Result<Globals, ReadError>)>, stats: &Stats) {
        let now = Instant::now();
        for (name, outcome) in seen {
            let place = match self.libraries.iter().position(|library| library.name == name) {
                Some(place) => place,
                None => {
                    self.libraries.push(Library { name, good: None, problem: None });
                    self.libraries.len() - 1
                }
            };
            let Some(library) = self.libraries.get_mut(place) else { continue };
            match outcome {
                Ok(globals) => (library.good, library.problem) = (Some((now, globals)), None),
                Err(error) if error.is_silence() => {}
                Err(error) => {
                    stats.failed(&error);
                    library.good = None;
                    let text = error.to_string();
                    if library.problem.as_ref() != Some(&text) {
                        let LibraryName { layout, prefix } = &library.name;
                        tracing::warn!(layout, prefix, error = %text, "what the library keeps for all queues can't be read");
                    }
                    library.problem = Some(text);
                }
            }
        }
    }

    /// Takes in the outcomes of a poll, by the places of their queues, and why it ended early if it did. Returns whether Redis answered
    /// at all.
    pub fn take(
        &mut self,
        outcomes: impl Iterator<Item = (usize, Outcome)>,
        mut silence: Option<ReadError>,
        stats: &Stats,
    ) -> bool {
        let now = Instant::now();
        let mut answered = self.entries.is_empty() && silence.is_none();
        let mut silent = 0;
        for (place, outcome) in outcomes {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            match entry.take(outcome, now, stats) {
                Some(error) => {
                    silence = Some(error);
                    silent += 1;
                }
                None => answered = true,
            }
            if entry.trace.is_due(now) {
                let backlog = entry.good.as_ref().and_then(|(_, reading)| reading.backlog());
                Arc::make_mut(&mut entry.trace).push(now, backlog);
            }
        }
        if let Some(error) = &silence {
            stats.failed(error);
        }
        if answered != self.redis_up || !self.polled {
            match (&silence, answered) {
                (_, true) => tracing::info!("Redis answers"),
                (Some(error), false) => tracing::warn!(%error, kind = error.kind(), "Redis can't be read"),
                (None, false) => {}
            }
        }
        let partly_silent = answered && silent > 0;
        if let Some(error) = silence.filter(|_| partly_silent && !self.partly_silent) {
            tracing::warn!(queues = silent, %error, "a part of Redis can't be read");
        } else if self.partly_silent && !partly_silent && answered {
            tracing::info!("all of Redis answers");
        }
        (self.redis_up, self.polled, self.partly_silent) = (answered, true, partly_silent);
        answered
    }

    /// Takes in what a look at some queues between two polls gave, by their places; returns whether one of them is no longer
    /// without a job, or can't be read.
    pub fn take_some(&mut self, outcomes: impl Iterator<Item = (usize, Outcome)>, stats: &Stats) -> bool {
        let now = Instant::now();
        let mut changed = false;
        for (place, outcome) in outcomes {
            let Some(entry) = self.entries.get_mut(place) else { continue };
            // What was not heard is left to the next poll.
            if outcome.as_ref().is_err_and(ReadError::is_silence) {
                continue;
            }
            entry.take(outcome, now, stats);
            changed |= entry.good.as_ref().is_none_or(|(_, reading)| reading.is_active() != Some(false));
        }
        changed
    }

    /// The places of those of these queues that had no job when they were last looked at.
    #[must_use]
    pub fn idle_among(&self, labels: &HashSet<Arc<str>>) -> HashSet<usize> {
        let idle = |entry: &Entry| {
            entry.problem.is_none()
                && entry.good.as_ref().is_some_and(|(_, reading)| reading.is_active() == Some(false))
        };
        let wanted = |entry: &Entry| labels.contains(&entry.id.label);
        let places = self.entries.iter().enumerate().filter(|(_, entry)| idle(entry) && wanted(entry));
        places.map(|(place, _)| place).collect()
    }

    /// What is to be shown now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let mut oldest: Option<Instant> = None;
        let rows = self.entries.iter().map(|entry| {
            let good = entry.good.as_ref().filter(|(at, _)| !self.is_stale(*at, now));
            let at = good.map(|(at, _)| *at);
            oldest = oldest.into_iter().chain(at).min();
            Row {
                id: Arc::clone(&entry.id),
                reading: good.map(|(_, reading)| Arc::clone(reading)),
                problem: entry.problem.clone(),
                trace: Arc::clone(&entry.trace),
            }
        });
        let rows = rows.collect();
        let next_death = oldest.map(|at| at + self.stale_after);
        let libraries = self.libraries.iter().map(|library| LibraryRow {
            name: library.name.clone(),
            globals: library.good.filter(|(at, _)| !self.is_stale(*at, now)).map(|(_, globals)| globals),
        });
        Snapshot::new(rows, libraries.collect(), self.redis_up, self.polled).until(next_death)
    }

    fn is_stale(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) >= self.stale_after
    }
}
