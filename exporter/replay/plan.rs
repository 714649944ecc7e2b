//! How one worker is scaled: its triggers, as the chart and KEDA make metrics of them, and what the HPA is told.

use super::Micros;
use super::hpa::{Behavior, Reading};
use crate::spec::Policy;

/// One worker and how it is scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The fewest workers; with 0, KEDA takes the last one away and brings the first.
    pub min: i32,
    /// The most workers.
    pub max: i32,
    /// Jobs that a worker runs at once.
    pub slots: u64,
    /// How long a worker that is sent away may go on with its jobs.
    pub grace: Micros,
    /// No job should wait longer, in seconds.
    pub objective: f64,
    /// What is asked; none for a number of workers that never changes.
    pub triggers: Vec<Trigger>,
    /// What the HPA is told; `None` for its own defaults.
    pub behavior: Option<Behavior>,
    /// Who is asked.
    pub asked: Asked,
    /// How often KEDA looks while there are no workers, and how long nothing must have been there before they go.
    pub polling: Micros,
    /// See `polling`.
    pub cooldown: Micros,
    /// What the exporter goes by where it works out the number of workers itself.
    pub policy: Policy,
    /// Whether the queue's library counts its jobs; else the exporter counts what it sees.
    pub counted: bool,
    /// Spot nodes for all workers but the fewest, and how long one that is called back may still go on.
    pub spot_grace: Option<Micros>,
}

/// Who answers KEDA.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// Prometheus, of what it scraped last.
    Prometheus,
    /// The exporter, of its last poll; and KEDA reads it anew each time.
    Exporter,
    /// The exporter, which tells KEDA of the first job by itself.
    Pushing,
}

/// What is known where the question is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it was read.
    pub at: Micros,
    /// Jobs that wait.
    pub backlog: u64,
    /// Jobs in flight.
    pub in_flight: u64,
    /// Seconds that the oldest job has waited.
    pub age: f64,
    /// Jobs that come in a second, where the exporter knows.
    pub arrival_rate: Option<f64>,
    /// Workers that the exporter thinks are needed.
    pub desired: Option<u64>,
    /// Workers that are wanted at that moment: `kube_deployment_spec_replicas`.
    pub replicas: u64,
}

/// One trigger. The first five are the queries of `keda/chart/templates/_queries.tpl`, with `exact` where the HPA has no tolerance.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // the fields: each line says what they are
pub enum Trigger {
    /// Jobs that wait, so many for each worker.
    Backlog { depth: u64, exact: bool },
    /// Workers that stay: as many as there are while each has so many jobs waiting.
    Keep { depth: u64, exact: bool },
    /// Busy slots, of those that there are.
    InFlight { slots: u64 },
    /// How many times the objective the oldest has waited, times the workers, and no more than there are jobs, where those in flight are seen.
    Age { objective: f64, slots: Option<u64> },
    /// Slots that what comes in keeps busy.
    Rate { job_seconds: f64, slots: u64 },
    /// What the exporter says is needed.
    Desired,
    /// Jobs that wait, by KEDA's own `redis` trigger, or by the exporter's `backlog` over gRPC.
    Length { target: f64 },
    /// Jobs that wait and jobs in flight, so many for each worker.
    Jobs { target: f64 },
    /// The age of the oldest job, which is to be this: the HPA multiplies the ready workers by how far it is off.
    AgeValue { target: f64 },
    /// How busy the workers' processors are, in per cent of what they request; a busy slot takes `busy` of its part.
    Cpu { target: f64, busy: f64 },
}

/// As KEDA gives it to the HPA: thousandths, cut off.
fn milli(value: f64) -> i64 {
    (value * 1_000.0) as i64
}

impl Trigger {
    /// Whether KEDA takes it for a reason to have a worker at all: anything over 0. Processors alone bring none from 0.
    #[must_use]
    pub fn is_active(self, sample: &Sample, ready: i32) -> bool {
        match self.read(sample, ready, 0) {
            Some(Reading::Average { value, .. } | Reading::Value { value, .. }) => value > 0,
            Some(Reading::Utilization { .. }) | None => false,
        }
    }

    /// What the HPA gets to read; `None` where there is no answer.
    #[must_use]
    pub fn read(self, sample: &Sample, ready: i32, unready: i32) -> Option<Reading> {
        let (backlog, in_flight, there) = (sample.backlog as f64, sample.in_flight as f64, sample.replicas as f64);
        let average = |value: f64, target: f64| Some(Reading::Average { value: milli(value), target: milli(target) });
        match self {
            Self::Backlog { depth, exact } => {
                let (depth, most) = (depth as f64, there * depth as f64 * 1.1);
                let small_step = !exact && backlog <= most && backlog > there * depth;
                average(if small_step { most + 0.01 } else { backlog }, depth)
            }
            Self::Keep { depth, exact } => {
                let kept = (backlog / depth as f64).floor();
                let small_step = !exact && kept < there && kept >= there * 0.9;
                average(if small_step { there * 0.9 - 0.01 } else { kept.min(there) }, 1.0)
            }
            Self::InFlight { slots } => average(in_flight.min(slots as f64 * there.max(1.0)), slots as f64),
            Self::Age { objective, slots } => {
                let late = sample.age * there;
                let most = slots.map_or(late, |slots| (backlog + in_flight) * objective / slots as f64);
                average(late.min(most), objective)
            }
            Self::Rate { job_seconds, slots } => {
                average(sample.arrival_rate.unwrap_or(0.0) * job_seconds, slots as f64)
            }
            Self::Desired => average(sample.desired? as f64, 1.0),
            Self::Length { target } => average(backlog, target),
            Self::Jobs { target } => average(backlog + in_flight, target),
            Self::AgeValue { target } => Some(Reading::Value { value: milli(sample.age), target: milli(target) }),
            Self::Cpu { target, busy } => {
                let used = in_flight / f64::from(ready.max(1)) * busy;
                // The controller reckons in whole per cent.
                (ready > 0).then(|| Reading::Utilization { ratio: (used * 100.0).floor() / target, unready })
            }
        }
    }
}
