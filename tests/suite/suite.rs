//! The frozen suite: four workers by seven shapes of load, each tuned on five seeds and held against five that the tuner has not seen, beside
//! other ways to scale and the least that any plan could cost. `make suite` prints the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use queue_exporter::replay::bound::{Bound, Limits, bounds};
use queue_exporter::replay::plan::{Plan, Trigger};
use queue_exporter::replay::rivals::rivals;
use queue_exporter::replay::simulate::{Around, simulate};
use queue_exporter::replay::table::{Cluster, Worker, read};
use queue_exporter::replay::tune::{Goal, Score, Search};
use queue_exporter::replay::workload::{SHAPES, Scale, Shape, Workload};
use queue_exporter::replay::{SECOND, micros};
use std::collections::BTreeMap;

/// The seed's table, but with objectives of three times lag and start (30 s and 60 s) or more, and no CPU trigger.
fn table(trigger: &str) -> Vec<Worker> {
    let text = format!(
        "trigger: {trigger}\nworkers:\n  crawler: {{objectiveAge: 5m}}\n  parser: {{objectiveAge: 5m}}\n  \
         ocr: {{cpuUtilization: 0, memoryUtilization: 0}}\n"
    );
    let seed = include_str!("../../keda/chart/presets/seed.yaml");
    read(&[seed, &text]).unwrap()
}

const TRIGGERS: [&str; 2] = ["prometheus", "external-push"];
const CLUSTER: Cluster = Cluster { tolerance_is_set: true, busy_cpu: None };
const TRAINING: [u64; 5] = [101, 102, 103, 104, 105];
const HELD_OUT: [u64; 5] = [201, 202, 203, 204, 205];

fn around() -> Around {
    Around { lag: 30 * SECOND, start: (20 * SECOND, 60 * SECOND), ..Around::default() }
}

struct Row {
    policy: String,
    cells: Vec<(String, Score, Option<f64>)>,
}

fn workloads(worker: &Worker, shape: Shape, seeds: &[u64]) -> Vec<Workload> {
    let row = &worker.row;
    let scale = Scale {
        job_seconds: row.job_seconds,
        slots: (row.max_replicas as u64 * row.slots) as f64,
        objective: row.objective(),
        seconds: 6.0 * 3_600.0,
    };
    seeds.iter().map(|seed| shape.workload(scale, *seed)).collect()
}

fn score(plan: &Plan, workloads: &[Workload]) -> Score {
    let outcomes: Vec<_> = workloads
        .iter()
        .enumerate()
        .map(|(place, workload)| simulate(plan, &Around { seed: 900 + place as u64, ..around() }, workload))
        .collect();
    Score::of(&outcomes, 0.0)
}

fn main() {
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut add = |policy: &str, cell: &str, score: Score, least: Option<f64>| {
        let row = rows.entry(policy.to_string()).or_insert_with(|| Row { policy: policy.into(), cells: Vec::new() });
        let ratio = least.map(|least| score.hours * 3_600.0 / least);
        println!(
            "{cell:18} {policy:24} in time {:.4} worst {:.4} cost {} reversals {:.1}/h killed {}",
            score.share,
            score.worst,
            ratio.map_or("-".into(), |ratio| format!("{ratio:.3}")),
            score.reversals_per_hour,
            score.killed
        );
        row.cells.push((cell.into(), score, ratio));
    };
    for (place, worker) in table("prometheus").iter().enumerate() {
        for shape in SHAPES {
            let cell = format!("{} {}", worker.name, shape.name());
            if !only.is_empty() && !only.iter().any(|name| cell.contains(name.as_str())) {
                continue;
            }
            let (training, held_out) = (workloads(worker, shape, &TRAINING), workloads(worker, shape, &HELD_OUT));
            let row = &worker.row;
            let limits = Limits {
                min: f64::from(row.min_replicas),
                max: f64::from(row.max_replicas),
                slots: row.slots as f64,
                objective: micros(row.objective()),
                start: around().start.0,
            };
            let least = match bounds(&held_out, limits) {
                Bound::Least(least) => Some(least),
                _ => None,
            };
            let longest = training.iter().flat_map(|workload| &workload.jobs).map(|job| job.takes).max().unwrap_or(0);
            for trigger in TRIGGERS {
                let worker = &table(trigger)[place];
                let search = Search {
                    worker,
                    workloads: &training,
                    around: around(),
                    cluster: CLUSTER,
                    goal: Goal::default(),
                    job_seconds: worker.row.job_seconds,
                    longest_job: longest as f64 / SECOND as f64,
                    spot_discount: 0.0,
                    keep_busy: false,
                };
                let began = std::time::Instant::now();
                let (best, on_training) = search.best(|_| {});
                let tuned = Worker { row: best.clone(), ..worker.clone() }.plan(CLUSTER);
                println!(
                    "  {trigger}: {:.0} s, on training {:.4} {:.4}; up {} down {} in flight {} arrivalRate {} up {:?} down {:?}",
                    began.elapsed().as_secs_f64(),
                    on_training.share,
                    on_training.worst,
                    best.scale_up_depth,
                    best.scale_down_depth,
                    best.in_flight,
                    best.arrival_rate,
                    best.scale_up,
                    best.scale_down
                );
                add(&format!("tuned, {trigger}"), &cell, score(&tuned, &held_out), least);
                add(&format!("as given, {trigger}"), &cell, score(&worker.plan(CLUSTER), &held_out), least);
            }
            let plan = worker.plan(CLUSTER);
            for rival in rivals(&plan, row.job_seconds, 1.0) {
                add(rival.name, &cell, score(&rival.plan, &held_out), least);
            }
            // The honest rival: the plain trigger with a target that was looked for.
            let plain = |target: f64| Plan {
                triggers: vec![Trigger::Length { target }],
                ..rivals(&plan, row.job_seconds, 1.0)[0].plan.clone()
            };
            let whole = row.objective() / row.job_seconds * row.slots as f64;
            let targets = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8].map(|part| (part * whole).max(1.0).floor());
            let goal = Goal::default();
            let best = targets
                .into_iter()
                .map(|target| (target, score(&plain(target), &training)))
                .min_by(|(_, a), (_, b)| {
                    (a.misses(Goal { reversals_per_hour: 1e9, ..goal }), a.hours)
                        .partial_cmp(&(b.misses(Goal { reversals_per_hour: 1e9, ..goal }), b.hours))
                        .unwrap()
                })
                .unwrap()
                .0;
            add("KEDA redis, tuned", &cell, score(&plain(best), &held_out), least);
        }
    }
    println!(
        "\n| policy | cells in time (99 %, worst 98.5 %) | worst cell | cost to the bound, geometric mean | worst | reversals an hour, most | killed |\n|---|---|---|---|---|---|---|"
    );
    for row in rows.values() {
        let served: Vec<_> = row.cells.iter().filter(|(.., ratio)| ratio.is_some()).collect();
        let good = served.iter().filter(|(_, score, _)| score.share >= 0.99 && score.worst >= 0.985).count();
        let worst = served.iter().map(|(_, score, _)| score.worst).fold(1.0, f64::min);
        let mean = (served.iter().filter_map(|(.., ratio)| *ratio).map(f64::ln).sum::<f64>()
            / served.len().max(1) as f64)
            .exp();
        let most = served.iter().filter_map(|(.., ratio)| *ratio).fold(0.0, f64::max);
        let restless = served.iter().map(|(_, score, _)| score.reversals_per_hour).fold(0.0, f64::max);
        let killed: u64 = served.iter().map(|(_, score, _)| score.killed).sum();
        println!(
            "| {} | {good} of {} | {worst:.4} | {mean:.3} | {most:.3} | {restless:.1} | {killed} |",
            row.policy,
            served.len()
        );
    }
}
