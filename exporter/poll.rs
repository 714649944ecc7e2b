//! The poll loop: reads all queues, folds what was seen, publishes a [`Snapshot`].
//!
//! Cost of a poll: one round trip to each Redis node for every [`SLICE`] queues, and a second one for those queues of a
//! slice that ask for it; nothing depends on how many scrape. A slice is answered within the command timeout or taken for
//! silence, and then the rest of the poll is not tried.

use crate::config::{Config, RedisConfig};
use crate::fifo::Look;
use crate::flow::Flow;
use crate::layout::{Layout, Observation};
use crate::metrics::Stats;
use crate::reads::{Ask, ReadError, Replies};
use crate::redis::{Connection, Request};
use crate::snapshot::{Identity, Reading, Row, Snapshot, Trace};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

/// Queues read in one round trip: their commands take Redis 2 to 4 ms, in runs of 50 us between which others get in.
const SLICE: usize = 1_000;
/// Rounds that a layout may ask for in one look. The longest is a key that has become of another type, whose type is asked
/// for, and which is then read in three.
const ROUNDS: usize = 5;

/// What a look at one queue gave.
pub type Outcome = Result<Observation, ReadError>;

/// Seconds since 1970.
#[must_use]
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

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

/// The side that talks to Redis.
pub struct Reader {
    redis: RedisConfig,
    connection: Option<Connection>,
    layouts: Vec<Source>,
    notify: Vec<Bytes>,
    /// Whether the last try to connect failed: the next one waits a little, so that many exporters do not come at once.
    failing: bool,
    clock: Box<dyn Fn() -> f64 + Send + Sync>,
}

struct Source {
    layout: Box<dyn Layout>,
    /// Read alone, since it failed in company.
    alone: bool,
}

impl Reader {
    /// A reader that is not connected yet.
    #[must_use]
    pub fn new(redis: RedisConfig, layouts: Vec<Box<dyn Layout>>) -> Self {
        let notify = layouts.iter().filter_map(|layout| layout.notify().cloned()).collect();
        let layouts = layouts.into_iter().map(|layout| Source { layout, alone: false }).collect();
        Self { redis, connection: None, layouts, notify, failing: false, clock: Box::new(unix_now) }
    }

    /// The same with a clock of the caller's, in seconds since 1970: for queues that were recorded.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), ..self }
    }

    /// Reads all queues once, within the time that a poll may take. The outcomes come in the order of the layouts.
    pub async fn read(&mut self) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = self.layouts.iter().map(|_| None).collect();
        let limit = self.redis.timeouts.poll;
        let silence = match tokio::time::timeout(limit, self.read_slices(&mut outcomes)).await {
            Ok(Ok(())) => ReadError::Shape("more rounds than a look may take"),
            Ok(Err(silence)) => silence,
            Err(_) => ReadError::NoAnswer("the poll timed out".into()),
        };
        let outcomes: Vec<Outcome> = outcomes
            .into_iter()
            .zip(&mut self.layouts)
            .map(|(outcome, source)| outcome.unwrap_or_else(|| Err(abandon(source, &silence))))
            .collect();
        for (source, outcome) in self.layouts.iter_mut().zip(&outcomes) {
            source.alone = outcome.as_ref().is_err_and(|error| !error.is_silence());
        }
        let silent = outcomes.iter().filter(|outcome| outcome.as_ref().is_err_and(ReadError::is_silence)).count();
        // Within a cluster one node may be silent while the others answer.
        let keeps =
            self.connection.as_ref().is_some_and(|connection| connection.is_clustered() && silent < outcomes.len());
        if silent > 0 && !keeps {
            self.connection = None;
        }
        outcomes
    }

    async fn read_slices(&mut self, outcomes: &mut [Option<Outcome>]) -> Result<(), ReadError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                if self.failing {
                    let most = self.redis.timeouts.connect.as_millis().min(500) as u64;
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=most / 2))).await;
                }
                self.failing = true;
                let opened = Connection::open(&self.redis, &self.notify).await?;
                self.failing = false;
                none.insert(opened)
            }
        };
        for (layouts, outcomes) in self.layouts.chunks_mut(SLICE).zip(outcomes.chunks_mut(SLICE)) {
            read_slice(connection, layouts, outcomes, &self.clock).await;
            let silence = |outcome: &Option<Outcome>| match outcome {
                Some(Err(error)) if error.is_silence() => Some(error.clone()),
                _ => None,
            };
            if outcomes.iter().all(|outcome| silence(outcome).is_some())
                && let Some(error) = outcomes.first().and_then(silence)
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// Tells a layout that this look came to nothing, so that the next one starts afresh.
fn abandon(source: &mut Source, error: &ReadError) -> ReadError {
    let now = Instant::now();
    let look = Look { sent: now, received: now, unix: unix_now(), pops: None };
    let _ = source.layout.answer(&mut Replies::new(vec![Err(error.clone())]), look);
    error.clone()
}

async fn read_slice(
    connection: &Connection,
    sources: &mut [Source],
    outcomes: &mut [Option<Outcome>],
    clock: &(dyn Fn() -> f64 + Send + Sync),
) {
    let mut open: Vec<(&mut Source, &mut Option<Outcome>)> = sources.iter_mut().zip(outcomes).collect();
    for _ in 0..ROUNDS {
        if open.is_empty() {
            return;
        }
        let (sent, now) = (Instant::now(), clock());
        let requests: Vec<Request> = open
            .iter_mut()
            .map(|(source, _)| {
                let mut ask = Ask::default();
                source.layout.ask(&mut ask, now);
                Request { ask, alone: source.alone }
            })
            .collect();
        let answers = connection.read(&requests).await;
        let (received, unix) = (Instant::now(), clock());
        let mut again = Vec::new();
        for ((source, outcome), answers) in open.into_iter().zip(answers) {
            let pops = source.layout.notify().and_then(|key| connection.pops(key));
            let look = Look { sent, received, unix, pops };
            match source.layout.answer(&mut Replies::new(answers), look) {
                Ok(Some(observation)) => *outcome = Some(Ok(observation)),
                Ok(None) => again.push((source, outcome)),
                Err(error) => *outcome = Some(Err(error)),
            }
        }
        open = again;
    }
}

/// The side that is shown: what is known of each queue.
pub struct Board {
    entries: Vec<Entry>,
    stale_after: Duration,
    redis_up: bool,
    polled: bool,
    /// Whether some queues, but not all, got no answer.
    partly_silent: bool,
}

struct Entry {
    id: Arc<Identity>,
    flow: Flow,
    good: Option<(Instant, Reading)>,
    problem: Option<Arc<str>>,
    trace: Arc<Trace>,
}

impl Board {
    /// A board on which nothing is known yet.
    #[must_use]
    pub fn new(identities: Vec<Identity>, rate_window: Duration, stale_after: Duration) -> Self {
        let entries = identities.into_iter().map(|id| Entry {
            id: Arc::new(id),
            flow: Flow::new(rate_window),
            good: None,
            problem: None,
            trace: Arc::default(),
        });
        Self { entries: entries.collect(), stale_after, redis_up: false, polled: false, partly_silent: false }
    }

    /// Takes in the outcomes of a poll. Returns whether Redis answered at all.
    pub fn take(&mut self, outcomes: Vec<Outcome>, stats: &Stats) -> bool {
        let now = Instant::now();
        let mut silence = None;
        let mut silent = 0;
        let mut answered = false;
        for (entry, outcome) in self.entries.iter_mut().zip(outcomes) {
            match outcome {
                Ok(seen) => {
                    answered = true;
                    let totals = entry.flow.fold(&seen.counts, now);
                    entry.good = Some((now, Reading { seen, totals }));
                    if entry.problem.take().is_some() {
                        tracing::info!(queue = entry.id.label, "can be read again");
                    }
                }
                Err(error) if error.is_silence() => {
                    entry.problem.get_or_insert_with(|| error.to_string().into());
                    silence = Some(error);
                    silent += 1;
                }
                Err(error) => {
                    answered = true;
                    stats.failed(&error);
                    entry.good = None;
                    let text: Arc<str> = error.to_string().into();
                    if entry.problem.as_ref() != Some(&text) {
                        tracing::warn!(queue = entry.id.label, error = %text, kind = error.kind(), "can't be read");
                    }
                    entry.problem = Some(text);
                }
            }
            if entry.trace.is_due(now) {
                let backlog = entry.good.and_then(|(_, reading)| reading.backlog());
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

    /// What is to be shown now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        let rows = self.entries.iter().map(|entry| Row {
            id: Arc::clone(&entry.id),
            reading: entry.good.filter(|(at, _)| !self.is_stale(*at, now)).map(|(_, reading)| reading),
            problem: entry.problem.clone(),
            trace: Arc::clone(&entry.trace),
        });
        Snapshot::new(rows.collect(), self.redis_up, self.polled)
    }

    fn is_stale(&self, at: Instant, now: Instant) -> bool {
        now.saturating_duration_since(at) >= self.stale_after
    }

    /// When the next reading dies, if no poll ends before.
    fn next_death(&self) -> Option<Instant> {
        let now = Instant::now();
        let living = self.entries.iter().filter_map(|entry| entry.good).filter(|(at, _)| !self.is_stale(*at, now));
        living.map(|(at, _)| at + self.stale_after).min()
    }
}

/// The poll loop, and what it is watched by.
pub struct Poller {
    reader: Reader,
    board: Board,
    interval: Duration,
    stats: Arc<Stats>,
    shown: watch::Sender<Arc<Snapshot>>,
    pulse: Arc<Pulse>,
}

impl Poller {
    /// Makes the loop from the configuration; the address to listen on is left to the caller.
    #[must_use]
    pub fn new(config: Config, stats: Arc<Stats>) -> Self {
        let (identities, layouts) = config
            .queues
            .into_iter()
            .map(|queue| (Identity::new(queue.label, queue.layout_name, queue.policy), queue.layout))
            .unzip();
        let board = Board::new(identities, config.rate_window, config.stale_after);
        let longest = config.stale_after + config.poll_interval * 2;
        Self {
            reader: Reader::new(config.redis, layouts),
            shown: watch::Sender::new(Arc::new(board.snapshot())),
            board,
            interval: config.poll_interval,
            stats,
            pulse: Arc::new(Pulse { start: Instant::now(), beat: AtomicU64::new(0), longest }),
        }
    }

    /// What is shown, now and later.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.shown.subscribe()
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
        loop {
            ticks.tick().await;
            self.pulse.beat();
            self.poll().await;
        }
    }

    /// One poll. While it is under way, readings that die are taken down.
    async fn poll(&mut self) {
        let start = Instant::now();
        let outcomes = {
            let read = self.reader.read();
            tokio::pin!(read);
            loop {
                let death = self.board.next_death().map(tokio::time::Instant::from_std);
                tokio::select! {
                    outcomes = &mut read => break outcomes,
                    () = sleep_until(death) => {
                        self.shown.send_replace(Arc::new(self.board.snapshot()));
                    }
                }
            }
        };
        let answered = self.board.take(outcomes, &self.stats);
        self.stats.polled(start.elapsed(), answered.then(unix_now));
        self.shown.send_replace(Arc::new(self.board.snapshot()));
    }
}

async fn sleep_until(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
