//! Runs a history: the world and the exporter beside each other.

use super::check::{self, Moment, Published};
use super::counters::{Counters, Flow};
use super::history::{Act, Step, Verb};
use super::libraries::{self, Library};
use super::world::{Wire, World};
use queue_exporter::board::Board;
use queue_exporter::config::Config;
use queue_exporter::metrics::Stats;
use queue_exporter::reader::Reader;
use queue_exporter::reads::ReadError;
use queue_exporter::snapshot::{Identity, Reading, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// For how long a reading is shown: short, so that histories of a few milliseconds see readings die.
const STALE_AFTER: Duration = Duration::from_millis(40);

/// What is kept from history to history.
pub struct Bed {
    pub url: String,
    pub wire: Arc<Wire>,
    pub runtime: tokio::runtime::Runtime,
    pub stats: Stats,
    pub seen: Seen,
}

/// What was compared, to know what a run is worth.
#[derive(Default)]
pub struct Seen {
    pub polls: u64,
    pub failed_polls: u64,
    pub refused: u64,
    pub stale: u64,
    pub kept: u64,
    /// Histories given up, since this machine was so slow that a reading died before it was looked at.
    pub slow: u64,
    /// For each queue: readings that were compared, those with jobs, ages known, at least, absent, and counters without a gap.
    pub queues: BTreeMap<String, [u64; 6]>,
}

/// How one queue is watched.
struct Watch {
    library: Box<dyn Library>,
    label: String,
    counters: Counters,
    /// The last reading that was good, and between which moments it was made.
    good: Option<(Reading, Instant, Instant)>,
    /// The first batch of which every job came after a good look.
    fresh: Option<usize>,
    spoiled: bool,
}

struct Run<'a> {
    bed: &'a mut Bed,
    world: World,
    reader: Reader,
    board: Board,
    queues: Vec<Watch>,
    slow: bool,
}

/// How many queues a history has.
pub fn queues() -> usize {
    libraries::all().len()
}

/// Runs a history on the bed.
///
/// # Errors
/// The first difference between what is published and what is true.
pub fn run(bed: &mut Bed, history: &[Step]) -> Result<(), Failure> {
    try_run(bed, history).map_err(|(place, text)| {
        let step = place.map_or_else(|| "at the end".into(), |place| format!("step {place}, {:?}", history[place]));
        let kind = text.split(' ').take(3).collect::<Vec<_>>().join(" ");
        Failure { kind, text: format!("{step}: {text}") }
    })
}

/// What was found to be wrong.
pub struct Failure {
    /// Of which queue and which number, so that a shorter history is one that fails in the same way.
    pub kind: String,
    pub text: String,
}

fn try_run(bed: &mut Bed, history: &[Step]) -> Result<(), (Option<usize>, String)> {
    let libraries = libraries::all();
    let specs: Vec<String> = libraries.iter().map(|library| library.spec()).collect();
    let variables = [
        ("REDIS_URL", bed.url.clone()),
        ("QUEUES", specs.join(",")),
        // The time that an answer may take follows from it: one that was cut unnoticed is waited for.
        ("STALE_AFTER", "500ms".into()),
        ("POLL_INTERVAL", "100ms".into()),
    ];
    let config = Config::from_env(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
    let config = config.map_err(|faults| (None, faults.to_string()))?;
    let mut board = Board::new(config.rate_window, STALE_AFTER);
    let mut queues = Vec::new();
    for (library, queue) in libraries.into_iter().zip(&config.queues) {
        board.add(Identity::new(queue.label.clone(), queue.entry.name, queue.policy));
        let label = queue.label.clone();
        queues.push(Watch { library, label, counters: Counters::default(), good: None, fresh: None, spoiled: false });
    }
    let wire = Arc::clone(&bed.wire);
    let reader = Reader::new(config.redis, config.queues, &[], config.discovery_ttl).with_clock(move || wire.clock());
    let world = World::new(&bed.wire);
    let mut run = Run { bed, world, reader, board, queues, slow: false };
    for (place, step) in history.iter().enumerate() {
        run.step(step).map_err(|text| (Some(place), text))?;
        if run.slow {
            run.bed.seen.slow += 1;
            return Ok(());
        }
    }
    // Whatever happened, all is heard again at the end: at once, unless the connection was cut unnoticed.
    for _ in 0..5 {
        if run.poll(None).map_err(|text| (None, text))? {
            return Ok(());
        }
    }
    Err((None, "nothing is heard any more".into()))
}

impl Run<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Act { queue, times, act } => {
                let queue = &mut self.queues[*queue];
                if !queue.spoiled {
                    for turn in 0..*times {
                        queue.library.act(Act { pick: act.pick + turn, ..*act }, &mut self.world);
                    }
                }
            }
            Step::Wait(millis) => self.world.now += millis,
            Step::Flush => self.world.flush()?,
            Step::Cut => self.bed.wire.cut(),
            Step::Silence => return self.silence(),
            Step::Spoil(queue) => {
                let queue = &mut self.queues[*queue];
                queue.empty(&mut self.world);
                say!(self.world, "DEL", queue.library.key());
                say!(self.world, "SET", queue.library.key(), "x");
                queue.spoiled = true;
            }
            Step::Mend(queue) => {
                let queue = &mut self.queues[*queue];
                if queue.spoiled {
                    queue.empty(&mut self.world);
                    queue.spoiled = false;
                }
            }
            Step::Poll { cut_at } => drop(self.poll(*cut_at)?),
        }
        Ok(())
    }

    /// One poll, as the exporter's loop makes it; whether all was heard.
    fn poll(&mut self, cut_at: Option<u8>) -> Result<bool, String> {
        self.world.flush()?;
        for queue in &mut self.queues {
            let flow = queue.flow();
            queue.counters.tries(flow);
        }
        self.bed.wire.arm(cut_at);
        let start = Instant::now();
        let outcomes = self.bed.runtime.block_on(self.reader.read());
        let end = Instant::now();
        let moment = Moment { start, end, now: self.world.now };
        let problems: Vec<Option<(bool, String)>> = outcomes
            .iter()
            .map(|outcome| outcome.as_ref().err().map(|error| (error.is_silence(), error.to_string())))
            .collect();
        let silence = self.reader.silence().cloned();
        let libraries = self.reader.libraries();
        let unheard = |(_, outcome): &&(_, Result<_, ReadError>)| outcome.is_err();
        let unheard: Vec<String> = libraries.iter().filter(unheard).map(|(name, _)| name.prefix.clone()).collect();
        let taken = Instant::now();
        self.board.take(outcomes.into_iter().enumerate(), silence, &self.bed.stats);
        self.board.take_libraries(libraries, &self.bed.stats);
        let silent = problems.iter().flatten().any(|(is_silence, _)| *is_silence);
        self.bed.seen.polls += 1;
        self.bed.seen.failed_polls += u64::from(silent);
        self.world.looked = if silent { 0 } else { self.world.batch() };
        self.world.last_good = self.world.last_good.max(self.world.looked);
        let before = Instant::now();
        let snapshot = self.board.snapshot();
        self.slow = taken.elapsed() >= STALE_AFTER;
        if self.slow {
            return Ok(!silent);
        }
        for (place, problem) in problems.into_iter().enumerate() {
            match problem {
                None => self.check_good(place, &snapshot, moment, &unheard)?,
                Some((true, _)) => self.check_silent(place, &snapshot, before)?,
                Some((false, text)) => self.check_refused(place, &snapshot, &text)?,
            }
        }
        Ok(!silent)
    }

    /// What is published of a queue that could be read.
    fn check_good(&mut self, place: usize, shown: &Snapshot, moment: Moment, unheard: &[String]) -> Result<(), String> {
        let queue = &mut self.queues[place];
        let (published, reading) = (Published(&shown.rows[place]), shown.rows[place].reading.as_deref().copied());
        if queue.spoiled {
            return Err(format!("{}: read, though its key is of another type", queue.label));
        }
        let mut truth = queue.library.truth(moment.now);
        let mut differences = Vec::new();
        let prefix = format!("{}:", queue.label);
        if unheard.contains(&prefix) {
            truth.forget_around();
        } else {
            let library = shown.libraries.iter().find(|library| library.name.prefix == prefix);
            let globals = library.and_then(|library| library.globals);
            if globals != truth.globals {
                differences.push(format!("the library's {globals:?}, truly {:?}", truth.globals));
            }
        }
        check::gauges(&published, &truth, &mut differences);
        let fresh = *queue.fresh.get_or_insert(self.world.batch());
        let told = check::age(&published, &truth, moment, &self.world.batches, fresh, &mut differences);
        let flow = queue.flow();
        queue.counters.check(&published, &truth, flow, &mut differences);
        if let Some(reading) = reading {
            queue.good = Some((reading, moment.end, Instant::now()));
        }
        let seen = self.bed.seen.queues.entry(queue.label.clone()).or_default();
        seen[0] += 1;
        if truth.length + truth.due.unwrap_or(0) > 0 {
            seen[1] += 1;
            seen[2 + told as usize] += 1;
        }
        seen[5] += u64::from(queue.counters.is_exact());
        if differences.is_empty() { Ok(()) } else { Err(format!("{}: {}", queue.label, differences.join("; "))) }
    }

    /// What is shown of a queue of which nothing was heard: its last good reading while that is fresh, or nothing.
    fn check_silent(&mut self, place: usize, shown: &Snapshot, before: Instant) -> Result<(), String> {
        let queue = &self.queues[place];
        let (published, reading) = (Published(&shown.rows[place]), shown.rows[place].reading.as_deref().copied());
        let after = Instant::now();
        match (reading, queue.good) {
            (None, None) => {}
            (None, Some((_, earliest, _))) if after.duration_since(earliest) >= STALE_AFTER => {
                self.bed.seen.stale += 1;
            }
            (Some(reading), Some((good, _, latest)))
                if reading == good && before.saturating_duration_since(latest) < STALE_AFTER =>
            {
                self.bed.seen.kept += 1;
            }
            (reading, good) => {
                return Err(format!("{}: shows {reading:?} while nothing is heard, last good {good:?}", queue.label));
            }
        }
        if published.is_up() != reading.is_some() || reading.is_none() && published.readings() > 0 {
            return Err(format!("{}: up and the readings disagree while nothing is heard", queue.label));
        }
        Ok(())
    }

    /// What is shown of a queue that Redis refused to read: nothing.
    fn check_refused(&mut self, place: usize, shown: &Snapshot, text: &str) -> Result<(), String> {
        let queue = &mut self.queues[place];
        let published = Published(&shown.rows[place]);
        queue.good = None;
        self.bed.seen.refused += 1;
        if !queue.spoiled {
            return Err(format!("{}: refused: {text}", queue.label));
        }
        if published.is_up() || published.readings() > 0 {
            return Err(format!("{}: shows readings though it was refused", queue.label));
        }
        Ok(())
    }

    /// No poll is made until all readings have died.
    fn silence(&mut self) -> Result<(), String> {
        loop {
            let before = Instant::now();
            let snapshot = self.board.snapshot();
            for place in 0..self.queues.len() {
                self.check_silent(place, &snapshot, before)?;
            }
            if snapshot.rows.iter().all(|row| row.reading.is_none()) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Watch {
    fn flow(&self) -> Flow {
        let jobs = self.library.jobs();
        Flow { pushed: jobs.pushed, left: jobs.left, in_front: jobs.in_front, blurs: jobs.blurs }
    }

    /// Leaves nothing of its waiting jobs.
    fn empty(&mut self, world: &mut World) {
        say!(world, "DEL", self.library.key());
        self.library.act(Act { verb: Verb::Delete, pick: 0, seconds: 0 }, world);
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Self { polls, failed_polls, refused, stale, kept, slow, queues } = self;
        writeln!(
            out,
            "{polls} polls, {failed_polls} cut; {refused} readings refused, {stale} dead, {kept} kept; {slow} histories cut short"
        )?;
        writeln!(out, "| queue | readings | with jobs | age known | at least | absent | no gap so far |")?;
        writeln!(out, "|---|---|---|---|---|---|---|")?;
        for (queue, counts) in queues {
            let counts: Vec<String> = counts.iter().map(u64::to_string).collect();
            writeln!(out, "| {queue} | {} |", counts.join(" | "))?;
        }
        Ok(())
    }
}
