//! A plain Redis list, watched from outside: arrivals, departures and the age of its oldest job, with no help from anyone.
//!
//! At each look one MULTI/EXEC reads the length, the two newest elements and the position (LPOS, bounded) of the
//! *mark*: the element that was newest at the last look. Its depth is the number of arrivals since; arrivals less the
//! change of length are the departures; and the [`Curve`] of arrivals dates the oldest job to within one look. All of
//! it is exact while the mark still waits. Where the queue drained in between, what is there now came since the last
//! look, so the age still holds, but jobs may have come and gone unseen: the step is then a lower bound, and says so.
//!
//! A second landmark, an *anchor* near the old end, is looked for from that end. It finds the place where the mark can't
//! (a burst deeper than the bounded search), and the two together show what a mark alone would hide: elements removed
//! from the middle (fewer between them than were counted), and copies of the mark (more). What neither can settle is
//! looked at once more, wider, with up to eight older anchors; what stays open is unknown, never guessed.
//!
//! A returned job (pushed back at the old end) makes the number of the oldest job fall back: while it does, only the
//! least age is known; where another is taken before the next look, it passes for that one. Removal (LREM, LTRIM, DEL) can't be told from being taken and counts as departure; where it was from
//! before the first landmark, the age is then that of a younger job. Elements over
//! [`MARK_MAX`] bytes are not compared at all (each look would carry them both ways): then only the length is known.
//! Lists where the same bytes come again and again can't be followed; a step is then a lower bound, the age unknown.
//!
//! Cost of a look: LLEN; LRANGE of 2 unless nothing came at the last look; at most two LPOS that pass 5,000 elements or
//! fewer each (45 ns an element, and 32 to 160 elements in a quiet queue), whatever the length of the list. Memory: the curve and up to
//! [`Anchors::LIMIT`] anchors.

use crate::anchors::Anchors;
use crate::curve::{Age, Curve};
use crate::pops::PopCount;
use crate::reads::{Ask, Read, ReadError, Replies, Reply, kept};
use bytes::Bytes;
use std::time::Instant;

/// The longest element, in bytes, that is kept and searched for. A mark goes to Redis and an element comes back at each
/// look: 64 KiB each way is what a look may cost.
const MARK_MAX: usize = 64 * 1024;
/// The longest element kept as an anchor.
const ANCHOR_MAX: usize = 8 * 1024;
/// The most elements that one LPOS may pass: about 0.2 ms of Redis.
const SEARCH_MAX: i64 = 5_000;
/// The fewest elements searched from the new end; about 1.5 us.
const SEARCH_MIN: i64 = 32;
/// The same in a wider round, for the mark alone: about 2 ms of Redis, when a burst is deeper than [`SEARCH_MAX`].
const MARK_SEARCH_MAX: i64 = 50_000;
/// How many elements pushed back at the old end a search from there allows for.
const SLACK: i64 = 64;
/// The farthest from the old end that an anchor is looked for at each look.
const ANCHOR_REACH: i64 = 256;
/// A list of at most this length is searched whole for the mark.
const SHORT: i64 = 128;
/// Stands for any number of holes: far more than a list can have, far less than would overflow.
const UNKNOWN_HOLES: i64 = 1 << 60;
/// Looks by length alone after an element over [`MARK_MAX`], before elements are read again.
const OPAQUE_LOOKS: u32 = 60;

/// The moments between which a look happened.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Just before the commands were sent.
    pub sent: Instant,
    /// Just after their replies had come.
    pub received: Instant,
    /// The same moment in seconds since 1970, to compare with stored times.
    pub unix: f64,
    /// The removals that keyspace notifications have counted so far, where they are asked for.
    pub pops: Option<PopCount>,
}

/// What one look added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Jobs that came since the last look.
    pub arrivals: u64,
    /// Jobs that left since the last look; below 0 where more were returned than left.
    pub departures: i64,
    /// Whether both are exact; else they are the least that can have happened.
    pub exact: bool,
}

/// What one look says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Elements in the list.
    pub length: u64,
    /// What came and went since the last look; `None` at the first look.
    pub step: Option<Step>,
    /// The age of the oldest element.
    pub age: Age,
}

/// Which end of the list a search starts from.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    New,
    Old,
}

/// The rounds of a look: most have the first only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Round {
    #[default]
    First,
    /// Something came to a quiet list: the same again, with the newest elements.
    Newest,
    /// The landmarks were not where they should be: more of them, searched for farther.
    Wider,
}

/// One search of a look: for which job, from where, over how many elements.
#[derive(Clone, Copy, Debug)]
struct Search {
    job: i64,
    end: End,
    max: i64,
}

/// What a search brought.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sight {
    /// Seen once, with so many elements newer than it.
    Once(i64),
    /// Seen more than once: copies.
    Copies,
    /// Not there, for sure.
    Gone,
    /// Not seen as far as the search went.
    Unseen,
}

/// What the searches for the mark brought, taken together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mark {
    At(i64),
    Copies,
    Gone,
    Unseen,
}

/// What an anchor says of elements that are missing.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Landmark {
    /// None was looked for, or it may have left.
    NotSeen,
    /// Seen: `job` with `newer` behind it.
    Seen { job: i64, newer: i64 },
    /// One that must still wait, by the numbers, is not there.
    Missing,
}

/// What happened to the list since the last look.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// There was no look before.
    First,
    /// All that is there came since; more may have come and gone.
    Fresh,
    /// So many came.
    Grew { arrivals: i64, anchor: Landmark },
    /// The newest were removed: `job` is there with `newer` behind it, of which no more is known.
    Cut { job: i64, newer: i64 },
    /// There is no telling.
    Lost,
    /// A wider round may tell.
    LookAgain,
}

/// The state of the last look.
#[derive(Debug)]
struct Last {
    sent: Instant,
    length: i64,
    /// Number of the newest job.
    newest: i64,
    /// The newest element, where it can serve as a mark.
    mark: Option<Bytes>,
}

/// One list, from look to look.
#[derive(Debug)]
pub struct Fifo {
    key: Bytes,
    /// Index 0 is the newest element (LPUSH), else the oldest (RPUSH).
    newest_first: bool,
    last: Option<Last>,
    curve: Curve,
    anchors: Anchors,
    /// Number of the newest job.
    newest: i64,
    /// Elements missing between the oldest job and the newest: the fewest that were seen to be.
    holes: i64,
    /// The anchor behind which they are missing: once it has left, so may they have.
    holes_behind: i64,
    /// The most that can be.
    holes_most: i64,
    /// Number of the newest job when holes were last found: past it they are gone.
    holes_until: i64,
    /// The highest number that the oldest job has had.
    passed: i64,
    /// Arrivals a look, as a maximum that decays; sizes the search from the new end.
    busy: f64,
    /// Departures a look, likewise.
    draining: f64,
    /// Departures of the last look; an anchor that is about to leave is no use.
    leaving: i64,
    /// Looks left in which only the length is read.
    opaque: u32,
    searches: Vec<Search>,
    round: Round,
    /// Nothing came at the last look: the mark is still the newest element, most likely, which need not be read then.
    quiet: bool,
    reads_newest: bool,
}

impl Fifo {
    /// A list whose oldest job is at the tail (`newest_first`, for LPUSH and RPOP) or at the head.
    #[must_use]
    pub fn new(key: Bytes, newest_first: bool) -> Self {
        Self {
            key,
            newest_first,
            last: None,
            curve: Curve::default(),
            anchors: Anchors::default(),
            newest: 0,
            holes: 0,
            holes_behind: 0,
            holes_most: 0,
            holes_until: 0,
            passed: i64::MIN,
            busy: 0.0,
            draining: 0.0,
            leaving: 0,
            opaque: 0,
            searches: Vec::new(),
            round: Round::First,
            quiet: false,
            reads_newest: false,
        }
    }

    /// Goes on under another key, to which the list was renamed.
    pub fn follow(&mut self, key: Bytes) {
        self.key = key;
    }

    /// Whether jobs stand at the old end that came later than their place says, as seen at the last look.
    #[must_use]
    pub fn has_returned_jobs(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.length > 0 && self.oldest(last.length) < self.passed)
    }

    /// Adds what this look wants to know. Call it again for another round where [`Fifo::answer`] gave `None`.
    pub fn ask(&mut self, ask: &mut Ask) {
        ask.atomic.push(Read::ListLength(self.key.clone()));
        self.searches.clear();
        if self.opaque > 0 {
            return;
        }
        self.reads_newest = self.round != Round::First || !self.quiet;
        if self.reads_newest {
            let (start, stop) = if self.newest_first { (0, 1) } else { (-2, -1) };
            ask.atomic.push(Read::ListRange(self.key.clone(), start, stop));
        }
        match self.round {
            Round::Wider => self.plan_wider(),
            Round::First | Round::Newest => self.plan_narrow(),
        }
        let mut searches = std::mem::take(&mut self.searches);
        searches.retain(|search| {
            let Some(element) = self.element(search.job) else { return false };
            let from_head = (search.end == End::New) == self.newest_first;
            ask.atomic.push(Read::ListPosition {
                key: self.key.clone(),
                element,
                rank: if from_head { 1 } else { -1 },
                count: 2,
                max: search.max,
            });
            true
        });
        self.searches = searches;
    }

    /// Takes the replies. `None` asks for another round of the same look; there are three at most.
    ///
    /// # Errors
    /// Where the server refused a read or answered in a shape that is not known. The state is then as before.
    pub fn answer(&mut self, replies: &mut Replies, look: Look) -> Result<Option<Seen>, ReadError> {
        let round = std::mem::take(&mut self.round);
        let length = i64::try_from(replies.count()?).map_err(|_| ReadError::Shape("a length beyond 63 bits"))?;
        let reads_newest = self.reads_newest && self.opaque == 0;
        let newest = if reads_newest { Some(self.newest_elements(replies.array()?)?) } else { None };
        let mut sights = Vec::with_capacity(self.searches.len());
        for search in &self.searches {
            sights.push((*search, self.sight(&replies.array()?, *search, length)?));
        }
        let verdict = self.judge(length, &sights, round == Round::Wider);
        let stays = matches!(verdict, Verdict::Grew { arrivals: 0, .. });
        if newest.is_none() && self.opaque == 0 && !stays {
            self.round = Round::Newest;
            return Ok(None);
        }
        if verdict == Verdict::LookAgain {
            self.round = Round::Wider;
            return Ok(None);
        }
        for (search, sight) in &sights {
            if *sight == Sight::Copies || round == Round::Wider && !matches!(sight, Sight::Once(_)) {
                self.anchors.remove(search.job);
            }
        }
        let step = self.apply(verdict, length, look);
        self.quiet = stays;
        self.remember(length, newest.as_deref(), look);
        self.leaving = step.map_or(0, |step| step.departures);
        Ok(Some(Seen { length: length.unsigned_abs(), step, age: self.age(length, look.received) }))
    }

    fn element(&self, job: i64) -> Option<Bytes> {
        match &self.last {
            Some(last) if last.newest == job => last.mark.clone(),
            _ => self.anchors.element(job),
        }
    }

    fn plan_narrow(&mut self) {
        let Some(last) = &self.last else { return };
        let (newest, length) = (last.newest, last.length);
        let oldest = self.oldest(length);
        if last.mark.is_some() {
            // A short list is searched whole: that tells for sure whether the mark is gone.
            let whole = if length <= SHORT { length } else { 0 };
            let max = (self.busy * 4.0) as i64 + whole;
            self.searches.push(Search { job: newest, end: End::New, max: max.clamp(whole + SEARCH_MIN, SEARCH_MAX) });
        }
        let staying = oldest + 2 * self.leaving.max(0);
        let reach = oldest + ANCHOR_REACH;
        // Where none will stay for sure, one that may have left: still there, it shows that others were removed.
        let may_leave = || self.anchors.last_in(oldest, staying.min(newest) - 1);
        if let Some(job) = self.anchors.first_in(staying, reach.min(newest - 1)).or_else(may_leave) {
            self.searches.push(Search { job, end: End::Old, max: job - oldest + 1 + SLACK });
        }
    }

    fn plan_wider(&mut self) {
        let Some(last) = &self.last else { return };
        let (newest, length) = (last.newest, last.length);
        let oldest = self.oldest(length);
        if last.mark.is_some() {
            self.searches.push(Search { job: newest, end: End::New, max: MARK_SEARCH_MAX });
            self.searches.push(Search { job: newest, end: End::Old, max: (length + SLACK).min(MARK_SEARCH_MAX) });
        }
        for job in self.anchors.sample(newest) {
            let end = if newest - job < job - oldest { End::New } else { End::Old };
            self.searches.push(Search { job, end, max: SEARCH_MAX });
        }
    }

    fn newest_elements(&self, items: Vec<Reply>) -> Result<Vec<Bytes>, ReadError> {
        let mut elements = Vec::with_capacity(items.len());
        for item in items {
            let Reply::Bytes(element) = item else {
                return Err(ReadError::Shape("a list element that is no string"));
            };
            elements.push(element);
        }
        if !self.newest_first {
            elements.reverse();
        }
        Ok(elements)
    }

    fn sight(&self, positions: &[Reply], search: Search, length: i64) -> Result<Sight, ReadError> {
        match positions {
            [] => {
                let was = self.last.as_ref().map_or(0, |last| last.length);
                // In a first-in first-out list nothing that was there is now farther from the old end than before.
                let all = match search.end {
                    End::New => length,
                    End::Old => length.min(was + 1),
                };
                Ok(if search.max >= all { Sight::Gone } else { Sight::Unseen })
            }
            [Reply::Int(index)] if !(0..length).contains(index) => Err(ReadError::Shape("a position beyond the list")),
            [Reply::Int(index)] => Ok(Sight::Once(if self.newest_first { *index } else { length - 1 - index })),
            [Reply::Int(_), ..] => Ok(Sight::Copies),
            _ => Err(ReadError::Shape("a position that is no number")),
        }
    }

    /// Draws the conclusion from what was seen; changes nothing.
    fn judge(&self, length: i64, sights: &[(Search, Sight)], wider: bool) -> Verdict {
        let Some(last) = &self.last else {
            return Verdict::First;
        };
        if last.length == 0 || length == 0 {
            return Verdict::Fresh;
        }
        let anchors = || sights.iter().filter(|(search, _)| search.job != last.newest);
        let seen = anchors().filter_map(|(search, sight)| match sight {
            Sight::Once(newer) => Some((search.job, *newer)),
            _ => None,
        });
        let newest_seen = seen.max_by_key(|(job, _)| *job);
        // The newest may have been removed and the oldest taken: only where none is left to look for did the list drain.
        let none_left = length == 0
            || anchors().all(|(_, sight)| *sight == Sight::Gone)
                && anchors().count() == self.anchors.before(last.newest);
        let can_look_again = !wider && (last.mark.is_some() || self.anchors.before(last.newest) > 0);
        match (mark(last.newest, sights), newest_seen) {
            (Mark::At(arrivals), _) => {
                let anchor = self.landmark(arrivals, length, sights, wider);
                // Two that contradict are copies, one of them at least; one that is missing was removed with others.
                let odd = match anchor {
                    Landmark::Seen { job, newer } => last.newest + arrivals - job - newer < 0,
                    Landmark::Missing => true,
                    Landmark::NotSeen => (arrivals - length + last.length) as f64 > 4.0 * self.draining + SLACK as f64,
                };
                match anchor {
                    _ if odd && can_look_again => Verdict::LookAgain,
                    Landmark::Seen { .. } if odd => Verdict::Lost,
                    _ => Verdict::Grew { arrivals, anchor },
                }
            }
            (Mark::Copies, Some(anchor)) if self.bridged(anchor) >= 0 => self.grew_by(anchor),
            (Mark::Gone, None) if none_left => Verdict::Fresh,
            _ if can_look_again => Verdict::LookAgain,
            (Mark::Gone, None) => Verdict::Fresh,
            (Mark::Unseen, Some(anchor)) if self.bridged(anchor) >= 0 => self.grew_by(anchor),
            (_, Some((job, newer))) => Verdict::Cut { job, newer },
            (_, None) => Verdict::Lost,
        }
    }

    /// The arrivals, as an anchor tells them where the mark can't.
    fn bridged(&self, (job, newer): (i64, i64)) -> i64 {
        job + newer + self.holes - self.newest
    }

    fn grew_by(&self, anchor: (i64, i64)) -> Verdict {
        Verdict::Grew { arrivals: self.bridged(anchor), anchor: Landmark::NotSeen }
    }

    /// The oldest anchor that was seen, for it has the most behind it; or that one is missing: gone, where that must
    /// be `sure`, else not seen as far as was searched.
    fn landmark(&self, arrivals: i64, length: i64, sights: &[(Search, Sight)], sure: bool) -> Landmark {
        let staying = self.newest + arrivals - length + 1;
        let mut oldest = Landmark::NotSeen;
        let mut anchors: Vec<_> = sights.iter().filter(|(search, _)| search.job < self.newest).collect();
        anchors.sort_by_key(|(search, _)| search.job);
        for (search, sight) in anchors {
            match sight {
                Sight::Once(newer) => {
                    return match oldest {
                        Landmark::NotSeen => Landmark::Seen { job: search.job, newer: *newer },
                        missing => missing,
                    };
                }
                Sight::Gone if search.job >= staying => oldest = Landmark::Missing,
                Sight::Unseen if search.job >= staying && !sure => oldest = Landmark::Missing,
                _ => {}
            }
        }
        oldest
    }

    /// Brings the curve and the numbers up to date; `None` at the first look.
    fn apply(&mut self, verdict: Verdict, length: i64, look: Look) -> Option<Step> {
        let (was, newest, sent) =
            self.last.as_ref().map_or((0, 0, look.sent), |last| (last.length, last.newest, last.sent));
        let to = look.received;
        let arrivals = match verdict {
            Verdict::First | Verdict::LookAgain => {
                self.curve.restart(1, length, None, to);
                self.newest = length;
                return None;
            }
            Verdict::Grew { arrivals, anchor } => {
                self.newest = newest + arrivals;
                self.curve.push(newest + 1, self.newest, Some(sent), to);
                self.find_holes(anchor, length);
                arrivals
            }
            Verdict::Fresh => {
                self.newest = newest + length;
                self.forget();
                self.curve.restart(newest + 1, self.newest, Some(sent), to);
                length
            }
            Verdict::Cut { job, newer } => {
                self.newest = job + newer;
                self.anchors.cut_after(job);
                self.fill_holes();
                let from = self.curve.cut_after(job);
                self.curve.push(job + 1, self.newest, from, to);
                (self.newest - newest).max(0)
            }
            Verdict::Lost => {
                let arrivals = (length - was).max(0);
                self.newest = newest + arrivals;
                self.forget();
                self.curve.restart(self.newest - length + 1, self.newest, None, to);
                arrivals
            }
        };
        let exact = matches!(verdict, Verdict::Grew { .. });
        let departures = arrivals - (length - was);
        self.draining = (departures as f64).max(self.draining * 0.8);
        self.busy = if exact { (arrivals as f64).max(self.busy * 0.8) } else { self.busy };
        Some(Step { arrivals: arrivals.unsigned_abs(), departures, exact })
    }

    /// Learns from an anchor how many elements are missing between the oldest job and the newest.
    ///
    /// Those behind the anchor are known. Those before it are no more than were known before, and no more than fit
    /// between it and the oldest number that has not left yet.
    fn find_holes(&mut self, anchor: Landmark, length: i64) {
        let is_there = self.holes_behind > self.newest - length;
        if !is_there && !matches!(anchor, Landmark::Seen { .. }) {
            self.holes = 0;
        }
        match anchor {
            Landmark::NotSeen => {}
            Landmark::Missing => {
                self.holes_most = UNKNOWN_HOLES;
                self.holes_until = self.newest;
            }
            Landmark::Seen { job, newer } => {
                let behind = self.newest - job - newer;
                if behind > self.holes_most {
                    self.holes_until = self.newest;
                    self.holes_most = behind;
                    self.passed = i64::MIN;
                }
                let older = length - 1 - newer;
                let room = job.saturating_sub(older).saturating_sub(self.passed).max(0);
                (self.holes, self.holes_behind) = (behind, job);
                self.holes_most = behind + (self.holes_most - behind).min(room);
            }
        }
    }

    fn forget(&mut self) {
        self.anchors.clear();
        self.fill_holes();
        self.passed = i64::MIN;
    }

    fn fill_holes(&mut self) {
        (self.holes, self.holes_most) = (0, 0);
    }

    /// The lowest number that the oldest job can have.
    fn oldest(&self, length: i64) -> i64 {
        self.newest - length + 1 - self.holes_most
    }

    /// Keeps what the next look needs.
    fn remember(&mut self, length: i64, newest: Option<&[Bytes]>, look: Look) {
        // As many are left as came after the last hole, or fewer: so all holes have been passed.
        if self.newest - length + 1 > self.holes_until {
            self.fill_holes();
        }
        let oldest = self.oldest(length);
        self.curve.forget_before(oldest);
        self.anchors.forget_before(oldest);
        self.opaque = self.opaque.saturating_sub(1);
        let old = self.last.take().and_then(|last| last.mark);
        let mark = match newest {
            None if self.quiet => old,
            None | Some([]) => None,
            Some(newest) => self.choose_mark(newest, old),
        };
        // Both, for where the newest is removed and nothing else is in mind, all that is left would pass for new.
        if let (Some(_), Some([_, second])) = (&mark, newest)
            && second.len() <= ANCHOR_MAX
            && !self.anchors.ends_with(self.newest - 1)
        {
            self.anchors.add(self.newest - 1, Bytes::copy_from_slice(second), oldest);
        }
        if let Some(element) = mark.as_ref().filter(|element| element.len() <= ANCHOR_MAX) {
            self.anchors.add(self.newest, element.clone(), oldest);
        }
        self.last = Some(Last { sent: look.sent, length, newest: self.newest, mark });
    }

    /// The newest element, where it can serve as a mark: not too long, and not a copy of the one before.
    fn choose_mark(&mut self, newest: &[Bytes], old: Option<Bytes>) -> Option<Bytes> {
        if newest.iter().any(|element| element.len() > MARK_MAX) {
            self.opaque = OPAQUE_LOOKS;
            return None;
        }
        let element = match newest {
            [element] => element,
            [element, second] if element != second => element,
            _ => return None,
        };
        Some(kept(element, old.as_ref()))
    }

    fn age(&mut self, length: i64, now: Instant) -> Age {
        if length == 0 {
            return Age::EMPTY;
        }
        let oldest = self.oldest(length);
        let returned = oldest < self.passed;
        self.passed = self.passed.max(oldest);
        let most = oldest + self.holes_most - self.holes;
        match self.curve.age(oldest, most, now) {
            // A number that had left is back: a job was returned, and it came before its place says.
            Age::Known { seconds, error } if returned => Age::AtLeast((seconds - error).max(0.0)),
            age => age,
        }
    }
}

/// Where the mark stands, by all searches for it: from both ends it must be at the same place.
fn mark(newest: i64, sights: &[(Search, Sight)]) -> Mark {
    let mut found = Mark::Unseen;
    for (_, sight) in sights.iter().filter(|(search, _)| search.job == newest) {
        found = match (found, sight) {
            (_, Sight::Copies) | (Mark::Copies, _) => Mark::Copies,
            (Mark::At(one), Sight::Once(other)) if one != *other => Mark::Copies,
            (_, Sight::Once(depth)) => Mark::At(*depth),
            (Mark::At(depth), _) => Mark::At(depth),
            (_, Sight::Gone) | (Mark::Gone, _) => Mark::Gone,
            (Mark::Unseen, Sight::Unseen) => Mark::Unseen,
        };
    }
    found
}
