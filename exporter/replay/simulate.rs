//! Plays a workload against a plan, event by event: jobs come, workers take the oldest, the exporter polls, Prometheus scrapes, KEDA and
//! the HPA decide, pods start and go.
//!
//! What it takes from where:
//! - a worker takes the oldest job as soon as one of its slots is free; the slot that waited longest gets it (Redis serves blocked clients
//!   in the order in which they came);
//! - the exporter's rates and its number of workers are its own code: [`Flow`] and [`Desired`], fed by what a poll would see. On a list
//!   without counters a poll counts exactly while the newest job of the last one still waits, see [`crate::fifo`];
//! - the HPA is [`Hpa`]; at 0 workers KEDA's loop takes over: `RequestScale` in its `pkg/scaling/executor/scale_scaledobjects.go`;
//! - fewer workers: those that are not ready go first, then those that came last (`getPodsToDelete` in Kubernetes'
//!   `pkg/controller/replicaset/replica_set.go`, which goes by when they became ready; its other criteria are equal here). One that works ends its jobs within its grace period
//!   and is paid for until then; what it can't end is killed, put back at the old end, and done again from the start;
//! - a pod takes a time from a range to become ready. All that is left over at the end counts as not in time.
//!
//! Cost: about 0.07 us a job. Memory: 16 bytes a job.

use super::hpa::{Hpa, Scale};
use super::outcome::{Moment, Outcome};
use super::plan::{Asked, Plan, Sample, Trigger};
use super::workload::Workload;
use super::{Micros, SECOND, micros, seconds};
use crate::curve::Age;
use crate::desired::Desired;
use crate::flow::{Count, Counts, Flow};
use crate::layout::Observation;
use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

/// What is around a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Around {
    /// `POLL_INTERVAL`.
    pub poll: Micros,
    /// How often Prometheus scrapes.
    pub scrape: Micros,
    /// How much older than that what the HPA reads is.
    pub lag: Micros,
    /// How often the HPA looks: `--horizontal-pod-autoscaler-sync-period`.
    pub sync: Micros,
    /// `RATE_WINDOW`.
    pub rate_window: Micros,
    /// The least and the most time from the creation of a pod until it takes jobs.
    pub start: (Micros, Micros),
    /// How often a spot node is called back, on average over a node's hours; 0 for never.
    pub losses_per_hour: f64,
    /// Chooses starts, losses and phases.
    pub seed: u64,
    /// How many moments are kept to draw.
    pub moments: u64,
}

impl Default for Around {
    fn default() -> Self {
        Self {
            poll: SECOND,
            scrape: 5 * SECOND,
            lag: 0,
            sync: 15 * SECOND,
            rate_window: 60 * SECOND,
            start: (20 * SECOND, 60 * SECOND),
            losses_per_hour: 0.0,
            seed: 1,
            moments: 0,
        }
    }
}

/// From a first job to KEDA's knowing of it, where the exporter pushes: as measured in the cluster tests.
const PUSH: Micros = SECOND / 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Starting,
    Ready,
    /// Takes no more jobs.
    Leaving,
    Gone,
}

struct Pod {
    born: Micros,
    state: State,
    spot: bool,
    /// Jobs, by their place in the workload, and when each will be done.
    running: Vec<(usize, Micros)>,
}

/// What is due at a moment; at the same moment in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Done { pod: usize, job: usize },
    Ready { pod: usize },
    Killed { pod: usize },
    Lost { pod: usize },
    Woken,
}

struct Run<'a> {
    plan: &'a Plan,
    around: &'a Around,
    jobs: &'a [super::workload::Job],
    rng: Rng,
    now: Micros,
    /// Jobs that have come, and of these the first that was not taken yet.
    come: usize,
    taken: usize,
    /// Jobs that were cut off.
    returned: VecDeque<usize>,
    in_flight: u64,
    pods: Vec<Pod>,
    /// Those that are not gone, in the order in which they came.
    alive: Vec<usize>,
    /// Free slots, that which waits longest first; some may be of pods that take no more jobs.
    idle: VecDeque<usize>,
    events: BinaryHeap<Reverse<(Micros, Event)>>,
    spec: i32,
    last_direction: i32,
    last_active: Micros,
    eyes: Eyes,
    hpa: Hpa,
    outcome: Outcome,
}

/// The exporter, and Prometheus where it is asked.
struct Eyes {
    began: Instant,
    flow: Flow,
    desired: Option<Desired>,
    /// What had come and was taken at the last poll, and whether its newest job waited then.
    last: Option<(usize, usize)>,
    latest: Sample,
    /// What may still be read, the oldest first.
    samples: VecDeque<Sample>,
}

/// Plays it. The same arguments give the same outcome.
#[must_use]
pub fn simulate(plan: &Plan, around: &Around, workload: &Workload) -> Outcome {
    let mut rng = Rng::with_seed(around.seed);
    let window = Duration::from_micros(around.rate_window);
    let asks_exporter = plan.triggers.contains(&Trigger::Desired);
    let eyes = Eyes {
        began: Instant::now(),
        flow: Flow::new(window),
        desired: asks_exporter.then(|| Desired::new(plan.policy, window)).flatten(),
        last: None,
        latest: Sample::default(),
        samples: VecDeque::new(),
    };
    let phase = |rng: &mut Rng, period: Micros| rng.u64(0..period.max(1));
    let mut next = [
        (phase(&mut rng, around.poll), around.poll, Tick::Poll),
        (phase(&mut rng, around.scrape), around.scrape, Tick::Scrape),
        (phase(&mut rng, plan.polling), plan.polling, Tick::Keda),
        (phase(&mut rng, around.sync), around.sync, Tick::Sync),
    ];
    let mut run = Run {
        plan,
        around,
        jobs: &workload.jobs,
        rng,
        now: 0,
        come: 0,
        taken: 0,
        returned: VecDeque::new(),
        in_flight: 0,
        pods: Vec::new(),
        alive: Vec::new(),
        idle: VecDeque::new(),
        events: BinaryHeap::new(),
        spec: plan.min,
        last_direction: 0,
        last_active: 0,
        eyes,
        // KEDA gives its HPA one worker at least
        hpa: Hpa::new(plan.min.max(1), plan.max, plan.behavior.clone()),
        outcome: Outcome { jobs: workload.jobs.len() as u64, ..Outcome::default() },
    };
    let end = workload.length + micros(plan.objective);
    let draw = end.checked_div(around.moments).unwrap_or(u64::MAX).max(1);
    let mut next_draw = if around.moments > 0 { 0 } else { u64::MAX };
    run.fill(true);
    loop {
        let job = run.jobs.get(run.come).map_or(u64::MAX, |job| job.at);
        let event = run.events.peek().map_or(u64::MAX, |Reverse((at, _))| *at);
        let tick = next.iter().map(|(at, ..)| *at).min().unwrap_or(u64::MAX);
        run.now = job.min(event).min(tick).min(next_draw);
        if run.now > end {
            break;
        }
        if event == run.now {
            run.happen();
        } else if job == run.now {
            run.arrive();
        } else if tick == run.now {
            for (at, period, tick) in &mut next {
                if *at == run.now {
                    *at += (*period).max(1);
                    run.tick(*tick);
                }
            }
        } else {
            next_draw += draw;
            run.draw();
        }
    }
    run.now = end;
    run.finish()
}

#[derive(Clone, Copy)]
enum Tick {
    Poll,
    Scrape,
    Keda,
    Sync,
}

impl Run<'_> {
    fn tick(&mut self, tick: Tick) {
        match tick {
            Tick::Poll => self.poll(),
            Tick::Scrape if self.plan.asked == Asked::Prometheus && self.is_scaled() => {
                let replicas = self.spec.unsigned_abs().into();
                self.eyes.samples.push_back(Sample { at: self.now, replicas, ..self.eyes.latest });
            }
            Tick::Scrape => {}
            Tick::Keda => self.keda(),
            Tick::Sync => self.sync(),
        }
    }

    fn is_scaled(&self) -> bool {
        !self.plan.triggers.is_empty()
    }

    fn waiting(&self) -> u64 {
        (self.come - self.taken + self.returned.len()) as u64
    }

    fn age(&self) -> f64 {
        let oldest = self.returned.front().copied().or((self.taken < self.come).then_some(self.taken));
        oldest.and_then(|job| self.jobs.get(job)).map_or(0.0, |job| seconds(self.now - job.at))
    }

    fn arrive(&mut self) {
        if self.plan.asked == Asked::Pushing && self.spec == 0 && self.waiting() == 0 {
            self.events.push(Reverse((self.now + PUSH, Event::Woken)));
        }
        self.come += 1;
        self.take();
    }

    /// Free slots take what waits.
    fn take(&mut self) {
        while self.taken < self.come || !self.returned.is_empty() {
            let Some(id) = self.idle.pop_front() else { return };
            let Some(pod) = self.pods.get_mut(id).filter(|pod| pod.state == State::Ready) else { continue };
            let again = self.returned.pop_front();
            let place = again.unwrap_or(self.taken);
            let Some(job) = self.jobs.get(place) else { return };
            if again.is_none() {
                self.taken += 1;
                let wait = self.now - job.at;
                self.outcome.waits.add(wait);
                self.outcome.in_time += u64::from(seconds(wait) <= self.plan.objective);
            }
            let end = self.now + job.takes;
            pod.running.push((place, end));
            self.in_flight += 1;
            self.outcome.busy_seconds += seconds(job.takes);
            self.events.push(Reverse((end, Event::Done { pod: id, job: place })));
        }
    }

    fn happen(&mut self) {
        let Some(Reverse((_, event))) = self.events.pop() else { return };
        match event {
            Event::Done { pod: id, job } => {
                let Some(pod) = self.pods.get_mut(id) else { return };
                // It may have been cut off.
                let Some(place) = pod.running.iter().position(|(running, _)| *running == job) else { return };
                pod.running.swap_remove(place);
                self.in_flight -= 1;
                match pod.state {
                    State::Ready => {
                        self.idle.push_back(id);
                        self.take();
                    }
                    State::Leaving if pod.running.is_empty() => self.gone(id),
                    _ => {}
                }
            }
            Event::Ready { pod: id } => {
                let Some(pod) = self.pods.get_mut(id).filter(|pod| pod.state == State::Starting) else { return };
                pod.state = State::Ready;
                self.idle.extend((0..self.plan.slots).map(|_| id));
                self.take();
            }
            Event::Killed { pod: id } => {
                let Some(pod) = self.pods.get_mut(id).filter(|pod| pod.state == State::Leaving) else { return };
                for (place, end) in std::mem::take(&mut pod.running) {
                    self.in_flight -= 1;
                    self.outcome.busy_seconds -= seconds(end - self.now);
                    self.outcome.killed += 1;
                    self.returned.push_back(place);
                }
                self.gone(id);
                self.take();
            }
            Event::Lost { pod: id } => {
                let there = self.pods.get(id).is_some_and(|pod| matches!(pod.state, State::Starting | State::Ready));
                if there {
                    self.leave(id, self.plan.spot_grace.unwrap_or(0));
                    // Its Deployment has another made.
                    self.fill(false);
                }
            }
            Event::Woken => self.keda(),
        }
    }

    fn gone(&mut self, id: usize) {
        self.alive.retain(|alive| *alive != id);
        if let Some(pod) = self.pods.get_mut(id) {
            pod.state = State::Gone;
            let paid = seconds(self.now - pod.born);
            self.outcome.worker_seconds += paid;
            self.outcome.spot_seconds += if pod.spot { paid } else { 0.0 };
        }
    }

    fn leave(&mut self, id: usize, grace: Micros) {
        let Some(pod) = self.pods.get_mut(id) else { return };
        if pod.running.is_empty() {
            self.gone(id);
        } else {
            pod.state = State::Leaving;
            self.events.push(Reverse((self.now + grace, Event::Killed { pod: id })));
        }
    }

    fn count(&self, state: State) -> i32 {
        self.alive.iter().filter(|id| self.pods.get(**id).is_some_and(|pod| pod.state == state)).count() as i32
    }

    /// As many pods as are wanted; `warm` ones are ready at once.
    fn fill(&mut self, warm: bool) {
        let there = self.count(State::Starting) + self.count(State::Ready);
        for _ in there..self.spec {
            let id = self.pods.len();
            let floor = self.plan.min.max(0) as usize;
            let others = self.alive.iter().filter(|id| self.pods.get(**id).is_some_and(|pod| !pod.spot)).count();
            let spot = self.plan.spot_grace.is_some() && others >= floor;
            self.pods.push(Pod { born: self.now, state: State::Starting, spot, running: Vec::new() });
            self.alive.push(id);
            let (least, most) = self.around.start;
            let after = if warm { 0 } else { self.rng.u64(least..=most.max(least)) };
            self.events.push(Reverse((self.now + after, Event::Ready { pod: id })));
            if spot && self.around.losses_per_hour > 0.0 {
                let hours = -(1.0 - self.rng.f64()).ln() / self.around.losses_per_hour;
                self.events.push(Reverse((self.now + micros(hours * 3_600.0), Event::Lost { pod: id })));
            }
        }
    }

    fn scale(&mut self, wanted: i32) {
        let direction = (wanted - self.spec).signum();
        if direction == 0 {
            return;
        }
        self.outcome.changes += 1;
        self.outcome.reversals += u64::from(self.last_direction == -direction);
        self.last_direction = direction;
        self.spec = wanted;
        for state in [State::Starting, State::Ready] {
            // The youngest first; workers of the floor are in a Deployment of their own.
            for id in self.alive.clone().into_iter().rev() {
                let there = self.count(State::Starting) + self.count(State::Ready);
                let fits = self
                    .pods
                    .get(id)
                    .is_some_and(|pod| pod.state == state && (pod.spot || self.plan.spot_grace.is_none()));
                if fits && there > wanted {
                    self.leave(id, self.plan.spot_grace.unwrap_or(self.plan.grace));
                }
            }
        }
        self.fill(false);
    }

    /// What the exporter sees now.
    fn poll(&mut self) {
        let (length, age) = (self.waiting(), self.age());
        let counts = match self.eyes.last {
            None => Counts::default(),
            Some((come, taken)) => {
                let step = |now: usize, before: usize| Count::Step((now - before) as i64);
                let gap = !(self.plan.counted || come > taken && self.taken < come);
                // What came and went between two polls is not seen on a list.
                let least = if gap { self.waiting() as usize } else { self.come - come };
                let left = if gap { come - taken } else { self.taken - taken };
                Counts { arrivals: step(least, 0), processed: step(left, 0), gap, ..Counts::default() }
            }
        };
        let seen = Observation {
            length: Some(length),
            in_flight: Some(self.in_flight),
            age: Age::Known { seconds: age, error: 0.0 },
            counts,
            ..Observation::default()
        };
        let eyes = &mut self.eyes;
        let now = eyes.began + Duration::from_micros(self.now);
        let totals = eyes.flow.fold(&counts, now);
        let desired = eyes.desired.as_mut().and_then(|desired| desired.fold(&seen, &totals, now));
        eyes.last = Some((self.come, self.taken));
        let (in_flight, arrival_rate) = (self.in_flight, totals.arrival_rate);
        eyes.latest = Sample { at: self.now, backlog: length, in_flight, age, arrival_rate, desired, replicas: 0 };
        if self.plan.asked != Asked::Prometheus && !self.plan.triggers.is_empty() {
            eyes.samples.push_back(eyes.latest);
        }
    }

    /// What is answered now.
    fn sample(&mut self) -> Option<Sample> {
        let newest = self.now.checked_sub(self.around.lag)?;
        let samples = &mut self.eyes.samples;
        while samples.get(1).is_some_and(|sample| sample.at <= newest) {
            samples.pop_front();
        }
        samples.front().copied().filter(|sample| sample.at <= newest)
    }

    fn sync(&mut self) {
        if self.plan.triggers.is_empty() {
            return;
        }
        let sample = self.sample();
        let (starting, ready) = (self.count(State::Starting), self.count(State::Ready));
        let read = |trigger: &Trigger| sample.and_then(|sample| trigger.read(&sample, ready, starting));
        let metrics: Vec<_> = self.plan.triggers.iter().map(read).collect();
        let scale = Scale { spec: self.spec, status: starting + ready, ready };
        let wanted = self.hpa.sync(self.now, scale, &metrics);
        self.scale(wanted);
    }

    /// From none to one worker and back, which is KEDA's own.
    fn keda(&mut self) {
        if self.plan.min > 0 || self.plan.triggers.is_empty() {
            return;
        }
        // What is pushed is as new as can be.
        let pushed = self.plan.asked == Asked::Pushing && self.waiting() > 0;
        let (ready, sample) = (self.count(State::Ready), self.sample());
        let asks = |sample: &Sample| self.plan.triggers.iter().any(|trigger| trigger.is_active(sample, ready));
        let active = pushed || sample.as_ref().is_some_and(asks);
        if active {
            self.last_active = self.now;
            if self.spec == 0 {
                self.scale(1);
            }
        } else if self.spec > 0 && self.now > self.last_active + self.plan.cooldown {
            self.scale(0);
        }
    }

    fn draw(&mut self) {
        let (time, backlog, age) = (seconds(self.now), self.waiting(), self.age());
        let (wanted, ready) = (self.spec, self.count(State::Ready));
        self.outcome.moments.push(Moment { time, backlog, age, wanted, ready });
    }

    fn finish(mut self) -> Outcome {
        for id in self.alive.clone() {
            // What it would still do is not counted, nor paid for.
            let left = self.pods.get(id).map_or(0, |pod| pod.running.iter().map(|(_, end)| end - self.now).sum());
            self.outcome.busy_seconds -= seconds(left);
            self.gone(id);
        }
        for job in self.jobs.get(self.taken..).unwrap_or_default() {
            self.outcome.waits.add(self.now - job.at);
        }
        self.outcome.hours = seconds(self.now) / 3_600.0;
        self.outcome
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpa::{Amount, Behavior, Rules, Select, Step};
    use super::super::workload::{Job, Scale as Load, Shape, Workload};
    use super::*;
    use crate::spec::Policy;

    fn fixed(workers: i32) -> Plan {
        Plan {
            min: workers,
            max: workers,
            slots: 1,
            grace: 60 * SECOND,
            objective: 60.0,
            triggers: Vec::new(),
            behavior: None,
            asked: Asked::Prometheus,
            polling: 10 * SECOND,
            cooldown: 300 * SECOND,
            policy: Policy::default(),
            counted: true,
            spot_grace: None,
        }
    }

    fn burst(jobs: u64, takes: u64) -> Workload {
        let jobs = (0..jobs).map(|_| Job { at: 100 * SECOND, takes: takes * SECOND }).collect();
        Workload { jobs, length: 3_600 * SECOND }
    }

    #[test]
    fn waits_are_those_of_queueing_theory() {
        // M/M/c: P(wait > t) = C(c, a) exp(-(c - a) t / S), with Erlang's C(5, 4) = 0.5541.
        let load = Load { job_seconds: 2.0, slots: 5.0, objective: 60.0, seconds: 400_000.0 };
        // 40 % of ten slots are 80 % of five.
        let workload = Shape::Flat.workload(Load { slots: 10.0, ..load }, 3);
        for within in [0.001, 2.0, 5.0] {
            let plan = Plan { objective: within, ..fixed(5) };
            let late = 1.0 - simulate(&plan, &Around::default(), &workload).share_in_time();
            let expected = 0.5541 * (-within / 2.0_f64).exp();
            assert!((late / expected - 1.0).abs() < 0.05, "over {within} s: {late} is not {expected}");
        }
    }

    #[test]
    fn a_burst_on_two_workers() {
        let outcome = simulate(&fixed(2), &Around::default(), &burst(10, 10));
        // They wait 0, 0, 10, 10 ... 40 s.
        assert_eq!((outcome.jobs, outcome.in_time, outcome.killed), (10, 10, 0));
        assert!((outcome.waits.longest() - 40.0).abs() < 1e-6);
        assert!((outcome.busy_seconds - 100.0).abs() < 1e-6);
        assert!((outcome.worker_seconds - 2.0 * 3_660.0).abs() < 1e-6);
    }

    fn behavior(window: Micros) -> Behavior {
        let step = Step { amount: Amount::Percent(100), period: 15 * SECOND };
        let rules = Rules { window: 0, select: Select::Max, steps: vec![step], tolerance: 0.0 };
        Behavior { up: rules.clone(), down: Rules { window, ..rules } }
    }

    fn scaled(triggers: Vec<Trigger>) -> Plan {
        Plan { min: 1, max: 8, triggers, behavior: Some(behavior(30 * SECOND)), ..fixed(1) }
    }

    #[test]
    fn workers_come_for_a_backlog_and_go_after_it() {
        let around = Around { moments: 1_000, ..Around::default() };
        let outcome = simulate(&scaled(vec![Trigger::Length { target: 5.0 }]), &around, &burst(80, 10));
        assert_eq!((outcome.waits.longest() < 800.0, outcome.killed), (true, 0));
        assert_eq!(outcome.moments.iter().map(|moment| moment.wanted).max(), Some(8));
        assert_eq!(outcome.moments.last().map(|moment| moment.wanted), Some(1));
    }

    #[test]
    fn long_jobs_are_cut_off_where_only_the_length_counts() {
        let plan = Plan { grace: 30 * SECOND, ..scaled(vec![Trigger::Length { target: 1.0 }]) };
        let outcome = simulate(&plan, &Around::default(), &burst(8, 600));
        assert!(outcome.killed > 0);
        let keeps = Plan { triggers: [plan.triggers.clone(), vec![Trigger::InFlight { slots: 1 }]].concat(), ..plan };
        assert_eq!(simulate(&keeps, &Around::default(), &burst(8, 600)).killed, 0);
    }

    #[test]
    fn nothing_is_there_while_there_is_nothing_to_do() {
        let plan = Plan { min: 0, asked: Asked::Exporter, ..scaled(vec![Trigger::Jobs { target: 5.0 }]) };
        let outcome = simulate(&plan, &Around::default(), &burst(5, 10));
        assert_eq!(outcome.killed, 0);
        // KEDA's poll, the start of a pod and the cooldown, of an hour
        assert!(outcome.worker_seconds < 3.0 * 500.0, "{}", outcome.worker_seconds);
        let pushed = simulate(
            &Plan { asked: Asked::Pushing, ..plan },
            &Around { start: (0, 0), ..Around::default() },
            &burst(1, 10),
        );
        assert!(pushed.waits.longest() < 0.06, "{}", pushed.waits.longest());
    }

    #[test]
    fn spot_nodes_are_called_back_and_replaced() {
        let plan =
            Plan { min: 2, max: 8, spot_grace: Some(30 * SECOND), ..scaled(vec![Trigger::Jobs { target: 2.0 }]) };
        let around = Around { losses_per_hour: 20.0, ..Around::default() };
        let outcome = simulate(&plan, &around, &burst(400, 60));
        assert!(outcome.killed > 0 && outcome.spot_seconds > 0.0);
        // Each job that was cut off was done again.
        assert!(outcome.busy_seconds >= 400.0 * 60.0, "{}", outcome.busy_seconds);
    }

    #[test]
    fn the_exporters_own_number_is_replayed() {
        let policy = Policy {
            objective_age: Some(Duration::from_secs(180)),
            scale_up_depth: Some(20),
            scale_down_depth: Some(5),
            min_workers: Some(1),
            max_workers: Some(8),
            ..Policy::default()
        };
        let plan = Plan { policy, asked: Asked::Exporter, objective: 180.0, ..scaled(vec![Trigger::Desired]) };
        let load = Load { job_seconds: 2.0, slots: 8.0, objective: 180.0, seconds: 3_600.0 };
        let outcome = simulate(&plan, &Around { moments: 100, ..Around::default() }, &Shape::Flat.workload(load, 2));
        // 40 % of eight are 3.2 workers.
        let wanted: Vec<i32> = outcome.moments.iter().take(97).skip(20).map(|moment| moment.wanted).collect();
        assert!(wanted.iter().all(|count| (3..=6).contains(count)), "{wanted:?}");
        assert!(outcome.share_in_time() > 0.99);
    }
}
