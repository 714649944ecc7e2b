//! What `queue-exporter tune` says of one worker: a better row as a diff, with the reason for each change and what it saves on loads that the search
//! has not seen; or why there is none.

use super::bound::{Bound, Limits, bounds};
use super::plan::Plan;
use super::report::{Terms, duration, share};
use super::table::{Row, Worker};
use super::tune::{Goal, Score, Search};
use super::workload::Workload;
use super::{SECOND, seconds};
use std::fmt::Write as _;

/// What a tuned row must reach on what it has not seen.
const IN_TIME: Goal = Goal { share: 0.99, worst: 0.985, reversals_per_hour: f64::INFINITY, killed: u64::MAX };

/// The text for one worker.
///
/// # Errors
/// As a text: why no row keeps the objective.
pub fn advice(
    worker: &Worker,
    training: &[Workload],
    held_out: &[Workload],
    terms: &Terms,
    keep_busy: bool,
    progress: impl FnMut(f64),
) -> Result<String, String> {
    let jobs: Vec<_> = training.iter().flat_map(|workload| &workload.jobs).collect();
    if jobs.is_empty() {
        return Err(format!("{}: no jobs came, so there is nothing to tune on\n", worker.name));
    }
    let job_seconds = jobs.iter().map(|job| seconds(job.takes)).sum::<f64>() / jobs.len() as f64;
    let longest_job = jobs.iter().map(|job| job.takes).max().map_or(0.0, seconds);
    let search = |workloads| Search {
        worker,
        workloads,
        around: terms.around,
        cluster: terms.cluster,
        goal: Goal::default(),
        job_seconds,
        longest_job,
        spot_discount: worker.row.price.spot_discount,
        keep_busy,
    };
    let plan = worker.plan(terms.cluster);
    let limits = terms.limits(&plan);
    let (row, _) = search(training).best(progress);
    let unseen = search(held_out);
    let (before, after) = (unseen.score(&worker.row), unseen.score(&row));
    let [was_in_time, is_in_time] = [&before, &after].map(|score| score.misses(IN_TIME) == 0.0);
    if !was_in_time && !is_in_time {
        return Err(match bounds(&[training, held_out].concat(), limits) {
            Bound::Impossible => too_few(worker, training, held_out, limits),
            _ => refusal(worker, &unseen, &plan, &after, terms),
        });
    }
    // What is found may be good for the loads that it was found on only.
    let stays = was_in_time && (!is_in_time || before.hours <= after.hours);
    let (row, after) = if stays { (worker.row.clone(), before.clone()) } else { (row, after) };
    let mut text =
        format!("{}: tuned on {} loads, and tried on {} others\n", worker.name, training.len(), held_out.len());
    let price = worker.price();
    let discount = if plan.spot_grace.is_some() { 1.0 - worker.row.price.spot_discount } else { 1.0 };
    let of_least = |hours: f64| match bounds(held_out, limits) {
        Bound::Least(least) if least > 0.0 => format!("{:.2} times the least", hours / (least / 3_600.0 * discount)),
        Bound::Impossible => "and no plan starts all of them in time".into(),
        _ => "the least is not known".into(),
    };
    for (name, score) in [("this row", &before), ("tuned", &after)] {
        let _ = writeln!(
            text,
            "  {name:<10} {:>7} in time, {:>7} in the worst; cost {:.3}, {}; {:.1} reversals an hour, {} killed",
            share(score.share),
            share(score.worst),
            score.hours * price,
            of_least(score.hours),
            score.reversals_per_hour,
            score.killed
        );
    }
    if row == worker.row {
        text += "  nothing was found that is better\n";
        return Ok(text);
    }
    let _ = writeln!(text, "  workers:\n    {}:", worker.name);
    for change in changes(&worker.row, &row, job_seconds) {
        let mut without = row.clone();
        (change.undo)(&mut without, &worker.row);
        let worth = worth(&unseen.score(&without), &after);
        for line in &change.old {
            let _ = writeln!(text, "-     {line}");
        }
        let _ = writeln!(text, "+     # {}; {worth}", change.reason);
        for line in &change.new {
            let _ = writeln!(text, "+     {line}");
        }
    }
    Ok(text)
}

/// What a change saves, by what the row would come to without it.
fn worth(without: &Score, with: &Score) -> String {
    let lost = without.share - with.share;
    if lost < -0.001 {
        return format!("without it {} in time", share(without.share));
    }
    let saved = without.hours / with.hours - 1.0;
    if saved.abs() < 0.0005 {
        "it costs and saves nothing by itself".into()
    } else {
        format!("without it {:+.1} % cost", saved * 100.0)
    }
}

struct Change {
    old: Vec<String>,
    new: Vec<String>,
    reason: String,
    undo: fn(&mut Row, &Row),
}

fn changes(old: &Row, new: &Row, job_seconds: f64) -> Vec<Change> {
    let mut changes = Vec::new();
    if old.min_replicas != new.min_replicas {
        changes.push(Change {
            old: vec![format!("minReplicas: {}", old.min_replicas)],
            new: vec![format!("minReplicas: {}", new.min_replicas)],
            reason: "they take what comes at once until others have started".into(),
            undo: |row, old| row.min_replicas = old.min_replicas,
        });
    }
    if (old.scale_up_depth, old.scale_down_depth) != (new.scale_up_depth, new.scale_down_depth) {
        let waits = new.scale_up_depth as f64 * job_seconds / new.slots as f64;
        let lines = |row: &Row| {
            vec![format!("scaleUpDepth: {}", row.scale_up_depth), format!("scaleDownDepth: {}", row.scale_down_depth)]
        };
        changes.push(Change {
            old: lines(old),
            new: lines(new),
            reason: format!(
                "{} jobs a worker wait {} of the {} allowed",
                new.scale_up_depth,
                duration(waits),
                duration(new.objective())
            ),
            undo: |row, old| (row.scale_up_depth, row.scale_down_depth) = (old.scale_up_depth, old.scale_down_depth),
        });
    }
    if old.in_flight != new.in_flight {
        let lines = |row: &Row| vec![format!("inFlight: {}", row.in_flight.to_string().trim_matches('"'))];
        changes.push(Change {
            old: lines(old),
            new: lines(new),
            reason: if new.sees_in_flight() {
                "busy workers are kept".into()
            } else {
                "each job that was seen ends within the grace period".into()
            },
            undo: |row, old| row.in_flight = old.in_flight.clone(),
        });
    }
    if old.job_seconds != new.job_seconds {
        changes.push(Change {
            old: vec![format!("jobSeconds: {}", old.job_seconds)],
            new: vec![format!("jobSeconds: {}", new.job_seconds)],
            reason: "as measured".into(),
            undo: |row, old| row.job_seconds = old.job_seconds,
        });
    }
    if old.arrival_rate != new.arrival_rate {
        let reason = if new.arrival_rate {
            "workers come with the jobs, before a backlog does"
        } else {
            "the backlog is enough, for jobs may wait"
        };
        changes.push(Change {
            old: vec![format!("arrivalRate: {}", old.arrival_rate)],
            new: vec![format!("arrivalRate: {}", new.arrival_rate)],
            reason: reason.into(),
            undo: |row, old| row.arrival_rate = old.arrival_rate,
        });
    }
    let direction = |row: super::table::Direction| {
        let super::table::Direction { stabilization_window_seconds: window, percent, period_seconds: period } = row;
        format!("{{stabilizationWindowSeconds: {window}, percent: {percent}, periodSeconds: {period}}}")
    };
    if old.scale_up != new.scale_up {
        let [was, is] = [old, new].map(|row| row.scale_up.stabilization_window_seconds);
        let reason = match is.cmp(&was) {
            std::cmp::Ordering::Less => format!("workers come {} s sooner", was - is),
            std::cmp::Ordering::Greater => "a peak of less than that calls for none".into(),
            std::cmp::Ordering::Equal => "how many may come at once".into(),
        };
        changes.push(Change {
            old: vec![format!("scaleUp: {}", direction(old.scale_up))],
            new: vec![format!("scaleUp: {}", direction(new.scale_up))],
            reason,
            undo: |row, old| row.scale_up = old.scale_up,
        });
    }
    if old.scale_down != new.scale_down {
        changes.push(Change {
            old: vec![format!("scaleDown: {}", direction(old.scale_down))],
            new: vec![format!("scaleDown: {}", direction(new.scale_down))],
            reason: "how soon and how fast workers go".into(),
            undo: |row, old| row.scale_down = old.scale_down,
        });
    }
    changes
}

/// No plan with so many workers can do it: how many could.
fn too_few(worker: &Worker, training: &[Workload], held_out: &[Workload], limits: Limits) -> String {
    let serves = |max: f64| {
        let limits = Limits { max, ..limits };
        matches!(bounds(&[training, held_out].concat(), limits), Bound::Least(_))
    };
    let mut enough = limits.max;
    while enough < 100_000.0 && !serves(enough) {
        enough = (enough * 1.25).ceil();
    }
    format!(
        "{}: with {} workers at most, no plan starts all jobs within {}, not even one that knows what will come, nor with \
         fewer than about {enough}: raise maxReplicas, make jobs shorter, or allow more time\n",
        worker.name,
        limits.max,
        duration(seconds(limits.objective))
    )
}

fn refusal(worker: &Worker, unseen: &Search<'_>, plan: &Plan, found: &Score, terms: &Terms) -> String {
    let mut always = worker.row.clone();
    always.min_replicas = always.max_replicas;
    let reached = unseen.score(&always);
    let late = (terms.around.start.1 + terms.around.lag + terms.around.sync + terms.around.scrape) / SECOND;
    let why = if reached.misses(IN_TIME) > 0.0 {
        format!(
            "even {} workers all the time start {} in time: raise maxReplicas, or make jobs shorter",
            plan.max,
            share(reached.share)
        )
    } else {
        format!(
            "a worker comes up to {late} s after it is needed, of the {} that a job may wait: raise minReplicas for what comes at once, or make workers \
             start sooner",
            duration(plan.objective)
        )
    };
    format!(
        "{}: no row was found that keeps the objective; the nearest started {} in time, {} in the worst load, of 99.0% and 98.5%. {why}\n",
        worker.name,
        share(found.share),
        share(found.worst)
    )
}
