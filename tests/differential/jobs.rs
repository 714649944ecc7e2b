//! What the model knows of one queue: every job, and where it is.

use super::world::World;
use std::collections::VecDeque;

/// A job; times in milliseconds since 1970.
#[derive(Clone, Debug)]
pub struct Job {
    pub number: u64,
    /// When it was submitted.
    pub added: u64,
    /// The time from which its age counts, by what the library stores.
    pub came: u64,
    /// When it is to run, while delayed.
    pub due: u64,
    /// Until when its worker has given its word, while in flight.
    pub lease: u64,
    /// The batch of commands that put it where it waits.
    pub batch: usize,
    /// The batch that brought it before, where no look can tell that it has left in between.
    pub earlier: Option<usize>,
    /// The batch that put it back in front of the others: in a list that was empty it passes for one that has just come.
    pub back: Option<usize>,
    /// The batch of commands that took it.
    pub taken: Option<usize>,
    /// How often it was tried.
    pub tries: u32,
    /// Its priority; 0 for none.
    pub rank: u32,
    /// Whether the library has stored a time for it.
    pub dated: bool,
}

/// All jobs of a queue.
#[derive(Default)]
pub struct Jobs {
    /// In each list the job that is taken next is the first.
    pub waiting: Vec<VecDeque<Job>>,
    pub in_flight: Vec<Job>,
    pub delayed: Vec<Job>,
    pub retrying: Vec<Job>,
    pub dead: u64,
    /// Jobs put in where jobs come in, so far.
    pub pushed: i64,
    /// Jobs that left the lists, less those given back.
    pub left: i64,
    /// Jobs put in at the end that is taken from: given back, or to be taken first.
    pub in_front: i64,
    /// The library's or the workers' own counters.
    pub done: u64,
    pub failed: u64,
    pub paused: bool,
    /// A job stands before ones that came earlier, as far as an observer of the list's ends can tell.
    pub hides: bool,
    /// How often the same element came in again before a look saw that it had left: to an observer it may never have left.
    pub blurs: u64,
    /// That was ever so, or jobs were taken out of the middle.
    pub odd: bool,
    /// Jobs were taken out of the middle since the lists were last empty.
    pub holed: bool,
    /// Jobs that were taken since the last good look, or shortly before.
    gone: Vec<Job>,
    /// For whom others may pass until the lists are empty: where a job came in again before a look saw that it had left, those in
    /// front of it stand where these did.
    pub passed_for: Vec<Job>,
    /// The look after which a job was last taken out of the middle.
    removed: usize,
    made: u64,
}

impl Jobs {
    pub fn new(lists: usize) -> Self {
        Self { waiting: vec![VecDeque::new(); lists], ..Self::default() }
    }

    /// A new job, that is not anywhere yet.
    pub fn make(&mut self, world: &mut World) -> Job {
        self.made += 1;
        world.now += 1;
        Job {
            number: self.made,
            added: world.now,
            came: world.now,
            due: 0,
            lease: 0,
            batch: 0,
            earlier: None,
            back: None,
            taken: None,
            tries: 0,
            rank: 0,
            dated: true,
        }
    }

    /// Jobs waiting.
    pub fn length(&self) -> u64 {
        self.waiting.iter().map(|list| list.len() as u64).sum()
    }

    pub fn all_waiting(&self) -> impl Iterator<Item = &Job> {
        self.waiting.iter().flatten()
    }

    /// Puts a job in where jobs come in.
    pub fn push(&mut self, list: usize, job: Job, world: &World) {
        self.put(list, Job { earlier: None, ..job }, world);
    }

    fn put(&mut self, list: usize, job: Job, world: &World) {
        self.pushed += 1;
        self.waiting[list].push_back(Job { batch: world.batch(), back: None, ..job });
    }

    /// Puts a job in at the end that is taken from: to an observer it has been given back.
    pub fn push_front(&mut self, list: usize, job: Job, world: &World) {
        // In one of several lists, that was empty, it has come like any other, and no gap says so while a list before it is followed.
        let several = self.waiting.len() > 1;
        self.blurs += u64::from(several || job.taken.is_some_and(|taken| taken >= world.last_good));
        self.left -= 1;
        self.in_front += 1;
        self.odd = true;
        self.hides = true;
        self.waiting[list].push_front(Job { back: Some(world.batch()), ..job });
    }

    /// Takes the next job of a list.
    pub fn take(&mut self, list: usize, world: &World) -> Option<Job> {
        let job = self.waiting[list].pop_front()?;
        self.left += 1;
        self.settle();
        let job = Job { tries: job.tries + 1, taken: Some(world.batch()), ..job };
        self.gone.retain(|job| job.taken >= Some(world.last_good));
        self.gone.push(job.clone());
        Some(job)
    }

    /// Puts a job in where jobs come in, as the same element that it was before.
    pub fn push_again(&mut self, list: usize, job: Job, world: &World) {
        let blurred = job.taken.is_some_and(|taken| taken >= world.last_good);
        self.blurs += u64::from(blurred);
        self.odd |= blurred;
        if blurred {
            self.passed_for.extend(self.gone.iter().filter(|job| job.taken >= Some(world.last_good)).cloned());
        }
        let earlier = job.earlier.unwrap_or(job.batch);
        self.put(list, Job { earlier: blurred.then_some(earlier), ..job }, world);
    }

    /// Takes out a job in the middle of a list, of those that the last look saw: nobody who looks at the list now and then can know
    /// of one that was put in and taken out in between.
    pub fn remove(&mut self, list: usize, pick: usize, world: &World) -> Option<Job> {
        let seen = |(_, job): &(usize, &Job)| job.batch < world.looked;
        let seen: Vec<usize> = self.waiting[list].iter().enumerate().filter(seen).map(|(place, _)| place).collect();
        // The newest of them is the last. A look keeps two in mind: where both are taken out before the next, what is left passes for new.
        let again = self.removed == world.looked;
        let removable = seen.len().saturating_sub(usize::from(again));
        self.removed = world.looked;
        let place = seen[pick.checked_rem(removable)?];
        let job = self.waiting[list].remove(place)?;
        self.left += 1;
        self.odd = true;
        self.holed = true;
        self.settle();
        Some(job)
    }

    /// Empties the lists.
    pub fn clear_waiting(&mut self) {
        self.left += self.length() as i64;
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.settle();
    }

    fn settle(&mut self) {
        self.hides &= self.length() > 0;
        self.holed &= self.length() > 0;
        if self.length() == 0 {
            self.passed_for.clear();
        }
    }

    /// Takes one of those in flight.
    pub fn running(&mut self, pick: usize) -> Option<Job> {
        choose(&mut self.in_flight, pick)
    }
}

/// Takes one out.
pub fn choose(jobs: &mut Vec<Job>, pick: usize) -> Option<Job> {
    let place = pick.checked_rem(jobs.len())?;
    Some(jobs.remove(place))
}

/// Takes those out whose time has come, the first to be due first.
pub fn due(jobs: &mut Vec<Job>, now: u64) -> Vec<Job> {
    let mut due: Vec<Job> = jobs.extract_if(.., |job| job.due <= now).collect();
    due.sort_by_key(|job| (job.due, job.number));
    due
}
