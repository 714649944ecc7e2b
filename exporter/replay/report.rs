//! What a worker's plan came to, beside its rivals and the least that any plan could cost: as numbers, as a table and as JSON.

use super::bound::{Bound, Limits, bound};
use super::micros;
use super::outcome::{Moment, Outcome};
use super::plan::Plan;
use super::rivals::rivals;
use super::simulate::{Around, simulate};
use super::table::{Cluster, Worker};
use super::workload::Workload;
use serde::Serialize;
use std::fmt::Write as _;

/// One way to scale, and what it came to.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What it is called.
    pub name: String,
    /// The share of jobs that were started within the objective.
    pub in_time: f64,
    /// Seconds that half of the jobs, 95 and 99 of 100 of them, and all waited at most before they were started.
    pub waits: [f64; 4],
    /// Hours of all workers, those on spot nodes among them in full.
    pub worker_hours: f64,
    /// What they cost.
    pub cost: f64,
    /// The share of the workers' time that no job was in.
    pub idle: f64,
    /// Changes of the number of workers, and of these those in the other direction than the last, an hour.
    pub changes: u64,
    /// See `changes`.
    pub reversals_per_hour: f64,
    /// Jobs that were cut off with their worker.
    pub killed: u64,
}

/// One worker's report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worker.
    pub worker: String,
    /// Jobs in the workload, and its length in hours.
    pub jobs: u64,
    /// See `jobs`.
    pub hours: f64,
    /// In seconds.
    pub objective: f64,
    /// Seconds that a job takes, on average.
    pub job_seconds: f64,
    /// The table's way first, then its rivals.
    pub lines: Vec<Line>,
    /// What any plan that starts all jobs in time costs at least; absent where none can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_cost: Option<f64>,
    /// What was assumed or left out.
    pub assumptions: Vec<String>,
    /// What happened when, with the table.
    #[serde(skip)]
    pub moments: Vec<Moment>,
}

/// What a worker is replayed with.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// What is around it.
    pub around: Around,
    /// What the table does not say.
    pub cluster: Cluster,
}

impl Terms {
    /// What a bound of this plan is about.
    #[must_use]
    pub fn limits(&self, plan: &Plan) -> Limits {
        Limits {
            min: f64::from(plan.min),
            max: f64::from(plan.max),
            slots: plan.slots as f64,
            objective: micros(plan.objective),
            start: self.around.start.0,
        }
    }
}

/// How many moments a plot has.
const MOMENTS: u64 = 700;
/// Where nobody says what share of its request a busy worker uses.
const BUSY_CPU: f64 = 1.0;

/// Replays one worker and its rivals.
#[must_use]
pub fn report(worker: &Worker, workload: &Workload, terms: &Terms, assumptions: &[String]) -> Report {
    let plan = worker.plan(terms.cluster);
    let count = workload.jobs.len().max(1) as f64;
    let job_seconds = workload.work() / count;
    let mut assumptions = [assumptions, &worker.left_out].concat();
    if worker.row.cpu_utilization > 0.0 && terms.cluster.busy_cpu.is_none() {
        assumptions.push(
            "cpuUtilization is left out: give --busy-cpu, the share of its CPU request that a busy worker uses".into(),
        );
    }
    let busy = terms.cluster.busy_cpu.unwrap_or(BUSY_CPU);
    assumptions.push(format!("for scaling by CPU: a busy worker uses {:.0} % of its request", busy * 100.0));
    let price = worker.price();
    let own = simulate(&plan, &Around { moments: MOMENTS, ..terms.around }, workload);
    let mut lines = vec![line("this table", &own, &plan, worker)];
    for rival in rivals(&plan, job_seconds, busy) {
        let outcome = simulate(&rival.plan, &terms.around, workload);
        lines.push(line(rival.name, &outcome, &rival.plan, worker));
    }
    // On spot nodes it would cost less by no more than their discount.
    let discount = if plan.spot_grace.is_some() { 1.0 - worker.row.price.spot_discount } else { 1.0 };
    let least = match bound(workload, terms.limits(&plan)) {
        Bound::Least(seconds) => Some(seconds / 3_600.0 * price * discount),
        Bound::Impossible => {
            assumptions.push("with so many workers at most, no plan starts all jobs in time".into());
            None
        }
        Bound::Unknown => {
            assumptions.push("what any plan costs at least could not be worked out".into());
            None
        }
    };
    if price == 0.0 {
        assumptions.push("the row has no resources.requests, so that nothing costs anything".into());
    }
    Report {
        worker: worker.name.clone(),
        jobs: own.jobs,
        hours: own.hours,
        objective: plan.objective,
        job_seconds,
        lines,
        least_cost: least,
        assumptions,
        moments: own.moments,
    }
}

/// One way's numbers.
#[must_use]
pub fn line(name: &str, outcome: &Outcome, plan: &Plan, worker: &Worker) -> Line {
    Line {
        name: name.into(),
        in_time: outcome.share_in_time(),
        waits: [outcome.waits.at(0.5), outcome.waits.at(0.95), outcome.waits.at(0.99), outcome.waits.longest()],
        worker_hours: outcome.worker_seconds / 3_600.0,
        cost: outcome.worker_hours(worker.row.price.spot_discount) * worker.price(),
        idle: outcome.idle(plan.slots),
        changes: outcome.changes,
        reversals_per_hour: outcome.reversals as f64 / outcome.hours,
        killed: outcome.killed,
    }
}

/// Seconds as people say them.
#[must_use]
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.095 => format!("{:.0}ms", s * 1_000.0),
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 597.0 => format!("{:.1}m", s / 60.0),
        s if s < 7_200.0 => format!("{:.0}m", s / 60.0),
        s => format!("{:.1}h", s / 3_600.0),
    }
}

/// A share, in per cent, with as many digits as tell it from 100.
#[must_use]
pub fn share(share: f64) -> String {
    if share > 0.9995 && share < 1.0 { ">99.9%".into() } else { format!("{:.1}%", share * 100.0) }
}

/// For a terminal.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut text = format!(
        "{}: {} jobs of {} on average in {}, to be started within {}\n",
        report.worker,
        report.jobs,
        duration(report.job_seconds),
        duration(report.hours * 3_600.0),
        duration(report.objective)
    );
    let _ = writeln!(
        text,
        "  {:<24}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10}{:>10}{:>7}{:>9}{:>13}{:>8}",
        "", "in time", "p50", "p95", "p99", "worst", "hours", "cost", "idle", "changes", "reversals/h", "killed"
    );
    for line in &report.lines {
        let [half, most, nearly, worst] = line.waits.map(duration);
        let _ = writeln!(
            text,
            "  {:<24}{:>8}{:>8}{:>8}{:>8}{:>8}{:>10.1}{:>10.3}{:>7}{:>9}{:>13.1}{:>8}",
            line.name,
            share(line.in_time),
            half,
            most,
            nearly,
            worst,
            line.worker_hours,
            line.cost,
            format!("{:.0}%", line.idle * 100.0),
            line.changes,
            line.reversals_per_hour,
            line.killed
        );
    }
    if let Some(least) = report.least_cost {
        let _ = writeln!(text, "  {:<24}{:>8}{:>52.3}", "least, if all in time", "100.0%", least);
    }
    for assumption in &report.assumptions {
        let _ = writeln!(text, "  - {assumption}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_shares_as_people_say_them() {
        let said = [0.0, 0.02, 3.25, 42.4, 119.0, 150.0, 600.0, 9_000.0].map(duration);
        assert_eq!(said, ["0ms", "20ms", "3.2s", "42s", "119s", "2.5m", "10m", "2.5h"]);
        assert_eq!([1.0, 0.9999, 0.987].map(share), ["100.0%", ">99.9%", "98.7%"]);
    }
}
