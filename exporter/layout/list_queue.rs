//! A library's queue whose waiting jobs are in a list, or in one list a priority.
//!
//! The lists are watched by [`crate::fifo`], which counts what comes and goes and dates the oldest job to within one
//! poll. Where the library stores a time, that wins: in the element itself ([`Stored::Element`]), or behind the job's id
//! ([`Stored::Elsewhere`]), which takes a second round whenever the oldest job is another one than at the last look.
//!
//! Cost of a look: see [`crate::fifo`] for each list; LRANGE of the oldest element where a time is stored.

use super::{Layout, ListEnds, Observation};
use crate::curve::Age;
use crate::fifo::{Fifo, Look, Seen, Step};
use crate::flow::{Count, Counts};
use crate::payload::LIMIT;
use crate::reads::{Ask, Read, ReadError, Replies, Reply};
use crate::times;
use bytes::Bytes;

/// What a library keeps beside the list of waiting jobs.
pub(super) trait Beside: Send {
    /// What a look wants to know at `now`, in seconds since 1970.
    fn reads(&self, now: f64) -> Vec<Read>;

    /// Takes the replies to [`Beside::reads`], in their order; `now` is when they came. A `length` that it gives is added to that of the lists;
    /// counts that it gives win over those seen from outside; its age is that of jobs that wait or are due beside the lists.
    ///
    /// # Errors
    /// Where one of the keys can't be read.
    fn seen(&mut self, replies: &mut Replies, now: f64) -> Result<Observation, ReadError>;

    /// Whether what it saw says that it must ask anew, in another round of the same look.
    fn again(&self) -> bool {
        false
    }

    /// The key of the first list, where that can change.
    fn list(&self) -> Option<&Bytes> {
        None
    }

    /// The next job of those that wait beside the lists, and whether it is the only one: its time is read as that of the
    /// oldest job of the first list is.
    fn next(&self) -> Option<(&Bytes, bool)> {
        None
    }

    /// How many jobs at the end of the first list that is taken from came later than their place says: the oldest of the
    /// others is looked at.
    fn skip(&self) -> u64 {
        0
    }

    /// Puts right what follows from the whole.
    fn finish(&self, _observation: &mut Observation) {}
}

/// A library that keeps nothing beside its list.
pub(super) struct Nothing;

impl Beside for Nothing {
    fn reads(&self, _now: f64) -> Vec<Read> {
        Vec::new()
    }

    fn seen(&mut self, _replies: &mut Replies, _now: f64) -> Result<Observation, ReadError> {
        Ok(Observation::default())
    }
}

/// A read of what belongs to a job's id.
pub(super) type OfJob = Box<dyn Fn(&[u8]) -> Read + Send>;

/// Where the time at which a job came is stored.
pub(super) enum Stored {
    /// Nowhere.
    Nowhere,
    /// In the element of the list.
    Element(fn(&[u8]) -> Option<f64>),
    /// Behind the id that is the element.
    Elsewhere {
        /// Whether the library stamps it anew when a job comes back under the same id: it is read at each look then.
        restamped: bool,
        /// Its size in bytes, where it may be too long to be fetched.
        size: Option<OfJob>,
        /// The time, or what holds it.
        read: OfJob,
        /// Seconds since 1970 from the reply to `read`.
        time: fn(&Reply) -> Option<f64>,
    },
}

/// One list of waiting jobs.
pub(super) struct Line {
    key: Bytes,
    newest_first: bool,
    fifo: Fifo,
    stored: Stored,
    /// Jobs between the end that is taken from and the one whose time is read.
    skip: u64,
    /// The most by which a stored time can be off, in seconds.
    error: f64,
    /// Whether an element is no job, but a mark that the library left at the end that is taken from.
    is_mark: fn(&[u8]) -> bool,
    /// Such marks, 0 or 1, of the look that is under way.
    marks: u64,
    /// Of the look that is under way.
    seen: Option<Seen>,
    chase: Chase,
    /// The time of the oldest job when it was last sure to be the oldest.
    oldest: Option<f64>,
}

/// The time of one job, followed from its id to where it is stored.
#[derive(Default)]
struct Chase {
    head: Head,
    /// The job of the last look and its time, which does not change.
    known: Option<(Bytes, Option<f64>)>,
}

/// How far it has been followed.
#[derive(Default)]
enum Head {
    #[default]
    Unread,
    /// To be measured.
    Long(Bytes),
    /// To be fetched.
    Found(Bytes),
    /// Known as far as it can be.
    Done(Option<f64>),
}

impl Chase {
    /// Starts from the element of the list, or from the id of a job.
    fn start(&mut self, element: Bytes, stored: &Stored) {
        self.head = match stored {
            Stored::Nowhere => Head::Done(None),
            Stored::Element(time) => Head::Done(time(&element)),
            Stored::Elsewhere { restamped, size, .. } => match &self.known {
                Some((known, time)) if *known == element && !restamped => Head::Done(*time),
                // Copied, for the reply shares its memory with the whole batch of replies.
                _ if size.is_some() => Head::Long(Bytes::copy_from_slice(&element)),
                _ => Head::Found(Bytes::copy_from_slice(&element)),
            },
        };
    }

    fn ask(&self, stored: &Stored, ask: &mut Ask) {
        match (&self.head, stored) {
            (Head::Long(id), Stored::Elsewhere { size: Some(size), .. }) => ask.plain.push(size(id)),
            (Head::Found(id), Stored::Elsewhere { read, .. }) => ask.plain.push(read(id)),
            _ => {}
        }
    }

    fn answer(&mut self, stored: &Stored, replies: &mut Replies) -> Result<(), ReadError> {
        self.head = match (std::mem::take(&mut self.head), stored) {
            (Head::Long(id), _) => match replies.count()? {
                0 => Head::Done(None),
                size if size <= LIMIT as u64 => Head::Found(id),
                _ => self.learn(id, None),
            },
            (Head::Found(id), Stored::Elsewhere { time, .. }) => {
                let time = time(&replies.take()?);
                self.learn(id, time)
            }
            (head, _) => head,
        };
        Ok(())
    }

    fn learn(&mut self, id: Bytes, time: Option<f64>) -> Head {
        // Without a time it may be a job whose hash is not written yet: that is asked for again.
        self.known = time.is_some().then_some((id, time));
        Head::Done(time)
    }

    fn is_done(&self) -> bool {
        matches!(self.head, Head::Done(_))
    }

    /// Hands the time over, and is ready for the next look.
    fn finish(&mut self) -> Option<f64> {
        match std::mem::take(&mut self.head) {
            Head::Done(time) => time,
            _ => None,
        }
    }
}

impl Line {
    /// A list to which jobs come by LPUSH (`newest_first`) or RPUSH.
    pub fn new(key: Bytes, newest_first: bool, stored: Stored) -> Self {
        let fifo = Fifo::new(key.clone(), newest_first);
        Self {
            key,
            newest_first,
            fifo,
            stored,
            skip: 0,
            error: 0.0,
            is_mark: |_| false,
            marks: 0,
            seen: None,
            chase: Chase::default(),
            oldest: None,
        }
    }

    /// The same where stored times are only so exact, in seconds.
    pub fn within(self, error: f64) -> Self {
        Self { error, ..self }
    }

    /// The same where the library may leave a mark among its jobs.
    pub fn with_marks(self, is_mark: fn(&[u8]) -> bool) -> Self {
        Self { is_mark, ..self }
    }

    /// Goes on under another key, with the same jobs.
    fn follow(&mut self, key: Bytes) {
        self.fifo.follow(key.clone());
        self.key = key;
        self.start();
    }

    fn start(&mut self) {
        (self.seen, self.chase.head, self.marks) = (None, Head::Unread, 0);
    }

    fn ask_atomic(&mut self, ask: &mut Ask) {
        if self.seen.is_none() {
            self.fifo.ask(ask);
        }
        if matches!((&self.chase.head, &self.stored), (Head::Unread, Stored::Element(_) | Stored::Elsewhere { .. })) {
            let skip = i64::try_from(self.skip + self.marks).unwrap_or(i64::MAX - 1);
            let index = if self.newest_first { -1 - skip } else { skip };
            ask.atomic.push(Read::ListRange(self.key.clone(), index, index));
        }
    }

    fn answer_atomic(&mut self, replies: &mut Replies, look: Look) -> Result<(), ReadError> {
        if self.seen.is_none() {
            self.seen = self.fifo.answer(replies, look)?;
        }
        if !matches!(self.chase.head, Head::Unread) {
            return Ok(());
        }
        let element = if matches!(self.stored, Stored::Nowhere) { None } else { first(replies)? };
        match element {
            None => self.chase.head = Head::Done(None),
            Some(element) if self.marks == 0 && (self.is_mark)(&element) => self.marks = 1,
            Some(element) => self.chase.start(element, &self.stored),
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.seen.is_some() && self.chase.is_done()
    }

    fn finish(&mut self, now: f64) -> Option<Seen> {
        let time = self.chase.finish();
        let mut seen = self.seen?;
        seen.length = seen.length.saturating_sub(self.marks);
        if seen.length == 0 {
            self.oldest = None;
        } else if let Some((time, seconds)) = time.and_then(|time| Some((time, times::age(time, now)?))) {
            // Pushed in before jobs that came earlier: those are older, and how much can't be seen.
            let hides_older = self.fifo.has_returned_jobs() && self.oldest.is_some_and(|oldest| time > oldest);
            let error = self.error;
            seen.age = if hides_older { Age::AtLeast(seconds - error) } else { Age::Known { seconds, error } };
            self.oldest = if hides_older { self.oldest } else { Some(time) };
        }
        self.start();
        Some(seen)
    }
}

/// The one element of the next reply, of `LRANGE`.
fn first(replies: &mut Replies) -> Result<Option<Bytes>, ReadError> {
    match replies.array()?.into_iter().next() {
        Some(Reply::Bytes(element)) => Ok(Some(element)),
        _ => Ok(None),
    }
}

/// A queue of one or more lists.
pub(super) struct ListQueue<B> {
    lines: Vec<Line>,
    beside: B,
    /// How many atomic reads the last ask had, and whether it asked for what is beside.
    asked: (usize, bool),
    around: Option<Observation>,
    /// The time of the next job beside the lists.
    next: Chase,
    /// A look came to nothing after it had counted, so that the next one must not pass for complete.
    lost: bool,
}

impl<B: Beside + 'static> ListQueue<B> {
    /// A queue of these lists; there must be one at least.
    pub fn boxed(lines: Vec<Line>, beside: B) -> Box<dyn Layout> {
        Box::new(Self { lines, beside, asked: (0, false), around: None, next: Chase::default(), lost: false })
    }

    fn take(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        let mut atomic = replies.split(self.asked.0);
        let Some(stored) = self.lines.first().map(|line| &line.stored) else { return Ok(None) };
        if self.asked.1 {
            self.around = Some(self.beside.seen(replies, look.unix)?).filter(|_| !self.beside.again());
            // Asked for in this round where the one before knew the next job and what is beside was asked for again.
            self.next.answer(stored, replies)?;
            match self.beside.next() {
                Some((id, _)) => self.next.start(id.clone(), stored),
                None => self.next.head = Head::Done(None),
            }
        } else {
            self.next.answer(stored, replies)?;
        }
        if let (Some(key), Some(line)) = (self.beside.list(), self.lines.first_mut())
            && line.key != *key
        {
            line.follow(key.clone());
            return Ok(None);
        }
        if let Some(line) = self.lines.first_mut()
            && line.skip != self.beside.skip()
        {
            line.skip = self.beside.skip();
            return Ok(None);
        }
        for line in &mut self.lines {
            line.chase.answer(&line.stored, replies)?;
        }
        for line in &mut self.lines {
            line.answer_atomic(&mut atomic, look)?;
        }
        let complete = self.next.is_done() && self.lines.iter().all(Line::is_done);
        let Some(mut around) = self.around.filter(|_| complete) else { return Ok(None) };
        self.around = None;
        if let Some((_, only)) = self.beside.next() {
            let seconds = self.next.finish().and_then(|time| times::age(time, look.unix));
            let age = match seconds {
                Some(seconds) if only => Age::Known { seconds, error: 0.0 },
                Some(seconds) => Age::AtLeast(seconds),
                None => Age::Unknown,
            };
            around.age = if around.due.unwrap_or(0) > 0 { age.older(around.age) } else { age };
        }
        self.next.head = Head::Unread;
        let lines: Vec<Seen> = self.lines.iter_mut().filter_map(|line| line.finish(look.unix)).collect();
        let mut observation = join(&lines, around);
        observation.counts.gap |= std::mem::take(&mut self.lost);
        self.beside.finish(&mut observation);
        Ok(Some(observation))
    }
}

/// Whether jobs may have come and gone unseen. Lists are taken from in their order: while one of them holds jobs, none of
/// those after it is taken from.
fn has_gap(lines: &[Seen]) -> bool {
    for seen in lines {
        match seen.step {
            Some(step) if !step.exact => return true,
            Some(_) if seen.length > 0 => return false,
            _ => {}
        }
    }
    false
}

/// What the lists say, and what is beside them.
fn join(lines: &[Seen], around: Observation) -> Observation {
    let length: u64 = lines.iter().map(|seen| seen.length).sum();
    let waiting = lines.iter().filter(|seen| seen.length > 0).map(|seen| seen.age);
    let age = waiting.reduce(Age::older).unwrap_or(Age::EMPTY);
    let steps = || lines.iter().filter_map(|seen| seen.step);
    let step = |count: fn(Step) -> i64| Count::Step(steps().map(count).sum());
    let given = |count: Count, seen: Count| if count == Count::Unknown { seen } else { count };
    let counts = Counts {
        arrivals: given(around.counts.arrivals, step(|step| step.arrivals.try_into().unwrap_or(i64::MAX))),
        processed: given(around.counts.processed, step(|step| step.departures)),
        failed: around.counts.failed,
        gap: around.counts.gap || has_gap(lines),
    };
    let age = match (length > 0, around.length.unwrap_or(0) + around.due.unwrap_or(0) > 0) {
        (_, false) => age,
        (true, true) => age.older(around.age),
        (false, true) => around.age,
    };
    Observation { length: Some(length + around.length.unwrap_or(0)), age, counts, ..around }
}

impl<B: Beside> Layout for ListQueue<B>
where
    B: 'static,
{
    fn key(&self) -> &Bytes {
        // There is one list at least; a static empty key would only be wrong in `check`.
        static NONE: Bytes = Bytes::from_static(b"");
        self.lines.first().map_or(&NONE, |line| &line.key)
    }

    fn ends(&self) -> Option<ListEnds> {
        None
    }

    fn ask(&mut self, ask: &mut Ask, now: f64) {
        let before = ask.atomic.len();
        for line in &mut self.lines {
            line.ask_atomic(ask);
        }
        self.asked = (ask.atomic.len() - before, self.around.is_none());
        if self.asked.1 {
            ask.plain.extend(self.beside.reads(now));
        }
        if let Some(line) = self.lines.first() {
            self.next.ask(&line.stored, ask);
        }
        for line in &self.lines {
            line.chase.ask(&line.stored, ask);
        }
    }

    fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Observation>, ReadError> {
        let result = self.take(replies, look);
        if result.is_err() {
            self.lost |= self.lines.iter().any(|line| line.seen.is_some());
            self.lines.iter_mut().for_each(Line::start);
            (self.around, self.next.head) = (None, Head::Unread);
        }
        result
    }
}
