//! The counters that are published of a queue, held from poll to poll against what is true.

use super::check::{Differences, Published};
use super::truth::{Count, Truth};

/// Pushes and departures at one poll. A job put in front takes one off the departures while the list can be followed; in one
/// that was empty it has come like any other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flow {
    pub pushed: i64,
    pub left: i64,
    pub in_front: i64,
    pub blurs: u64,
}

impl Flow {
    /// All that can be said to have come, and to have left.
    fn most(self, since: Self) -> (i64, i64) {
        let in_front = self.in_front - since.in_front;
        (self.pushed - since.pushed + in_front, self.left - since.left + in_front)
    }
}

/// What the counters of one queue must be, from poll to poll.
#[derive(Default)]
pub struct Counters {
    /// At the first look that was tried, and at the first that was good: counting began at one of them.
    tried: Option<Flow>,
    first: Option<Flow>,
    /// The most departures at a poll, since the first that was good.
    most_first: i64,
    last: Option<Last>,
    arrivals: Held,
    processed: Held,
    failed: Held,
    gaps: u64,
}

/// What was published last, and what was true then.
struct Last {
    gaps: u64,
    arrivals: Option<u64>,
    processed: Option<u64>,
    flow: Flow,
}

impl Counters {
    /// Notes that a look is about to be made.
    pub fn tries(&mut self, flow: Flow) {
        self.tried.get_or_insert(flow);
    }

    /// Whether no gap was counted so far.
    pub fn is_exact(&self) -> bool {
        self.gaps == 0
    }

    /// Holds a good look against what is true.
    pub fn check(&mut self, published: &Published, truth: &Truth, flow: Flow, differences: &mut Differences) {
        let (first, tried) = (*self.first.get_or_insert(flow), *self.tried.get_or_insert(flow));
        let most = flow.most(tried);
        self.most_first = self.most_first.max(flow.left - first.left);
        let gaps = published.whole("observation_gaps_total").unwrap_or(u64::MAX);
        if gaps < self.gaps {
            differences.push(format!("the gaps went back from {} to {gaps}", self.gaps));
        }
        self.gaps = gaps;
        let is_exact = gaps == 0 && flow.blurs == 0;
        let (arrivals, processed) = (published.whole("arrivals_total"), published.whole("processed_total"));
        let seen = Bounds { exact: is_exact.then_some(flow.pushed - first.pushed), most: most.0 };
        check("arrivals_total", arrivals, truth.arrivals, &mut self.arrivals, seen, differences);
        let seen = Bounds { exact: is_exact.then_some(self.most_first), most: most.1 };
        check("processed_total", processed, truth.processed, &mut self.processed, seen, differences);
        if let Some(last) = self.last.take().filter(|last| (last.gaps, last.flow.blurs) == (gaps, flow.blurs)) {
            let pushed = flow.pushed - last.flow.pushed;
            grew("arrivals_total", truth.arrivals, last.arrivals, arrivals, pushed, differences);
            // A job that was put in front hides that others leave, and so does one that came again unseen.
            if (flow.in_front, flow.blurs) == (tried.in_front, tried.blurs) {
                let left = flow.left - last.flow.left;
                grew("processed_total", truth.processed, last.processed, processed, left, differences);
            }
        }
        self.last = Some(Last { gaps, arrivals, processed, flow });
        let none = Bounds { exact: None, most: 0 };
        check("failed_total", published.whole("failed_total"), truth.failed, &mut self.failed, none, differences);
    }
}

/// What a count seen from outside may be.
struct Bounds {
    exact: Option<i64>,
    most: i64,
}

fn check(name: &str, got: Option<u64>, count: Count, held: &mut Held, seen: Bounds, differences: &mut Differences) {
    let wanted = match count {
        Count::Absent => None,
        Count::Maybe(_) if got.is_none() => return held.0 = None,
        Count::Total(total) | Count::Maybe(total) => Some(held.fold(total)),
        Count::Any => return held.0 = got,
        Count::Seen => {
            held.0 = got;
            match (got.map(|got| got as i64), seen.exact) {
                (Some(got), Some(exact)) if got == exact => {}
                (Some(got), None) if (0..=seen.most).contains(&got) => {}
                (got, Some(exact)) => differences.push(format!("{name} is {got:?}, truly {exact}, without a gap")),
                (got, None) => differences.push(format!("{name} is {got:?}, truly {} at most", seen.most)),
            }
            return;
        }
    };
    if got != wanted {
        differences.push(format!("{name} is {got:?}, truly {wanted:?}"));
    }
}

/// How much a count seen from outside grew since the last good look, where no gap was counted since.
fn grew(name: &str, count: Count, then: Option<u64>, now: Option<u64>, truly: i64, differences: &mut Differences) {
    if let (Count::Seen, Some(then), Some(now)) = (count, then, now)
        && now as i64 - then as i64 != truly
    {
        differences.push(format!("{name} went from {then} to {now} without a gap, truly by {truly}"));
    }
}

/// A counter that somebody else keeps, as it is published: one that falls by less than half is held.
#[derive(Default)]
struct Held(Option<u64>);

impl Held {
    fn fold(&mut self, total: u64) -> u64 {
        let held = self.0.filter(|before| total < *before && total >= before / 2).unwrap_or(total);
        self.0 = Some(held);
        held
    }
}
