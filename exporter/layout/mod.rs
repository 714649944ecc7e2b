//! How each queue library lays its queues out in Redis: one file a library, one line in [`TABLE`].
//!
//! A layout says what to read ([`Layout::ask`]) and what the replies mean ([`Layout::answer`]). It does no input or
//! output and knows no clock but the one it is handed, so it is tested without a server.

mod apalis;
mod arq;
mod asynq;
mod bull;
mod bullmq;
mod celery;
mod companions;
mod crew;
mod detect;
mod dramatiq;
mod due_set;
mod huey;
mod laravel;
mod list;
mod list_queue;
mod options;
mod overview;
mod register;
mod resque;
mod resque_workers;
mod rq;
mod saq;
mod sidekiq;
mod sidekiq_processes;
mod stream;
mod taskiq;
mod timed;
mod unacked;
mod zset;

pub use options::Options;
pub use overview::{Around, Beyond, Globals, Overview};
pub use register::{Finder, Register};

use crate::curve::Age;
use crate::fifo::Look;
use crate::flow::Counts;
use crate::reads::{Ask, ReadError, Replies, Reply};
use bytes::Bytes;

/// A queue's place in Redis: the prefix of its library's keys, and its own name.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// What all keys of the library start with.
    pub prefix: Bytes,
    /// The name that producers and workers know.
    pub queue: Bytes,
}

/// Makes what a library keeps under one prefix for all queues together.
pub type BuildOverview = fn(&Bytes) -> Box<dyn Overview>;

/// A layout's name in a configuration, and how a queue of it is made.
#[derive(Debug)]
pub struct Entry {
    /// The part before the colon of a queue's specification.
    pub name: &'static str,
    /// The prefix of its keys unless the option `prefix` says otherwise; `None` where the library lets nobody choose.
    pub prefix: Option<&'static str>,
    /// Makes the layout of one queue, taking the options that it knows; faults go into the options.
    pub build: fn(Name, &mut Options) -> Box<dyn Layout>,
    /// Makes what the library keeps for all queues together, where it keeps something.
    pub overview: Option<BuildOverview>,
    /// How its queues are found.
    pub register: Register,
}

impl Entry {
    const fn new(name: &'static str, build: fn(Name, &mut Options) -> Box<dyn Layout>) -> Self {
        Self { name, prefix: None, build, overview: None, register: Register::None }
    }

    const fn prefixed(self, prefix: &'static str) -> Self {
        Self { prefix: Some(prefix), ..self }
    }

    const fn with_overview(self, overview: BuildOverview) -> Self {
        Self { overview: Some(overview), ..self }
    }

    const fn found_by(self, register: Register) -> Self {
        Self { register, ..self }
    }
}

/// All layouts: the one place to add a line.
pub const TABLE: &[Entry] = &[
    Entry::new("list", list::build),
    Entry::new("stream", stream::build),
    Entry::new("zset", zset::build),
    Entry::new("apalis", apalis::build).found_by(Register::keys("", ":workers", "zset")),
    Entry::new("arq", arq::build),
    Entry::new("asynq", asynq::build).found_by(Register::members("asynq:queues", "")),
    Entry::new("bull", bull::build).prefixed("bull").found_by(Register::keys(":", ":id", "string")),
    Entry::new("bullmq", bullmq::build).prefixed("bull").found_by(Register::keys(":", ":meta", "hash")),
    Entry::new("celery", celery::build)
        .prefixed("")
        .with_overview(unacked::build)
        .found_by(Register::keys("_kombu.binding.", "", "set").without(&["celeryev*", "*.pidbox"])),
    Entry::new("dramatiq", dramatiq::build)
        .prefixed("dramatiq")
        .found_by(Register::keys(":", ".msgs", "hash").trimmed(&[".DQ", ".XQ"])),
    Entry::new("huey", huey::build).found_by(Register::keys("huey.redis.", "", "")),
    Entry::new("laravel", laravel::build)
        .prefixed("laravel_database_")
        .found_by(Register::keys("queues:", "", "").trimmed(&[":delayed", ":reserved", ":notify"])),
    Entry::new("resque", resque::build)
        .prefixed("resque:")
        .with_overview(resque_workers::build)
        .found_by(Register::members("queues", "")),
    Entry::new("rq", rq::build).found_by(Register::members("rq:queues", "rq:queue:")),
    Entry::new("saq", saq::build).found_by(Register::keys("saq:", ":incomplete", "zset")),
    Entry::new("sidekiq", sidekiq::build)
        .prefixed("")
        .with_overview(sidekiq_processes::build)
        .found_by(Register::members("queues", "")),
    Entry::new("taskiq", taskiq::build),
];

/// One queue, from look to look.
pub trait Layout: Send {
    /// The key that holds the waiting jobs.
    fn key(&self) -> &Bytes;

    /// Adds what this look wants to know at `now`, in seconds since 1970.
    fn ask(&mut self, ask: &mut Ask, now: f64);

    /// Takes the replies to the last [`Layout::ask`]. `None` asks for one more round of the same look.
    ///
    /// # Errors
    /// Where the queue can't be read: refused, of another type, or not as configured. The next look starts afresh.
    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError>;

    /// The list whose removals are to be counted by keyspace notifications, where the configuration asks for it.
    fn notify(&self) -> Option<&Bytes> {
        None
    }

    /// The ends of the list that holds the waiting jobs, where it is a plain list.
    fn ends(&self) -> Option<ListEnds> {
        None
    }
}

/// Where jobs come into a list.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ListEnds {
    /// Index 0 is the newest job, else the oldest.
    pub newest_first: bool,
}

/// What one look says of a queue. `None` is what can't be known; it is never 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Jobs waiting that a worker could take now.
    pub length: Option<u64>,
    /// Jobs taken and not finished.
    pub in_flight: Option<u64>,
    /// How many more of these there may be.
    pub beyond: Beyond,
    /// Delayed or retrying jobs whose time has come but that still sit in their set.
    pub due: Option<u64>,
    /// Jobs whose time has not come.
    pub delayed: Option<u64>,
    /// Jobs that wait for a retry.
    pub retrying: Option<u64>,
    /// Jobs given up.
    pub dead: Option<u64>,
    /// Jobs in flight by the keys, whose worker is dead; not in `in_flight`.
    pub abandoned: Option<u64>,
    /// Live worker processes.
    pub consumers: Option<u64>,
    /// Jobs that they can run at once.
    pub slots: Option<u64>,
    /// Whether the queue is paused.
    pub paused: Option<bool>,
    /// The age of the oldest waiting job.
    pub age: Age,
    /// How long ago the oldest job in flight was put in, in seconds.
    pub oldest_in_flight: Option<f64>,
    /// Arrivals and departures.
    pub counts: Counts,
}

impl Default for Observation {
    fn default() -> Self {
        Self {
            length: None,
            in_flight: None,
            beyond: Beyond::Nothing,
            due: None,
            delayed: None,
            retrying: None,
            dead: None,
            abandoned: None,
            consumers: None,
            slots: None,
            paused: None,
            age: Age::Unknown,
            oldest_in_flight: None,
            counts: Counts::default(),
        }
    }
}

/// A key made of parts.
fn join(parts: &[&[u8]]) -> Bytes {
    Bytes::from(parts.concat())
}

/// Gives these bytes to every parser of foreign bytes that a layout has: for fuzzing.
#[doc(hidden)]
pub fn parse_everything(bytes: &[u8]) {
    let reply = Reply::Bytes(Bytes::copy_from_slice(bytes));
    let _ = (apalis::ulid_time(bytes), asynq::pending_since(&reply), rq::enqueued_at(&reply), saq::came(&reply));
    let _ = (dramatiq::came(&reply), huey::came(bytes), laravel::came(bytes), sidekiq::enqueued_at(bytes));
    let _ = (unacked::routing_key(bytes), resque_workers::beat(bytes));
    let opts = Reply::Array(vec![Reply::Bytes(Bytes::from_static(b"1795600000000")), reply.clone()]);
    let _ = (bullmq::came(&opts), bullmq::metric(Some(Bytes::copy_from_slice(bytes))));
    let _ = sidekiq_processes::process(&[reply.clone(), reply], &[Bytes::copy_from_slice(bytes)]);
}
