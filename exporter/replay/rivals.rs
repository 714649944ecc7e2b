//! Other ways to scale the same worker, to hold a plan against.

use super::hpa::{Amount, Behavior, Rules, Select, Step, TOLERANCE};
use super::plan::{Asked, Plan, Trigger};
use super::{Micros, SECOND};

/// One of them.
#[derive(Clone, Debug)]
pub struct Rival {
    /// What it is called in tables.
    pub name: &'static str,
    /// How it scales.
    pub plan: Plan,
}

/// What the API server fills into a behavior that says nothing: four pods or 100 % every 15 s, down after 300 s.
#[must_use]
pub fn default_behavior() -> Behavior {
    let step = |amount| Step { amount, period: 15 * SECOND };
    let rules = |window: Micros, steps| Rules { window, select: Select::Max, steps, tolerance: TOLERANCE };
    Behavior {
        up: rules(0, vec![step(Amount::Pods(4)), step(Amount::Percent(100))]),
        down: rules(300 * SECOND, vec![step(Amount::Percent(100))]),
    }
}

/// The rivals of a plan. A busy worker uses `busy_cpu` of the CPU that it requests; `job_seconds` is the mean of what a job takes.
#[must_use]
pub fn rivals(plan: &Plan, job_seconds: f64, busy_cpu: f64) -> Vec<Rival> {
    let with = |name, triggers: Vec<Trigger>| Rival {
        name,
        plan: Plan {
            triggers,
            behavior: Some(default_behavior()),
            // KEDA reads Redis, or Kubernetes its own metrics, at each look
            asked: Asked::Exporter,
            spot_grace: None,
            ..plan.clone()
        },
    };
    let slots = plan.slots as f64;
    let per_worker = plan.objective / job_seconds * slots;
    let mut rivals = vec![
        with("KEDA redis, 5 a worker", vec![Trigger::Length { target: 5.0 }]),
        with("AWS backlog a worker", vec![Trigger::Length { target: per_worker.max(1.0) }]),
        with("age of the oldest", vec![Trigger::AgeValue { target: plan.objective / 2.0 }]),
        with("CPU 70 %", vec![Trigger::Cpu { target: 70.0, busy: busy_cpu / slots }]),
    ];
    let most = Plan { min: plan.max, ..plan.clone() };
    rivals.push(Rival { name: "fixed at max", plan: Plan { triggers: Vec::new(), spot_grace: None, ..most } });
    rivals
}
