//! The side that talks to Redis: one look at all queues.
//!
//! Cost of a look: one round trip to each Redis node for every [`SLICE`] queues, and a second one for those queues of a
//! slice that ask for it. A slice is answered within the command timeout or taken for silence, and then the rest of the
//! look is not tried.

use crate::clock::Clock;
use crate::config::RedisConfig;
use crate::fifo::Look;
use crate::layout::{Around, Entry, Finder, Globals, Layout, Observation, Overview};
use crate::reads::{Asks, Read, ReadError, Replies};
use crate::redis::Connection;
use crate::spec::{Discovery, Queue};
use bytes::Bytes;
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// Queues read in one round trip: their commands take Redis 2 to 4 ms, in runs of 50 us between which others get in.
const SLICE: usize = 1_000;
/// Rounds that a layout may ask for in one look. The longest is a BullMQ queue that was paused and got an overdue job since
/// the last look: it finds out one after the other where the jobs are, that some are delayed, that some are due, and when
/// the oldest came.
const ROUNDS: usize = 6;

/// What a look at one queue gave.
pub type Outcome = Result<Observation, ReadError>;

/// A library under one prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct LibraryName {
    /// The `layout` label.
    pub layout: &'static str,
    /// The `prefix` label.
    pub prefix: String,
}

/// All that is looked at.
pub struct Reader {
    redis: RedisConfig,
    connection: Option<Connection>,
    sources: Vec<Source>,
    shared: Vec<Shared>,
    finders: Vec<Found>,
    notify: Vec<Bytes>,
    /// Whether the last try to connect failed: the next one waits a little, so that many exporters do not come at once.
    failing: bool,
    /// Why the last look ended early, where nothing was heard.
    silence: Option<ReadError>,
    clock: Clock,
    /// What is asked for in one round, kept for its room.
    asks: Asks,
}

/// A queue.
struct Source {
    layout: Box<dyn Layout>,
    /// Whether it takes part in this look.
    wanted: bool,
    /// Read alone, since it failed in company.
    alone: bool,
    /// The place of its library's overview, and its name there.
    shared: Option<(usize, Bytes)>,
    outcome: Option<Outcome>,
}

/// What a library keeps for all queues together.
struct Shared {
    entry: &'static Entry,
    prefix: Bytes,
    overview: Box<dyn Overview>,
    outcome: Option<Result<Globals, ReadError>>,
}

impl Shared {
    fn is_silent(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| outcome.as_ref().is_err_and(ReadError::is_silence))
    }
}

/// A search for queues.
struct Found {
    finder: Finder,
    outcome: Option<Result<(), ReadError>>,
}

impl Reader {
    /// A reader that is not connected yet; queues that are found are known for `ttl` without a sign of them.
    #[must_use]
    pub fn new(redis: RedisConfig, queues: Vec<Queue>, discoveries: &[Discovery], ttl: Duration) -> Self {
        let notify = queues.iter().filter_map(|queue| queue.layout.notify().cloned()).collect();
        let found = |discovery: &Discovery| Found {
            finder: Finder::new(discovery.entry.register, discovery.prefix.clone(), ttl.as_secs_f64()),
            outcome: None,
        };
        let mut reader = Self {
            redis,
            connection: None,
            sources: Vec::new(),
            shared: Vec::new(),
            finders: discoveries.iter().map(found).collect(),
            notify,
            failing: false,
            silence: None,
            clock: Clock::default(),
            asks: Asks::default(),
        };
        for discovery in discoveries {
            reader.share(discovery.entry, &discovery.prefix);
        }
        for queue in queues {
            reader.add(queue);
        }
        reader
    }

    /// The same with a clock of the caller's, in seconds since 1970: for queues that were recorded.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { clock: Clock::given(clock), ..self }
    }

    /// Adds a queue, after those that are there.
    pub fn add(&mut self, queue: Queue) {
        let shared = self.share(queue.entry, &queue.name.prefix).map(|place| (place, queue.name.queue));
        self.sources.push(Source { layout: queue.layout, wanted: true, alone: false, shared, outcome: None });
    }

    /// Keeps those queues whose place is not in `gone`.
    pub fn remove(&mut self, gone: &HashSet<usize>) {
        let mut place = 0..;
        self.sources.retain(|_| !place.next().is_some_and(|place| gone.contains(&place)));
    }

    /// The place of the overview of a library that has one.
    fn share(&mut self, entry: &'static Entry, prefix: &Bytes) -> Option<usize> {
        let overview = entry.overview?;
        let same = |shared: &Shared| shared.entry.name == entry.name && shared.prefix == *prefix;
        Some(self.shared.iter().position(same).unwrap_or_else(|| {
            self.shared.push(Shared { entry, prefix: prefix.clone(), overview: overview(prefix), outcome: None });
            self.shared.len() - 1
        }))
    }

    /// The searches for queues, in the order of the discoveries, and what was wrong with the last look.
    pub fn finders(&self) -> impl Iterator<Item = (&Finder, Option<&ReadError>)> {
        self.finders
            .iter()
            .map(|found| (&found.finder, found.outcome.as_ref().and_then(|outcome| outcome.as_ref().err())))
    }

    /// Why nothing was heard at the last look, or not all.
    #[must_use]
    pub fn silence(&self) -> Option<&ReadError> {
        self.silence.as_ref()
    }

    /// What the last look saw of libraries as a whole.
    pub fn libraries(&mut self) -> Vec<(LibraryName, Result<Globals, ReadError>)> {
        let silent = || Err(ReadError::NoAnswer("not read".into()));
        let seen = self.shared.iter_mut().map(|shared| {
            let prefix = String::from_utf8_lossy(&shared.prefix).into_owned();
            (LibraryName { layout: shared.entry.name, prefix }, shared.outcome.take().unwrap_or_else(silent))
        });
        seen.collect()
    }

    /// Reads all queues once, within the time that a poll may take. The outcomes come in the order of the queues.
    pub async fn read(&mut self) -> Vec<Outcome> {
        self.look().await;
        self.outcomes().map(|(_, outcome)| outcome).collect()
    }

    /// Looks at all queues once, within the time that a poll may take, and searches for others.
    pub async fn look(&mut self) {
        self.look_at(true, |_| true).await;
    }

    /// Looks at the queues at these places, and at what their libraries keep for all queues together, in the same way.
    pub async fn look_at_some(&mut self, places: &HashSet<usize>) {
        self.look_at(false, |place| places.contains(&place)).await;
    }

    /// Hands over what the last look gave: of each queue that it was to see the place, in the order of the queues, and the outcome.
    pub fn outcomes(&mut self) -> impl Iterator<Item = (usize, Outcome)> {
        let sources = self.sources.iter_mut().enumerate();
        sources.filter_map(|(place, source)| Some((place, source.outcome.take()?)))
    }

    async fn look_at(&mut self, all: bool, wanted: impl Fn(usize) -> bool) {
        for (place, source) in self.sources.iter_mut().enumerate() {
            (source.wanted, source.outcome) = (wanted(place), None);
        }
        // Nothing of the last look may stand for what this one does not reach.
        self.shared.iter_mut().for_each(|shared| shared.outcome = None);
        let limit = self.redis.timeouts.poll;
        let silence = match tokio::time::timeout(limit, self.read_slices(all)).await {
            Ok(Ok(())) => ReadError::Shape("more rounds than a look may take"),
            Ok(Err(silence)) => silence,
            Err(_) => ReadError::NoAnswer("the poll timed out".into()),
        };
        members(&mut self.shared, &mut self.finders, &mut self.sources, all)
            .for_each(|mut member| member.give_up(&silence));
        let overviews: Vec<&Shared> = self.shared.iter().collect();
        let around = |place: usize, name: &[u8]| {
            let shared = overviews.get(place).filter(|shared| matches!(shared.outcome, Some(Ok(_))));
            shared.map_or(Around::UNREAD, |shared| shared.overview.around(name))
        };
        let (mut seen, mut silent) = (0, 0);
        for source in self.sources.iter_mut().filter(|source| source.wanted) {
            let Some(outcome) = &mut source.outcome else { continue };
            if let (Ok(observation), Some((shared, name))) = (&mut *outcome, &source.shared) {
                around(*shared, name).add_to(observation);
            }
            let is_silent = outcome.as_ref().is_err_and(ReadError::is_silence);
            source.alone = outcome.is_err() && !is_silent;
            seen += 1;
            silent += usize::from(is_silent);
        }
        let of_libraries = self.shared.iter().filter(|shared| shared.outcome.is_some());
        let (seen, silent) = of_libraries
            .fold((seen, silent), |(seen, silent), shared| (seen + 1, silent + usize::from(shared.is_silent())));
        // Within a cluster one node may be silent while the others answer.
        let keeps = self.connection.as_ref().is_some_and(|connection| connection.is_clustered() && silent < seen);
        if (silent > 0 || silence.is_silence()) && !keeps {
            self.connection = None;
        }
        self.silence = Some(silence).filter(ReadError::is_silence);
    }

    async fn read_slices(&mut self, all: bool) -> Result<(), ReadError> {
        self.connect().await?;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        connection.begin();
        if self.clock.is_due() {
            self.asks.clear();
            self.asks.add(false, |ask| ask.plain.push(Read::Time));
            let sent = Instant::now();
            let told = self.clock.answer(sent, &mut Replies::new(connection.read(&self.asks).await));
            // In a Cluster that is one node of many, and what it said before holds on.
            if !connection.is_clustered() {
                told?;
            }
        }
        let mut members: Vec<Member> = members(&mut self.shared, &mut self.finders, &mut self.sources, all).collect();
        if connection.is_clustered() {
            members.retain_mut(|member| !member.refuse_to_scan());
        }
        for slice in members.chunks_mut(SLICE) {
            read_slice(connection, slice, &self.clock, &mut self.asks).await?;
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), ReadError> {
        // One that the server has closed since the last look would be waited for until the command times out.
        if self.connection.as_mut().is_some_and(Connection::is_alive) {
            return Ok(());
        }
        if self.failing {
            let most = self.redis.timeouts.connect.as_millis().min(500) as u64;
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=most / 2))).await;
        }
        self.failing = true;
        self.connection = Some(Connection::open(&self.redis, &self.notify).await?);
        self.clock.reconnected();
        self.failing = false;
        Ok(())
    }
}

/// One that takes part in a look.
enum Member<'a> {
    Queue(&'a mut Source),
    Overview(&'a mut Shared),
    Finder(&'a mut Found),
}

/// All that take part in this look: those of whole libraries come first, for they are few and wanted by the others. Where not
/// `all` are looked at, the libraries of those queues are, and nothing is searched for.
fn members<'a>(
    shared: &'a mut [Shared],
    finders: &'a mut [Found],
    sources: &'a mut [Source],
    all: bool,
) -> impl Iterator<Item = Member<'a>> {
    // Not gathered for a whole poll, where it would be of every queue.
    let some = sources.iter().filter(|source| source.wanted && !all);
    let asked: HashSet<usize> = some.filter_map(|source| Some(source.shared.as_ref()?.0)).collect();
    let shared = shared.iter_mut().enumerate().filter(move |(place, _)| all || asked.contains(place));
    let shared = shared.map(|(_, shared)| Member::Overview(shared));
    let finders = finders.iter_mut().filter(move |_| all).map(Member::Finder);
    let sources = sources.iter_mut().filter(|source| source.wanted).map(Member::Queue);
    shared.chain(finders).chain(sources)
}

impl Member<'_> {
    /// Adds what it asks for in this round.
    fn ask(&mut self, asks: &mut Asks, now: f64) {
        match self {
            Self::Queue(source) => asks.add(source.alone, |ask| source.layout.ask(ask, now)),
            Self::Overview(shared) => asks.add(false, |ask| shared.overview.ask(ask, now)),
            Self::Finder(found) => asks.add(false, |ask| found.finder.ask(ask, now)),
        }
    }

    /// Takes the answers; returns whether that was all.
    fn answer(&mut self, replies: &mut Replies, look: Look) -> bool {
        match self {
            Self::Queue(source) => {
                source.outcome = source.layout.answer(replies, look).transpose();
                source.outcome.is_some()
            }
            Self::Overview(shared) => {
                shared.outcome = shared.overview.answer(replies, look).transpose();
                shared.outcome.is_some()
            }
            Self::Finder(found) => {
                found.outcome = Some(found.finder.answer(replies));
                true
            }
        }
    }

    /// In a Cluster: whether it goes through all keys, of which each node has only some.
    fn refuse_to_scan(&mut self) -> bool {
        match self {
            Self::Finder(found) if found.finder.scans() => {
                let text = "in a Redis Cluster the queues of this library can't be found; name each";
                found.outcome = Some(Err(ReadError::Mismatch(text.into())));
                true
            }
            _ => false,
        }
    }

    /// The error that says that nothing was heard, where that is so.
    fn silence(&self) -> Option<ReadError> {
        let error = match self {
            Self::Queue(source) => source.outcome.as_ref()?.as_ref().err(),
            Self::Overview(shared) => shared.outcome.as_ref()?.as_ref().err(),
            Self::Finder(found) => found.outcome.as_ref()?.as_ref().err(),
        };
        error.filter(|error| error.is_silence()).cloned()
    }

    /// The list whose removals are counted.
    fn notify(&self) -> Option<&Bytes> {
        match self {
            Self::Queue(source) => source.layout.notify(),
            _ => None,
        }
    }

    /// Tells it that this look came to nothing, where nothing has come yet, so that the next one starts afresh.
    fn give_up(&mut self, error: &ReadError) {
        let open = match self {
            Self::Queue(source) => source.outcome.is_none(),
            Self::Overview(shared) => shared.outcome.is_none(),
            // Starts afresh by itself.
            Self::Finder(_) => false,
        };
        if open {
            let now = Instant::now();
            let look = Look { sent: now, received: now, unix: 0.0, pops: None };
            self.answer(&mut Replies::new(vec![Err(error.clone())]), look);
            match self {
                Self::Queue(source) => source.outcome = Some(Err(error.clone())),
                Self::Overview(shared) => shared.outcome = Some(Err(error.clone())),
                Self::Finder(_) => {}
            }
        }
    }
}

/// Reads one slice, in as many rounds as its members ask for.
///
/// # Errors
/// Where nothing at all was heard.
async fn read_slice(
    connection: &mut Connection,
    slice: &mut [Member<'_>],
    clock: &Clock,
    asks: &mut Asks,
) -> Result<(), ReadError> {
    let mut open: Vec<&mut Member> = slice.iter_mut().collect();
    for _ in 0..ROUNDS {
        if open.is_empty() {
            break;
        }
        let (sent, now) = (Instant::now(), clock.now());
        asks.clear();
        open.iter_mut().for_each(|member| member.ask(asks, now));
        let mut replies = Replies::of_many(connection.read(asks).await);
        let (received, unix) = (Instant::now(), clock.now());
        let mut sizes = asks.requests().map(|request| request.size());
        open.retain_mut(|member| {
            replies.turn(sizes.next().unwrap_or_default());
            let pops = member.notify().and_then(|key| connection.pops(key));
            !member.answer(&mut replies, Look { sent, received, unix, pops })
        });
    }
    let mut silences = slice.iter().map(Member::silence);
    match silences.next().flatten() {
        Some(error) if silences.all(|silence| silence.is_some()) => Err(error),
        _ => Ok(()),
    }
}
