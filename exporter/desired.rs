//! How many workers a queue needs now, by its policy.
//!
//! Four numbers of workers, each of which may say how many are needed at least (`low`) and how many may stay (`high`):
//!
//! | | at least | may stay |
//! |---|---|---|
//! | backlog | backlog / `scale_up_depth` | backlog / `scale_down_depth`, rounded down |
//! | in flight, unless `keep_busy` is false | | jobs in flight / `worker_slots` |
//! | load | rate x `job_seconds` / `worker_slots` | that over [`BUSY`] |
//! | policy | `min_workers`, and 1 while there is any job | |
//!
//! The rate is what the workers must do together: what comes in, and what keeps jobs within `objective_age`. A job that comes
//! now waits for the backlog before it, so backlog / `objective_age` is enough while nothing is late. Once the oldest job has
//! waited for the objective, the backlog is to be gone in `catch_up` while as much comes in as before; from half of the objective
//! on the one passes into the other. With `arrival_rate` false jobs may wait: until half of the objective the load counts for
//! nothing, and from there on it grows to the same. Rate times seconds a job is the number of busy slots (Little's law; [`crate::load`]), and
//! no more than there are jobs to be done are counted.
//!
//! The result is the last one, moved no farther than it must be to lie between the largest `low` and the largest `high`
//! (and `max_workers`); of `high` the largest of the last eighth to quarter of `RATE_WINDOW`, for a dip of a moment would be kept as the last
//! number, and workers would come back that need not have gone. So it rests while the numbers stay between the two, however they shake, and repeating a look changes
//! nothing. A number that the policy asks for and that can't be known now leaves `high` open: workers may be added for the others, and
//! none is taken away. Nothing is said before all that the policy asks for was known once.

use crate::curve::Age;
use crate::flow::Totals;
use crate::layout::{Beyond, Observation};
use crate::load::{Load, Means};
use crate::spec::Policy;
use std::time::{Duration, Instant};

/// How busy workers may be on average before fewer could do the same: at over 80 % waiting times grow steeply (the waiting time
/// of M/M/c), and a number that wavers about a whole one moves nothing.
const BUSY: f64 = 0.8;

/// What was last wanted for one queue, and what is needed to say it again.
#[derive(Debug)]
pub struct Desired {
    policy: Policy,
    load: Load,
    /// Jobs in flight were seen once: from then on their absence is a gap in what is known.
    sees_in_flight: bool,
    peak: Peak,
    last: Option<u64>,
}

/// The largest `high` of a while, in two parts, so that it costs no memory: open where one of them was.
#[derive(Debug)]
struct Peak {
    /// How long a part is.
    part: Duration,
    since: Option<Instant>,
    now: Option<u64>,
    before: Option<u64>,
}

impl Peak {
    fn new(part: Duration) -> Self {
        Self { part, since: None, now: Some(0), before: Some(0) }
    }

    fn fold(&mut self, high: Option<u64>, now: Instant) -> Option<u64> {
        let past = now.saturating_duration_since(*self.since.get_or_insert(now));
        if past >= self.part {
            self.before = if past < self.part * 2 { self.now } else { Some(0) };
            (self.since, self.now) = (Some(now), Some(0));
        }
        self.now = self.now.zip(high).map(|(peak, high)| peak.max(high));
        self.before.zip(self.now).map(|(before, now)| before.max(now))
    }
}

/// What is known of a queue at one look.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    backlog: u64,
    /// Those that were seen.
    in_flight: u64,
    in_flight_at_most: Option<u64>,
    /// Seconds, or a lower bound of them.
    age: f64,
    age_is_exact: bool,
    /// Jobs a second.
    arrival_rate: Option<f64>,
    means: Means,
}

/// Workers needed at least, and how many may stay; the latter open where something is not known.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    low: u64,
    high: Option<u64>,
}

impl Desired {
    /// For a queue with this policy; `None` where it gives nothing to go by.
    #[must_use]
    pub fn new(policy: Policy, window: Duration) -> Option<Self> {
        let goes_by = policy.scale_up_depth.is_some() || policy.objective_age.is_some();
        goes_by.then(|| Self {
            policy,
            load: Load::new(window),
            sees_in_flight: false,
            peak: Peak::new(window / 8),
            last: None,
        })
    }

    /// Notes that a look came to nothing.
    pub fn lost(&mut self) {
        self.load.lost();
    }

    /// Takes in what a look at `now` saw; gives the workers that are wanted, where that can be said.
    pub fn fold(&mut self, seen: &Observation, totals: &Totals, now: Instant) -> Option<u64> {
        // Workers that end their jobs while they leave need not be kept: then it is as if their jobs were not seen.
        let keeps_busy = self.policy.keep_busy != Some(false);
        let at_least = seen.in_flight.filter(|_| keeps_busy);
        let beyond = if keeps_busy { seen.beyond } else { Beyond::Nothing };
        let in_flight = at_least.filter(|_| beyond == Beyond::Nothing);
        let means = self.load.fold(in_flight, totals.processing_rate, now);
        self.sees_in_flight |= at_least.is_some() || beyond != Beyond::Nothing;
        let (age, age_is_exact) = match seen.age {
            Age::Known { seconds, .. } => (seconds, true),
            Age::AtLeast(seconds) => (seconds, false),
            Age::Unknown => (0.0, false),
        };
        let known = Known {
            backlog: seen.length? + seen.due.unwrap_or(0),
            in_flight: at_least.unwrap_or(0),
            in_flight_at_most: match beyond {
                Beyond::Nothing => at_least,
                Beyond::AtMost(more) => at_least.map(|jobs| jobs.saturating_add(more)),
                Beyond::Unknown => None,
            },
            age,
            age_is_exact,
            arrival_rate: totals.arrival_rate,
            means,
        };
        let range = range(&known, &self.policy, self.sees_in_flight);
        let slots = self.policy.worker_slots.unwrap_or(1).max(1);
        // After a start: busy workers are there and wanted, whatever was wanted before.
        let start = range.high.map(|_| known.in_flight_at_most.unwrap_or(0).div_ceil(slots));
        let high = self.peak.fold(range.high, now);
        self.last = self.last.or(start).map(|last| next(last, Range { high, ..range }));
        self.last
    }
}

/// The last number, moved no farther than it must be.
fn next(last: u64, Range { low, high }: Range) -> u64 {
    last.min(high.unwrap_or(u64::MAX)).max(low)
}

fn range(known: &Known, policy: &Policy, sees_in_flight: bool) -> Range {
    let slots = policy.worker_slots.unwrap_or(1).max(1);
    let (mut low, mut high) = (0, Some(0));
    let mut add = |least: u64, most: Option<u64>| {
        low = low.max(least);
        high = high.zip(most).map(|(high, most)| high.max(most));
    };
    if let Some(up) = policy.scale_up_depth {
        let least = known.backlog.div_ceil(up.max(1));
        let most = policy.scale_down_depth.map_or(least, |down| known.backlog / down.max(1));
        add(least, Some(most));
    }
    if sees_in_flight {
        add(0, known.in_flight_at_most.map(|jobs| jobs.div_ceil(slots)));
    }
    // Where jobs in flight can't be seen and nobody says how long one takes, the load is not asked for.
    if sees_in_flight || policy.job_seconds.is_some() {
        match busy(known, policy) {
            Some(Busy { slots: busy, exact }) => {
                let workers = |busy: f64| (busy / slots as f64).ceil() as u64;
                let jobs = known.in_flight_at_most.map(|jobs| jobs.saturating_add(known.backlog).div_ceil(slots));
                let least = workers(busy).min(jobs.unwrap_or(u64::MAX));
                add(least, exact.then(|| workers(busy / BUSY)));
            }
            None => add(0, None),
        }
    }
    let jobs = known.backlog + known.in_flight;
    add(u64::from(jobs > 0), Some(0));
    let (min, max) = (policy.min_workers.unwrap_or(0), policy.max_workers.unwrap_or(u64::MAX));
    let within = |workers: u64| workers.max(min).min(max);
    Range { low: within(low), high: high.map(|high| within(high.max(low))) }
}

/// Slots that are to be busy, on average: at least so many, or exactly.
struct Busy {
    slots: f64,
    exact: bool,
}

fn busy(known: &Known, policy: &Policy) -> Option<Busy> {
    let Means { busy, job_seconds, job_seconds_at_least } = known.means;
    let seconds = job_seconds.or_else(|| policy.job_seconds.map(|time| time.as_secs_f64()));
    if !follows_arrivals(policy) && is_in_time(known, policy) {
        return Some(Busy { slots: 0.0, exact: true });
    }
    if known.backlog == 0 && (known.arrival_rate.is_none() || seconds.is_none()) {
        // Nothing waits: what the workers do is what comes in.
        return busy.map(|slots| Busy { slots, exact: true });
    }
    let Busy { slots: rate, exact } = rate(known, policy);
    match (seconds, job_seconds_at_least) {
        (Some(seconds), _) => Some(Busy { slots: rate * seconds, exact }),
        // While nothing is late, what there is suffices, and less may, too.
        (None, Some(least)) => Some(Busy { slots: rate * least, exact: is_in_time(known, policy) }),
        (None, None) => None,
    }
}

/// Whether workers come before a backlog does.
fn follows_arrivals(policy: &Policy) -> bool {
    policy.arrival_rate != Some(false)
}

/// Whether the oldest job has not waited for half of the objective, for sure.
fn is_in_time(known: &Known, policy: &Policy) -> bool {
    policy.objective_age.is_none_or(|objective| known.age_is_exact && known.age * 2.0 <= objective.as_secs_f64())
}

/// Jobs a second that the workers must do together, in the place of slots.
fn rate(known: &Known, policy: &Policy) -> Busy {
    let (arrivals, counted) = (known.arrival_rate.unwrap_or(0.0), known.arrival_rate.is_some());
    let Some(objective) = policy.objective_age.map(|age| age.as_secs_f64()) else {
        return Busy { slots: arrivals, exact: counted };
    };
    let catch_up = policy.catch_up.map_or(objective, |time| time.as_secs_f64());
    let backlog = known.backlog as f64;
    let in_time = if follows_arrivals(policy) { arrivals.max(backlog / objective) } else { 0.0 };
    let late = arrivals + backlog / catch_up;
    let urgency = (2.0 * known.age / objective - 1.0).clamp(0.0, 1.0);
    let dated = known.age_is_exact || known.backlog == 0 || urgency >= 1.0;
    Busy { slots: in_time + urgency * (late - in_time).max(0.0), exact: counted && dated }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy() -> Policy {
        Policy {
            objective_age: Some(Duration::from_secs(60)),
            scale_up_depth: Some(20),
            scale_down_depth: Some(5),
            min_workers: Some(1),
            max_workers: Some(50),
            ..Policy::default()
        }
    }

    fn known(backlog: u64, in_flight: u64, age: f64) -> Known {
        let means = Means { busy: Some(4.0), job_seconds: Some(2.0), ..Means::default() };
        let in_flight_at_most = Some(in_flight);
        Known { backlog, in_flight, in_flight_at_most, age, age_is_exact: true, arrival_rate: Some(2.0), means }
    }

    #[test]
    fn workers_follow_what_comes_in() {
        // Two a second of two seconds each keep four busy; at 80 % five may stay.
        assert_eq!(range(&known(0, 4, 0.0), &policy(), true), Range { low: 2 * 2, high: Some(5) });
    }

    #[test]
    fn a_late_queue_is_caught_up_with() {
        // In time: 2 a second keep up and 90 / 60 are fewer. Late: 2 + 90 / 60 a second, of two seconds each.
        assert_eq!(range(&known(90, 4, 10.0), &policy(), true).low, 5);
        assert_eq!(range(&known(90, 4, 60.0), &policy(), true).low, 7);
        let patient = Policy { catch_up: Some(Duration::from_secs(600)), ..policy() };
        assert_eq!(range(&known(90, 4, 60.0), &patient, true).low, 5);
    }

    #[test]
    fn where_jobs_may_wait_arrivals_count_once_jobs_get_late() {
        let policy = Policy { arrival_rate: Some(false), ..policy() };
        // In time: 90 jobs are 5 workers by the one depth, and 18 may stay by the other; what comes in is not asked.
        let unmeasured = Known { arrival_rate: None, means: Means::default(), ..known(90, 4, 30.0) };
        assert_eq!(range(&unmeasured, &policy, true), Range { low: 5, high: Some(18) });
        assert_eq!(range(&known(0, 4, 0.0), &policy, true), Range { low: 1, high: Some(4) });
        // Half as late as may be: half of 2 + 90 / 60 a second, of two seconds each. Late: all of it.
        let deep = Policy { scale_up_depth: Some(90), ..policy };
        let lows = [30.0, 45.0, 60.0].map(|age| range(&known(90, 4, age), &deep, true).low);
        assert_eq!(lows, [1, 4, 7]);
        // Undated jobs may be late.
        assert_eq!(range(&Known { age_is_exact: false, ..unmeasured }, &policy, true), Range { low: 5, high: None });
    }

    #[test]
    fn never_more_workers_than_jobs() {
        assert_eq!(range(&known(1, 0, 300.0), &policy(), true).low, 1);
    }

    #[test]
    fn busy_workers_stay() {
        let quiet = Known { arrival_rate: Some(0.0), means: Means::default(), ..known(0, 7, 0.0) };
        let policy = Policy { job_seconds: Some(Duration::from_secs(1)), ..policy() };
        assert_eq!(range(&quiet, &policy, true), Range { low: 1, high: Some(7) });
    }

    #[test]
    fn what_is_not_known_takes_no_worker_away() {
        let few = Means { busy: Some(4.0), job_seconds: None, job_seconds_at_least: Some(1.0) };
        let unmeasured = Known { means: few, ..known(30, 4, 40.0) };
        assert_eq!(range(&unmeasured, &policy(), true), Range { low: 3, high: None });
        assert_eq!(next(9, range(&unmeasured, &policy(), true)), 9);
        let unwatched = Known { means: Means::default(), ..known(30, 4, 0.0) };
        assert_eq!(range(&unwatched, &policy(), true).high, None);
        let in_time = Known { age: 30.0, ..unmeasured };
        assert_eq!(range(&in_time, &policy(), true), Range { low: 2, high: Some(6) });
        let undated = Known { age_is_exact: false, ..known(30, 4, 10.0) };
        assert_eq!(range(&undated, &policy(), true).high, None);
        // Late for sure, whatever the age is exactly.
        assert!(range(&Known { age: 60.0, ..undated }, &policy(), true).high.is_some());
        assert_eq!(range(&Known { arrival_rate: None, ..known(30, 4, 0.0) }, &policy(), true).high, None);
    }

    #[test]
    fn nothing_is_said_before_all_was_known_once_and_then_busy_workers_stay() {
        let mut desired = Desired::new(policy(), Duration::from_secs(60)).unwrap();
        let start = Instant::now();
        let totals = Totals { arrival_rate: Some(0.1), processing_rate: Some(2.0), ..Totals::default() };
        let seen = Observation { length: Some(5), in_flight: Some(9), age: Age::EMPTY, ..Observation::default() };
        let mut at = |second| desired.fold(&seen, &totals, start + Duration::from_secs(second));
        assert_eq!((at(0), at(30)), (None, None));
        assert_eq!((at(61), at(62)), (Some(9), Some(9)));
    }

    #[test]
    fn workers_that_were_not_come_to_are_not_taken_for_idle() {
        let policy = Policy { arrival_rate: Some(false), worker_slots: Some(10), max_workers: None, ..policy() };
        let mut desired = Desired::new(policy, Duration::from_secs(60)).unwrap();
        let start = Instant::now();
        let mut at = |second, in_flight, beyond| {
            let seen = Observation { length: Some(0), in_flight, beyond, age: Age::EMPTY, ..Observation::default() };
            desired.fold(&seen, &Totals::default(), start + Duration::from_secs(second))
        };
        // After a start, some are read at each look.
        assert_eq!(at(0, None, Beyond::Unknown), None);
        assert_eq!(at(1, Some(640), Beyond::Unknown), None);
        assert_eq!(at(2, Some(2_000), Beyond::Nothing), Some(200));
        assert_eq!(at(60, Some(10), Beyond::Unknown), Some(200));
        assert_eq!(at(120, Some(10), Beyond::AtMost(500)), Some(51));
    }

    #[test]
    fn long_jobs_that_are_late_call_for_more_before_one_is_done() {
        let few = Means { busy: Some(1.0), job_seconds: None, job_seconds_at_least: Some(60.0) };
        let late = Known { arrival_rate: Some(0.0), means: few, ..known(5, 1, 60.0) };
        assert_eq!(range(&late, &policy(), true), Range { low: 5, high: None });
    }

    #[test]
    fn an_empty_queue_with_gaps_goes_by_what_its_workers_do() {
        let gaps =
            Known { arrival_rate: None, means: Means { busy: Some(2.2), ..Means::default() }, ..known(0, 2, 0.0) };
        assert_eq!(range(&gaps, &policy(), true), Range { low: 2, high: Some(3) });
    }

    #[test]
    fn a_queue_whose_jobs_in_flight_cant_be_seen_goes_by_its_backlog() {
        let unseen = Known { in_flight_at_most: None, means: Means::default(), ..known(90, 0, 0.0) };
        assert_eq!(range(&unseen, &policy(), false), Range { low: 5, high: Some(18) });
    }

    #[test]
    fn workers_that_need_not_be_kept_go_by_the_backlog_alone() {
        let seen = |length| Observation {
            length: Some(length),
            in_flight: Some(9),
            age: Age::EMPTY,
            ..Observation::default()
        };
        let mut desired = Desired::new(Policy { keep_busy: Some(false), ..policy() }, Duration::from_secs(60)).unwrap();
        let totals = Totals { arrival_rate: Some(4.0), processing_rate: Some(4.0), ..Totals::default() };
        let start = Instant::now();
        let mut at = |second, length| desired.fold(&seen(length), &totals, start + Duration::from_secs(second));
        assert_eq!((at(0, 90), at(40, 30), at(80, 9)), (Some(5), Some(5), Some(1)));
    }

    #[test]
    fn a_dip_of_a_moment_takes_no_worker_away() {
        let policy = Policy { arrival_rate: Some(false), ..policy() };
        let mut desired = Desired::new(policy, Duration::from_secs(60)).unwrap();
        let start = Instant::now();
        let mut at = |second: u64, in_flight| {
            let in_flight = Some(in_flight);
            let seen = Observation { length: Some(5), in_flight, age: Age::EMPTY, ..Observation::default() };
            desired.fold(&seen, &Totals::default(), start + Duration::from_secs(second))
        };
        let dips: Vec<_> = (0..60).map(|second| at(second, if second % 10 == 0 { 4 } else { 2 })).collect();
        assert_eq!(dips, [Some(4)].repeat(60));
        let after: Vec<_> = (60..95).map(|second| at(second, 2)).collect();
        assert_eq!((after[0], after[34]), (Some(4), Some(2)));
    }

    #[test]
    fn what_was_open_for_a_moment_is_open_for_a_while() {
        let (mut peak, start) = (Peak::new(Duration::from_secs(15)), Instant::now());
        let mut at = |second, high| peak.fold(high, start + Duration::from_secs(second));
        assert_eq!((at(0, Some(3)), at(1, None), at(2, Some(3))), (Some(3), None, None));
        assert_eq!((at(16, Some(2)), at(31, Some(1)), at(32, Some(2))), (None, Some(2), Some(2)));
        assert_eq!(at(300, Some(1)), Some(1));
    }

    fn any_known() -> impl Strategy<Value = Known> {
        (0_u64..2_000, 0_u64..100, 0.0..300.0_f64, 0.0..20.0_f64, 0.1..30.0_f64).prop_map(
            |(backlog, in_flight, age, rate, seconds)| Known {
                arrival_rate: Some(rate),
                means: Means { busy: Some(in_flight as f64), job_seconds: Some(seconds), job_seconds_at_least: None },
                ..known(backlog, in_flight, age)
            },
        )
    }

    proptest! {
        #[test]
        fn more_backlog_or_age_never_asks_for_fewer(known in any_known(), last in 0_u64..60, more in 0_u64..500, older in 0.0..200.0_f64, follows in any::<bool>()) {
            let policy = Policy { arrival_rate: Some(follows), ..policy() };
            let worse = Known { backlog: known.backlog + more, age: known.age + older, ..known };
            let (before, after) = (range(&known, &policy, true), range(&worse, &policy, true));
            prop_assert!(next(last, before) <= next(last, after));
        }

        #[test]
        fn looking_again_changes_nothing(known in any_known(), last in 0_u64..60) {
            let range = range(&known, &policy(), true);
            let once = next(last, range);
            prop_assert_eq!(next(once, range), once);
            prop_assert!((1..=50).contains(&once));
        }

        #[test]
        fn the_two_depths_are_thresholds(workers in 1_u64..50, backlog in 0_u64..1_200) {
            let policy = Policy { objective_age: None, ..policy() };
            let quiet = Known { arrival_rate: Some(0.0), ..known(backlog, 0, 0.0) };
            let wanted = next(workers, range(&quiet, &policy, true));
            if backlog > 20 * workers {
                prop_assert_eq!(wanted, backlog.div_ceil(20).min(50));
            } else if backlog < 5 * workers {
                prop_assert_eq!(wanted, (backlog / 5).max(1));
                prop_assert!(backlog <= 20 * wanted, "some would come back at once");
            } else {
                prop_assert_eq!(wanted, workers);
            }
        }

        #[test]
        fn noise_between_the_thresholds_moves_nothing(workers in 2_u64..50, backlogs in prop::collection::vec(0.0..1.0_f64, 2..50)) {
            // Between 5 and 20 for each, nothing else asked for.
            let policy = Policy { objective_age: None, ..policy() };
            let mut last = workers;
            for place in backlogs {
                let backlog = 5 * workers + (place * (15 * workers) as f64) as u64;
                let quiet = Known { arrival_rate: Some(0.0), ..known(backlog, 0, 0.0) };
                last = next(last, range(&quiet, &policy, true));
                prop_assert_eq!(last, workers);
            }
        }
    }
}
