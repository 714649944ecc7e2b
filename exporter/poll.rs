//! The poll loop: reads all queues, folds what was seen, publishes a [`Snapshot`], and takes in queues that were found.
//!
//! Between two polls it looks at the queues without a job whose first job an autoscaler waits for, every 50 ms, and less often where
//! that would take more than a fifth of the time.
//!
//! Its cost is that of [`crate::reader`] and of what [`crate::board`] keeps; nothing depends on how many scrape.

use crate::board::Board;
use crate::clock::unix_now;
use crate::config::Config;
use crate::metrics::Stats;
use crate::reader::Reader;
use crate::scaler::Interest;
use crate::snapshot::{Identity, Snapshot};
use crate::watched::Watched;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::{Instrument, debug_span};

/// The sign of life of the poll loop.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    beat: AtomicU64,
    longest: Duration,
}

impl Pulse {
    /// Whether the loop has ticked lately: within two polls and the time that a hanging one may take.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(beat) <= self.longest
    }

    fn beat(&self) {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(elapsed, Ordering::Relaxed);
    }
}

/// The poll loop, and what it is watched by.
pub struct Poller {
    reader: Reader,
    board: Board,
    watched: Watched,
    interval: Duration,
    stats: Arc<Stats>,
    shown: watch::Sender<Arc<Snapshot>>,
    pulse: Arc<Pulse>,
    interest: Arc<Interest>,
    /// Queues that someone waits for, and that had no job at the last look.
    idle: HashSet<usize>,
}

/// How often queues without a job are looked at that an autoscaler waits for: well within a tenth of a second.
const GLANCE: Duration = Duration::from_millis(50);
/// Such looks take at most one part of so many of the time.
const GLANCE_SHARE: u32 = 5;

impl Poller {
    /// Makes the loop from the configuration; the address to listen on is left to the caller.
    #[must_use]
    pub fn new(config: Config, stats: Arc<Stats>) -> Self {
        let watched =
            Watched::new(&config.queues, config.discoveries.clone(), config.max_queues, config.queues_dropped);
        let mut board = Board::new(config.rate_window, config.stale_after);
        for queue in &config.queues {
            board.add(Identity::new(queue.label.clone(), queue.entry.name, queue.policy));
        }
        let longest = config.stale_after + config.poll_interval * 2;
        Self {
            reader: Reader::new(config.redis, config.queues, &config.discoveries, config.discovery_ttl),
            shown: watch::Sender::new(Arc::new(board.snapshot())),
            board,
            watched,
            interval: config.poll_interval,
            stats,
            pulse: Arc::new(Pulse { start: Instant::now(), beat: AtomicU64::new(0), longest }),
            interest: Arc::default(),
            idle: HashSet::new(),
        }
    }

    /// What is shown, now and later.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shown.subscribe()
    }

    /// Whose first job is waited for.
    #[must_use]
    pub fn interest(&self) -> Arc<Interest> {
        Arc::clone(&self.interest)
    }

    /// The sign of life.
    #[must_use]
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Polls for ever.
    pub async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.interval);
        // A poll that took long must not be followed by a burst of others.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_glance = tokio::time::Instant::now();
        loop {
            let death = self.shown.borrow().next_death.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    self.pulse.beat();
                    self.poll().instrument(debug_span!("poll")).await;
                    self.idle = self.board.idle_among(&self.interest.labels());
                }
                // A reading may die between two polls, too.
                () = sleep_until(death) => drop(self.shown.send_replace(Arc::new(self.board.snapshot()))),
                () = self.interest.grown() => self.idle = self.board.idle_among(&self.interest.labels()),
                () = tokio::time::sleep_until(next_glance), if !self.idle.is_empty() => {
                    let start = tokio::time::Instant::now();
                    let span = debug_span!("glance", queues = self.idle.len());
                    self.glance().instrument(span).await;
                    next_glance = start + GLANCE.max(start.elapsed() * GLANCE_SHARE);
                }
            }
        }
    }

    /// One look at the idle queues between two polls; shown at once where a job has come.
    async fn glance(&mut self) {
        while_showing(self.reader.look_at_some(&self.idle), &self.board, &self.shown).await;
        if self.reader.silence().is_some() {
            // Redis is asked again at the next poll, and not before.
            self.idle.clear();
        }
        if self.board.take_some(self.reader.outcomes(), &self.stats) {
            self.shown.send_replace(Arc::new(self.board.snapshot()));
            self.idle = self.board.idle_among(&self.interest.labels());
        }
    }

    /// One poll.
    async fn poll(&mut self) {
        let start = Instant::now();
        // What the last poll found is read before it is shown.
        self.follow();
        while_showing(self.reader.look(), &self.board, &self.shown).await;
        let silence = self.reader.silence().cloned();
        let answered = self.board.take(self.reader.outcomes(), silence, &self.stats);
        self.board.take_libraries(self.reader.libraries(), &self.stats);
        self.stats.polled(start.elapsed(), answered.then(unix_now));
        self.shown.send_replace(Arc::new(self.board.snapshot()));
    }

    /// Takes in the queues that were found, and lets go of those that are gone.
    fn follow(&mut self) {
        let change = self.watched.follow(self.reader.finders(), &self.stats);
        if !change.gone.is_empty() {
            self.board.remove(&change.gone);
            self.reader.remove(&change.gone);
        }
        for queue in change.found {
            self.board.add(Identity::new(queue.label.clone(), queue.entry.name, queue.policy));
            self.reader.add(queue);
        }
    }
}

/// Waits for a look; while it is under way, readings that die are taken down.
async fn while_showing(look: impl Future<Output = ()>, board: &Board, shown: &watch::Sender<Arc<Snapshot>>) {
    tokio::pin!(look);
    loop {
        let death = shown.borrow().next_death.map(tokio::time::Instant::from_std);
        tokio::select! {
            () = &mut look => return,
            () = sleep_until(death) => {
                shown.send_replace(Arc::new(board.snapshot()));
            }
        }
    }
}

async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
