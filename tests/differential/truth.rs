//! What is true of a queue at one moment, and what may be said of it.

use super::jobs::{Job, Jobs};
use queue_exporter::layout::Globals;

/// A count that only grows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// The layout has none.
    Absent,
    /// Seen from outside, in the lists.
    Seen,
    /// A counter that somebody else keeps.
    Total(u64),
    /// The same, where Redis may know none.
    Maybe(u64),
    /// Which of these depends on what earlier looks saw.
    Any,
}

/// How much can be said of an age.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sight {
    /// A job that was taken out between the oldest and the next that the exporter has in mind passes for one that was taken to be
    /// done, and one that is given back in place of another that was taken passes for that: the age is then that of a younger one.
    Younger,
    /// It must be known.
    Sure,
    /// It may be unknown, or a least age.
    Partly,
    /// Beside that, older jobs may be hidden: it may be too low, and never too high.
    Hidden,
}

/// The batches by which a job may have come, the first and the last.
pub type Came = (usize, usize);

fn came(job: &Job) -> Came {
    (job.earlier.unwrap_or(job.batch), job.batch)
}

fn back(job: &Job) -> Option<Came> {
    job.back.map(|batch| (batch, batch))
}

/// `None` is what must be absent.
#[derive(Clone, Debug)]
pub struct Truth {
    pub length: u64,
    pub in_flight: Option<u64>,
    pub due: Option<u64>,
    pub delayed: Option<u64>,
    pub retrying: Option<u64>,
    pub dead: Option<u64>,
    pub abandoned: Option<u64>,
    pub consumers: Option<u64>,
    pub slots: Option<u64>,
    pub paused: Option<bool>,
    /// Times in milliseconds since which jobs have waited, by the history's clock: stored or due times.
    pub since: Vec<u64>,
    /// More of these, for jobs that have none stored any more.
    pub since_too: Vec<u64>,
    /// Batches that brought jobs whose age is seen from outside, in the real time.
    pub seen: Vec<Came>,
    /// More of these, for what may be taken for the age of a job: of one whose stored time can't be found, or that was put back.
    pub seen_too: Vec<Came>,
    pub sight: Sight,
    pub arrivals: Count,
    pub processed: Count,
    pub failed: Count,
    /// Of all queues of the library together.
    pub globals: Option<Globals>,
}

impl Truth {
    /// A queue of lists of which nothing is known but what is in them.
    pub fn seen(jobs: &Jobs) -> Self {
        let mut truth = Self::empty(jobs);
        truth.seen = jobs.all_waiting().map(came).collect();
        truth.seen_too = jobs.all_waiting().filter_map(back).chain(jobs.passed_for.iter().map(came)).collect();
        truth.sight = if jobs.holed || jobs.hides {
            Sight::Younger
        } else if jobs.odd {
            Sight::Partly
        } else {
            Sight::Sure
        };
        truth
    }

    /// The same where a time is stored for each job; one without counts as seen from outside.
    pub fn stored(jobs: &Jobs) -> Self {
        let mut truth = Self::empty(jobs);
        let dated = |job: &&Job| job.dated;
        truth.since = jobs.all_waiting().filter(dated).map(|job| job.came).collect();
        truth.seen = jobs.all_waiting().filter(|job| !job.dated).map(came).collect();
        truth.since_too = jobs.all_waiting().filter(|job| !job.dated).map(|job| job.came).collect();
        truth.seen_too = jobs.all_waiting().flat_map(|job| [Some(came(job)), back(job)]).flatten().collect();
        // A job that was tried or delayed before may stand behind ones that came later.
        let inverted = jobs.waiting.iter().any(|list| !list.iter().is_sorted_by_key(|job| job.came));
        truth.sight = if jobs.hides || inverted || !truth.seen.is_empty() {
            Sight::Hidden
        } else if jobs.odd {
            Sight::Partly
        } else {
            Sight::Sure
        };
        truth
    }

    fn empty(jobs: &Jobs) -> Self {
        Self {
            length: jobs.length(),
            in_flight: None,
            due: None,
            delayed: None,
            retrying: None,
            dead: None,
            abandoned: None,
            consumers: None,
            slots: None,
            paused: None,
            since: Vec::new(),
            since_too: Vec::new(),
            seen: Vec::new(),
            seen_too: Vec::new(),
            sight: Sight::Sure,
            arrivals: Count::Seen,
            processed: Count::Seen,
            failed: Count::Absent,
            globals: None,
        }
    }

    /// Adds delayed jobs: those whose time has come are due.
    pub fn with_delayed(mut self, jobs: &[Job], now: u64) -> Self {
        let (due, later) = self.split(jobs, now);
        self.due = Some(self.due.unwrap_or(0) + due);
        self.delayed = Some(self.delayed.unwrap_or(0) + later);
        self
    }

    /// The same for jobs that wait for a retry, where they are told apart.
    pub fn with_retrying(mut self, jobs: &[Job], now: u64) -> Self {
        let (due, later) = self.split(jobs, now);
        self.due = Some(self.due.unwrap_or(0) + due);
        self.retrying = Some(later);
        self
    }

    /// Adds jobs in flight: those without a worker's word are abandoned.
    pub fn with_leases(mut self, jobs: &[Job], now: u64) -> Self {
        let abandoned = jobs.iter().filter(|job| job.lease <= now).count() as u64;
        self.abandoned = Some(abandoned);
        self.in_flight = Some(jobs.len() as u64 - abandoned);
        self
    }

    /// Takes off what comes from the library's overview, where that was not heard and so is absent.
    pub fn forget_around(&mut self) {
        (self.in_flight, self.abandoned, self.consumers, self.slots) = (None, None, None, None);
    }

    fn split(&mut self, jobs: &[Job], now: u64) -> (u64, u64) {
        let due = jobs.iter().filter(|job| job.due <= now);
        self.since.extend(due.clone().map(|job| job.due));
        let due = due.count() as u64;
        (due, jobs.len() as u64 - due)
    }
}
