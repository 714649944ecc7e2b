//! The bound of a replay's cost is what HiGHS makes of the same linear program, and no schedule that starts all jobs in time costs less.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use fastrand::Rng;
use queue_exporter::replay::bound::{Bound, Limits, bound, program};
use queue_exporter::replay::workload::{SHAPES, Scale, Shape, Workload};
use queue_exporter::replay::{Micros, SECOND, seconds};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::process::{Command, Stdio};

const LIMITS: Limits = Limits { min: 1.0, max: 10.0, slots: 1.0, objective: 120 * SECOND, start: 20 * SECOND };

fn workload(shape: Shape, hours: f64, seed: u64) -> Workload {
    shape.workload(Scale { job_seconds: 2.0, slots: 10.0, objective: 120.0, seconds: hours * 3_600.0 }, seed)
}

fn highs(workload: &Workload) -> Option<f64> {
    let program = program(workload, LIMITS);
    let column = |part: fn(&(usize, usize, f64)) -> usize| program.entries.iter().map(part).collect::<Vec<_>>();
    let text = serde_json::json!({
        "costs": program.costs,
        "limits": program.limits,
        "rows": column(|(row, ..)| *row),
        "columns": column(|(_, column, _)| *column),
        "values": program.entries.iter().map(|(.., value)| *value).collect::<Vec<_>>(),
    });
    let mut child = Command::new(".cache/chart/python/bin/python")
        .arg("tests/bound/solve.py")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("HiGHS is not there: run make test, or make chart-tools before it");
    child.stdin.take().unwrap().write_all(text.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().parse().ok()
}

#[test]
fn highs_says_the_same() {
    for (place, shape) in SHAPES.into_iter().enumerate() {
        let workload = workload(shape, 2.0, place as u64);
        let Bound::Least(ours) = bound(&workload, LIMITS) else { panic!("{shape:?} has no bound") };
        let theirs = highs(&workload).unwrap();
        assert!((ours / theirs - 1.0).abs() < 1e-6, "{shape:?}: {ours}, by HiGHS {theirs}");
    }
    // 200 jobs of a minute each at once
    let mut burst = workload(Shape::Flat, 1.0, 1);
    burst.jobs.iter_mut().take(200).for_each(|job| (job.at, job.takes) = (600 * SECOND, 60 * SECOND));
    burst.jobs.sort_by_key(|job| job.at);
    assert_eq!((bound(&burst, LIMITS), highs(&burst)), (Bound::Impossible, None));
}

/// What a schedule costs in worker-seconds, if it starts all jobs in time. `counts` are workers in each step; those that go are the last that came,
/// and end their jobs first.
fn cost(workload: &Workload, counts: &[usize], step: Micros) -> Option<f64> {
    let end = workload.length + LIMITS.objective;
    // From when until when each worker takes jobs.
    let (mut there, mut spans): (Vec<Micros>, Vec<(Micros, Micros)>) = (Vec::new(), Vec::new());
    for (place, count) in counts.iter().enumerate() {
        let now = place as Micros * step;
        while there.len() > *count {
            spans.push((there.pop().unwrap(), now));
        }
        there.resize(*count, now);
    }
    spans.extend(there.into_iter().map(|from| (from, end)));
    let mut free: BinaryHeap<Reverse<(Micros, usize)>> =
        spans.iter().enumerate().map(|(worker, (from, _))| Reverse((*from, worker))).collect();
    let mut paid: Vec<Micros> = spans.iter().map(|(_, until)| *until).collect();
    for job in &workload.jobs {
        loop {
            let Reverse((from, worker)) = free.pop()?;
            let starts = from.max(job.at);
            if starts >= spans[worker].1 {
                continue;
            }
            if starts - job.at > LIMITS.objective {
                return None;
            }
            free.push(Reverse((starts + job.takes, worker)));
            paid[worker] = paid[worker].max((starts + job.takes).min(end));
            break;
        }
    }
    let first = LIMITS.min as usize;
    let took: f64 = spans.iter().zip(&paid).map(|((from, _), paid)| seconds(paid - from)).sum();
    Some(took + spans.len().saturating_sub(first) as f64 * seconds(LIMITS.start))
}

#[test]
fn no_schedule_that_is_in_time_costs_less() {
    let mut rng = Rng::with_seed(11);
    let (mut feasible, mut nearest) = (0, f64::INFINITY);
    while feasible < 1_000 {
        let shape = SHAPES[rng.usize(0..SHAPES.len())];
        let workload = workload(shape, 0.5, rng.u64(..));
        let Bound::Least(least) = bound(&workload, LIMITS) else { continue };
        let step = [15, 30, 60][rng.usize(0..3)] * SECOND;
        let steps = ((workload.length + LIMITS.objective) / step) as usize;
        // About what is to be done, at random.
        let busy = workload.work() / seconds(workload.length);
        for more in 0..4 {
            let mut counts = vec![1];
            for _ in 1..steps {
                let wanted = busy + f64::from(more) - 0.5 + 4.0 * (rng.f64() - 0.5);
                let keep = rng.f64() < 0.7;
                counts.push(if keep { *counts.last().unwrap() } else { (wanted.round() as usize).clamp(1, 10) });
            }
            if let Some(cost) = cost(&workload, &counts, step) {
                assert!(cost >= least * (1.0 - 1e-6), "{shape:?}: {cost} is under {least}");
                nearest = nearest.min(cost / least);
                feasible += 1;
            }
        }
    }
    // Some come near, so it is no empty promise.
    assert!(nearest < 1.2, "{nearest}");
}
