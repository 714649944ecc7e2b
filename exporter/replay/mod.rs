//! What a workload would have cost under a policy, in money and in late jobs: a discrete-event model of queue, workers, exporter,
//! Prometheus, KEDA and HPA.
//!
//! Data flows one way: the chart's [`table`] gives each worker's [`plan`], a [`workload`] gives its jobs, [`simulate`] plays the one
//! against the other and gives an [`outcome`]; [`bound`] says what any plan would have cost at least; [`rivals`] are other ways
//! to scale the same worker; [`tune`] looks for a better row; [`report`] and [`page`] show all of it. Nothing here runs while the
//! exporter serves.

pub mod advice;
pub mod bound;
pub mod command;
pub mod csv;
pub mod history;
pub mod hpa;
pub mod options;
pub mod outcome;
pub mod page;
pub mod plan;
pub mod report;
pub mod rivals;
pub mod simulate;
pub mod table;
pub mod tune;
pub mod workload;

/// Microseconds since a replay began.
pub type Micros = u64;

/// One second.
pub const SECOND: Micros = 1_000_000;

/// In microseconds; 0 where it is none.
#[must_use]
pub fn micros(seconds: f64) -> Micros {
    // A float that is below 0 or no number becomes 0.
    (seconds * SECOND as f64).round() as Micros
}

/// In seconds.
#[must_use]
pub fn seconds(micros: Micros) -> f64 {
    micros as f64 / SECOND as f64
}
