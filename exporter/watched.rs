//! Which queues are watched: those that are configured, and those that are found.

use crate::layout::{Finder, Name};
use crate::metrics::Stats;
use crate::reads::ReadError;
use crate::spec::{Discovery, Queue};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The queues that are watched, in their order.
pub struct Watched {
    places: Vec<Place>,
    /// What each label stands for.
    labels: HashMap<String, Origin>,
    discoveries: Vec<Search>,
    most: usize,
    /// Configured queues beyond the most.
    configured_dropped: usize,
}

/// A library, and a queue's place in it.
#[derive(Clone, PartialEq)]
struct Origin {
    layout: &'static str,
    name: Name,
}

impl Origin {
    fn of(queue: &Queue) -> Self {
        Self { layout: queue.entry.name, name: queue.name.clone() }
    }
}

struct Place {
    label: String,
    /// The discovery that found it, and its name there; none where it is configured.
    found: Option<(usize, Bytes)>,
}

struct Search {
    discovery: Discovery,
    problem: Option<String>,
    /// Names that are watched, or were refused.
    names: BTreeSet<Bytes>,
    /// How many were refused, for there would be too many.
    dropped: usize,
    /// Names whose label is another queue's.
    taken: HashSet<Bytes>,
}

/// What is to change.
#[derive(Default)]
pub struct Change {
    /// Places of queues that are gone.
    pub gone: HashSet<usize>,
    /// Queues to be added after the others.
    pub found: Vec<Queue>,
}

impl Watched {
    /// Starts with the configured queues.
    #[must_use]
    pub fn new(queues: &[Queue], discoveries: Vec<Discovery>, most: usize, configured_dropped: usize) -> Self {
        let search =
            |discovery| Search { discovery, problem: None, names: BTreeSet::new(), dropped: 0, taken: HashSet::new() };
        Self {
            labels: queues.iter().map(|queue| (queue.label.clone(), Origin::of(queue))).collect(),
            places: queues.iter().map(|queue| Place { label: queue.label.clone(), found: None }).collect(),
            discoveries: discoveries.into_iter().map(search).collect(),
            most,
            configured_dropped,
        }
    }

    /// Compares what is watched with what the searches, in their order, know now.
    pub fn follow<'a>(
        &mut self,
        finders: impl Iterator<Item = (&'a Finder, Option<&'a ReadError>)>,
        stats: &Stats,
    ) -> Change {
        let mut change = Change::default();
        if self.discoveries.is_empty() {
            return change;
        }
        let known: Vec<(BTreeSet<Bytes>, Option<&ReadError>)> = finders
            .zip(&self.discoveries)
            .map(|((finder, error), search)| {
                let wanted = finder.names().filter(|name| search.discovery.wants(name));
                (wanted.cloned().collect(), error)
            })
            .collect();
        self.let_go(&known, &mut change);
        for (index, (names, error)) in known.into_iter().enumerate() {
            self.report(index, error, stats);
            self.take_in(index, names, &mut change);
        }
        let dropped = self.discoveries.iter().map(|search| search.dropped + search.taken.len()).sum::<usize>();
        stats.watched(self.places.len(), dropped + self.configured_dropped);
        change
    }

    fn let_go(&mut self, known: &[(BTreeSet<Bytes>, Option<&ReadError>)], change: &mut Change) {
        for (place, queue) in self.places.iter().enumerate() {
            let Some((search, name)) = &queue.found else { continue };
            if known.get(*search).is_some_and(|(names, _)| !names.contains(name)) {
                tracing::info!(queue = queue.label, "gone: its library lists it no more");
                change.gone.insert(place);
                self.labels.remove(&queue.label);
            }
        }
        let mut place = 0..;
        self.places.retain(|_| !place.next().is_some_and(|place| change.gone.contains(&place)));
    }

    fn take_in(&mut self, index: usize, names: BTreeSet<Bytes>, change: &mut Change) {
        let Some(search) = self.discoveries.get_mut(index) else { return };
        // A name that is taken is looked at again once a queue has gone: not at every poll.
        if search.names == names && search.dropped == 0 && (search.taken.is_empty() || change.gone.is_empty()) {
            return;
        }
        search.dropped = 0;
        search.taken.retain(|name| names.contains(name));
        let watched: HashSet<Bytes> = self
            .places
            .iter()
            .filter_map(|queue| queue.found.as_ref().filter(|(found, _)| *found == index))
            .map(|(_, name)| name.clone())
            .collect();
        for name in names.iter().filter(|name| !watched.contains(*name)) {
            let queue = search.discovery.queue(name.clone());
            if let Some(origin) = self.labels.get(&queue.label) {
                // The same queue, configured by its name or found by another pattern: that entry stands. Another one of the
                // same name can't be told apart by its label.
                if *origin != Origin::of(&queue) && search.taken.insert(name.clone()) {
                    let (queue, layout, other) = (queue.label, queue.entry.name, origin.layout);
                    tracing::warn!(
                        queue,
                        layout,
                        other,
                        "not watched: another queue has its name; configure it with name="
                    );
                }
                continue;
            }
            search.taken.remove(name);
            if self.places.len() >= self.most {
                search.dropped += 1;
                continue;
            }
            tracing::info!(queue = queue.label, layout = queue.entry.name, "found");
            self.labels.insert(queue.label.clone(), Origin::of(&queue));
            self.places.push(Place { label: queue.label.clone(), found: Some((index, name.clone())) });
            change.found.push(queue);
        }
        search.names = names;
    }

    fn report(&mut self, index: usize, error: Option<&ReadError>, stats: &Stats) {
        let Some(search) = self.discoveries.get_mut(index) else { return };
        let problem = error.filter(|error| !error.is_silence());
        if let Some(error) = problem {
            stats.failed(error);
        }
        let problem = problem.map(ToString::to_string);
        if let Some(error) = problem.as_ref().filter(|_| search.problem != problem) {
            tracing::warn!(layout = search.discovery.entry.name, error, "queues can't be found");
        }
        search.problem = problem;
    }
}
