//! How each queue library lays its queues out in Redis: one file a library, one line in [`TABLE`].
//!
//! A layout says what to read ([`Layout::ask`]) and what the replies mean ([`Layout::answer`]). It does no input or
//! output and knows no clock but the one it is handed, so it is tested without a server.

mod arq;
mod asynq;
mod bull;
mod bullmq;
mod celery;
mod companions;
mod detect;
mod dramatiq;
mod due_set;
mod huey;
mod laravel;
mod list;
mod list_queue;
mod options;
mod resque;
mod rq;
mod saq;
mod sidekiq;
mod stream;
mod taskiq;
mod timed;
mod zset;

pub use options::Options;

use crate::curve::Age;
use crate::fifo::Look;
use crate::flow::Counts;
use crate::reads::{Ask, ReadError, Replies};
use bytes::Bytes;

/// A layout's name in a configuration, and how a queue of it is made.
#[derive(Debug)]
pub struct Entry {
    /// The part before the colon of a queue's specification.
    pub name: &'static str,
    /// Makes the layout of one queue, taking the options that it knows; faults go into the options.
    pub build: fn(Bytes, &mut Options) -> Box<dyn Layout>,
}

/// All layouts: the one place to add a line.
pub const TABLE: &[Entry] = &[
    Entry { name: "list", build: list::build },
    Entry { name: "stream", build: stream::build },
    Entry { name: "zset", build: zset::build },
    Entry { name: "arq", build: arq::build },
    Entry { name: "asynq", build: asynq::build },
    Entry { name: "bull", build: bull::build },
    Entry { name: "bullmq", build: bullmq::build },
    Entry { name: "celery", build: celery::build },
    Entry { name: "dramatiq", build: dramatiq::build },
    Entry { name: "huey", build: huey::build },
    Entry { name: "laravel", build: laravel::build },
    Entry { name: "resque", build: resque::build },
    Entry { name: "rq", build: rq::build },
    Entry { name: "saq", build: saq::build },
    Entry { name: "sidekiq", build: sidekiq::build },
    Entry { name: "taskiq", build: taskiq::build },
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
