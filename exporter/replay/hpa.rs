//! The Horizontal Pod Autoscaler, as its controller decides at each sync.
//!
//! Source: Kubernetes 1.35, `pkg/controller/podautoscaler/horizontal.go` (`reconcileAutoscaler`, `computeReplicasForMetrics`,
//! `stabilizeRecommendationWithBehaviors`, `convertDesiredReplicasWithBehaviorRate`, and `stabilizeRecommendation` with
//! `convertDesiredReplicasWithRules` where a HPA has no behavior) and `replica_calculator.go`. `tests/hpa.rs` holds it to series that the
//! controller itself gave.

use super::Micros;

/// What a HPA does unless told otherwise.
pub const TOLERANCE: f64 = 0.1;

/// Which of several policies counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Select {
    /// The one that allows most.
    Max,
    /// The one that allows least.
    Min,
    /// None: no change in this direction.
    Disabled,
}

/// How much may change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many per cent of what there was at the start of the period.
    Percent(i32),
    /// So many pods.
    Pods(i32),
}

/// How much may change in one direction in a period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// How much.
    pub amount: Amount,
    /// In what time.
    pub period: Micros,
}

/// One direction of a behavior.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// For so long a wish must have been there, or a stronger one.
    pub window: Micros,
    /// Which of the steps counts.
    pub select: Select,
    /// All of them.
    pub steps: Vec<Step>,
    /// A ratio that is off by no more than this changes nothing.
    pub tolerance: f64,
}

/// Both directions.
#[derive(Clone, Debug, PartialEq)]
pub struct Behavior {
    /// More.
    pub up: Rules,
    /// Fewer.
    pub down: Rules,
}

/// One metric as the HPA reads it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the fields: each line says what they are
pub enum Reading {
    /// A total and what each worker is to have of it, in thousandths.
    Average { value: i64, target: i64 },
    /// A value and what it is to be, in thousandths.
    Value { value: i64, target: i64 },
    /// How busy the ready pods are, in what share of the target. Those that are not ready count as idle when more are wanted.
    Utilization { ratio: f64, unready: i32 },
}

/// How many there are.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Wanted.
    pub spec: i32,
    /// There, without those that are going.
    pub status: i32,
    /// Of these, ready.
    pub ready: i32,
}

/// One HPA with its memory.
#[derive(Debug)]
pub struct Hpa {
    min: i32,
    max: i32,
    behavior: Option<Behavior>,
    recommendations: Vec<(Micros, i32)>,
    /// When how many came, and when how many went, by its own doing.
    added: Vec<Event>,
    removed: Vec<Event>,
}

/// One change of the number of replicas.
#[derive(Clone, Copy, Debug)]
struct Event {
    at: Micros,
    change: i32,
    /// Its place may be taken by the next.
    outdated: bool,
}

/// `--horizontal-pod-autoscaler-downscale-stabilization`, for a HPA without a behavior.
const DOWNSCALE_STABILIZATION: Micros = 300 * super::SECOND;

impl Hpa {
    /// One that has decided nothing yet.
    #[must_use]
    pub fn new(min: i32, max: i32, behavior: Option<Behavior>) -> Self {
        Self { min, max, behavior, recommendations: Vec::new(), added: Vec::new(), removed: Vec::new() }
    }

    /// Decides how many are wanted from now on. `None` is a metric that could not be read.
    pub fn sync(&mut self, now: Micros, scale: Scale, metrics: &[Option<Reading>]) -> i32 {
        let spec = scale.spec;
        if self.recommendations.is_empty() {
            self.recommendations.push((now, spec));
        }
        let desired = if spec == 0 && self.min != 0 {
            return 0;
        } else if spec > self.max {
            self.max
        } else if spec < self.min {
            self.min
        } else {
            let Some(proposed) = self.propose(scale, metrics) else { return spec };
            match self.behavior.take() {
                Some(behavior) => {
                    let stabilized = self.stabilize(now, spec, proposed, &behavior);
                    let limited = self.limit(now, spec, stabilized, &behavior);
                    self.behavior = Some(behavior);
                    limited
                }
                None => self.without_behavior(now, spec, proposed),
            }
        };
        if desired != spec {
            self.remember(now, desired - spec);
        }
        desired
    }

    /// The largest proposal. One that is missing stands in the way of fewer, and all missing in the way of any.
    fn propose(&self, scale: Scale, metrics: &[Option<Reading>]) -> Option<i32> {
        let (up, down) = self
            .behavior
            .as_ref()
            .map_or((TOLERANCE, TOLERANCE), |behavior| (behavior.up.tolerance, behavior.down.tolerance));
        let proposals = metrics.iter().flatten().map(|reading| proposal(*reading, scale, up, down));
        let most = proposals.max()?;
        let missing = metrics.iter().any(Option::is_none);
        if missing && most < scale.spec { None } else { Some(most) }
    }

    fn stabilize(&mut self, now: Micros, spec: i32, proposed: i32, behavior: &Behavior) -> i32 {
        let recent = |window: Micros| {
            self.recommendations.iter().filter(move |(at, _)| at + window > now).map(|(_, count)| *count)
        };
        let least = recent(behavior.up.window).fold(proposed, i32::min);
        let most = recent(behavior.down.window).fold(proposed, i32::max);
        let kept = behavior.up.window.max(behavior.down.window);
        self.recommendations.retain(|(at, _)| at + kept >= now);
        self.recommendations.push((now, proposed));
        // As two steps: where the windows contradict each other, that for fewer wins.
        spec.max(least).min(most)
    }

    fn limit(&self, now: Micros, spec: i32, desired: i32, behavior: &Behavior) -> i32 {
        if desired > spec {
            let most = self.farthest(now, spec, &behavior.up, 1).max(spec);
            desired.min(self.max.min(most))
        } else if desired < spec {
            let least = self.farthest(now, spec, &behavior.down, -1).min(spec);
            desired.max(self.min.max(least))
        } else {
            desired
        }
    }

    /// How far one direction's steps allow to go from `spec`.
    fn farthest(&self, now: Micros, spec: i32, rules: &Rules, direction: i32) -> i32 {
        let within = |events: &[Event], period: Micros| -> i32 {
            events.iter().filter(|event| event.at + period > now).map(|event| event.change).sum()
        };
        let ends = rules.steps.iter().map(|step| {
            let start = spec - within(&self.added, step.period) + within(&self.removed, step.period);
            match step.amount {
                Amount::Pods(pods) => start + direction * pods,
                Amount::Percent(percent) => {
                    let end = f64::from(start) * (1.0 + f64::from(direction) * f64::from(percent) / 100.0);
                    // Rounded away from what there is on the way up, towards 0 on the way down.
                    (if direction > 0 { end.ceil() } else { end.trunc() }) as i32
                }
            }
        });
        let boldest = match (rules.select, direction > 0) {
            (Select::Disabled, _) => None,
            (Select::Max, true) | (Select::Min, false) => ends.max(),
            (Select::Max, false) | (Select::Min, true) => ends.min(),
        };
        boldest.unwrap_or(spec)
    }

    fn without_behavior(&mut self, now: Micros, spec: i32, proposed: i32) -> i32 {
        let recent = self.recommendations.iter().filter(|(at, _)| at + DOWNSCALE_STABILIZATION >= now);
        let most = recent.map(|(_, count)| *count).fold(proposed, i32::max);
        self.recommendations.retain(|(at, _)| at + DOWNSCALE_STABILIZATION >= now);
        self.recommendations.push((now, proposed));
        most.max(self.min).min(self.max.min((2 * spec).max(4)))
    }

    fn remember(&mut self, now: Micros, change: i32) {
        let Some(behavior) = &self.behavior else { return };
        let (events, rules) =
            if change > 0 { (&mut self.added, &behavior.up) } else { (&mut self.removed, &behavior.down) };
        // One that is older than this direction's longest period gives way, though the other's may be longer: `storeScaleEvent`.
        let longest = rules.steps.iter().map(|step| step.period).max().unwrap_or(0);
        for event in events.iter_mut().filter(|event| event.at + longest < now) {
            event.outdated = true;
        }
        let event = Event { at: now, change: change.abs(), outdated: false };
        match events.iter_mut().rfind(|event| event.outdated) {
            Some(old) => *old = event,
            None => events.push(event),
        }
    }
}

/// What one metric asks for.
fn proposal(reading: Reading, scale: Scale, up: f64, down: f64) -> i32 {
    let within = |ratio: f64| 1.0 - down <= ratio && ratio <= 1.0 + up;
    let whole = |count: f64| count.ceil().min(f64::from(i32::MAX)) as i32;
    match reading {
        Reading::Average { value, target } => {
            let (value, target) = (value as f64, target as f64);
            let ratio = value / (target * f64::from(scale.status));
            if within(ratio) { scale.status } else { whole(value / target) }
        }
        Reading::Value { value, target } => {
            let ratio = value as f64 / target as f64;
            if scale.spec == 0 {
                whole(ratio)
            } else if within(ratio) {
                scale.spec
            } else {
                whole(ratio * f64::from(scale.ready))
            }
        }
        Reading::Utilization { ratio, unready } => {
            if unready == 0 || ratio <= 1.0 {
                return if within(ratio) { scale.spec } else { whole(ratio * f64::from(scale.ready)) };
            }
            let all = scale.ready + unready;
            let diluted = ratio * f64::from(scale.ready) / f64::from(all);
            // Diluted to the other side of 1: no change is better than one the wrong way.
            if within(diluted) || diluted < 1.0 { scale.spec } else { whole(diluted * f64::from(all)).max(scale.spec) }
        }
    }
}
