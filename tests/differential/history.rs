//! A history: what is done to the queues, and when the exporter looks.

/// What producers, workers and people do to a queue. A library leaves out what it does not know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verb {
    Enqueue,
    /// To be taken before all others: `lifo`, `at_front`.
    EnqueueFront,
    /// With a priority.
    EnqueueRanked,
    Delay,
    Take,
    Finish,
    /// Fails, to be tried again later.
    FailLater,
    /// Fails, to be tried again at once.
    FailNow,
    /// Fails for good.
    Bury,
    /// Moves those that are due to the waiting ones.
    Promote,
    /// Gives a job in flight back, to the end that is taken from.
    Return,
    /// Takes care of the jobs of workers that gave no word for too long.
    Recover,
    /// Takes a waiting job out, wherever it stands.
    Remove,
    /// Empties the queue.
    Delete,
    Pause,
    Resume,
    /// A worker gives word of itself.
    Beat,
    /// A worker is killed.
    Die,
    /// Something happens in another queue of the same library.
    Foreign,
}

/// One thing done to one queue; `pick` chooses among jobs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Act {
    pub verb: Verb,
    pub pick: usize,
    /// How long a delay is.
    pub seconds: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Act {
        queue: usize,
        times: usize,
        act: Act,
    },
    /// Time passes, in milliseconds.
    Wait(u64),
    /// What was done so far reaches Redis.
    Flush,
    /// The exporter's connection is cut.
    Cut,
    /// The exporter looks; its connection is cut at this call of its clock.
    Poll {
        cut_at: Option<u8>,
    },
    /// Nothing answers until all readings have died.
    Silence,
    /// The queue's key becomes one of another type.
    Spoil(usize),
    Mend(usize),
}

const VERBS: [(Verb, u32); 19] = [
    (Verb::Enqueue, 24),
    (Verb::EnqueueFront, 2),
    (Verb::EnqueueRanked, 4),
    (Verb::Delay, 7),
    (Verb::Take, 20),
    (Verb::Finish, 10),
    (Verb::FailLater, 4),
    (Verb::FailNow, 2),
    (Verb::Bury, 2),
    (Verb::Promote, 7),
    (Verb::Return, 2),
    (Verb::Recover, 2),
    (Verb::Remove, 1),
    (Verb::Delete, 1),
    (Verb::Pause, 1),
    (Verb::Resume, 2),
    (Verb::Beat, 4),
    (Verb::Die, 1),
    (Verb::Foreign, 1),
];

/// The history of a seed, for so many queues.
pub fn generate(seed: u64, queues: usize) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut busy: Vec<usize> = (0..queues).collect();
    random.shuffle(&mut busy);
    // Few busy queues have long histories, many have short ones.
    busy.truncate([2, 5, 10, queues][random.usize(0..4)]);
    // Some histories stay near empty, some grow.
    let burst = [3, 3, 8, 150][random.usize(0..4)];
    let length = random.usize(10..120);
    (0..length).map(|_| step(&mut random, &busy, burst)).collect()
}

fn step(random: &mut fastrand::Rng, busy: &[usize], burst: usize) -> Step {
    let queue = busy[random.usize(0..busy.len())];
    match random.u32(0..1_000) {
        0..740 => {
            let times = if random.u32(0..8) == 0 { random.usize(1..=burst) } else { random.usize(1..=2) };
            let seconds = if random.bool() { random.u64(1..10) } else { random.u64(1..1_000) };
            Step::Act { queue, times, act: Act { verb: verb(random), pick: random.usize(0..1_000), seconds } }
        }
        740..800 => Step::Wait(match random.u32(0..3) {
            0 => random.u64(1..100),
            1 => random.u64(100..10_000),
            _ => random.u64(10_000..400_000),
        }),
        800..850 => Step::Flush,
        850..855 => Step::Cut,
        855..856 => Step::Silence,
        856..860 => Step::Spoil(queue),
        860..870 => Step::Mend(queue),
        _ => Step::Poll { cut_at: (random.u32(0..6) == 0).then(|| random.u8(0..8)) },
    }
}

fn verb(random: &mut fastrand::Rng) -> Verb {
    let mut place = random.u32(0..VERBS.iter().map(|(_, weight)| weight).sum());
    for (verb, weight) in VERBS {
        match place.checked_sub(weight) {
            Some(rest) => place = rest,
            None => return verb,
        }
    }
    unreachable!("the place is below the sum of the weights")
}

/// Drops whatever can be dropped while `fails` holds: halves, quarters, down to single steps, until nothing more goes.
pub fn shrink(mut history: Vec<Step>, mut fails: impl FnMut(&[Step]) -> bool) -> Vec<Step> {
    let mut size = history.len().div_ceil(2);
    while size > 0 {
        let before = history.len();
        let mut from = 0;
        while from < history.len() {
            let mut shorter = history.clone();
            shorter.drain(from..(from + size).min(history.len()));
            if fails(&shorter) {
                history = shorter;
            } else {
                from += size;
            }
        }
        // At single steps one that goes may let another go.
        if size > 1 || history.len() == before {
            size /= 2;
        }
    }
    for place in 0..history.len() {
        let mut simpler = history.clone();
        if let Step::Act { times, .. } = &mut simpler[place]
            && *times > 1
        {
            *times = 1;
            if fails(&simpler) {
                history = simpler;
            }
        }
    }
    history
}
