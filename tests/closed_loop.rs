//! The replay scales as the real loop did: recorded runs of the cluster tests, real KEDA, HPA, Prometheus, exporter and workers, against the same
//! jobs in the simulator. The recordings are those that `make e2e` writes beside its report.
//!
//! Not known of a run are the phases of the periods (when Prometheus scrapes, when the HPA looks) and how long each pod took to start: both
//! come from a seed, and one seed must give the same number of workers at each moment, give or take one sync of the HPA.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use queue_exporter::replay::outcome::Moment;
use queue_exporter::replay::plan::Plan;
use queue_exporter::replay::simulate::{Around, simulate};
use queue_exporter::replay::table::{Cluster, read};
use queue_exporter::replay::workload::{Job, Workload};
use queue_exporter::replay::{Micros, SECOND, micros};
use serde::Deserialize;

/// Seconds, backlog, jobs in flight, workers wanted, workers ready.
type Sample = (f64, Option<u64>, Option<u64>, Option<i32>, u64);

#[derive(Deserialize)]
struct Run {
    values: String,
    puts: Vec<(f64, u64, u64)>,
    samples: Vec<Sample>,
}

/// The HPA's period in the cluster tests.
const SYNC: Micros = 2 * SECOND;
/// A sample of a run is that much older at most than the next.
const SAMPLED: f64 = 0.6;
/// What a worker spends on taking a job and on saying that it is done, with a Redis that syncs its file each time and beside two other loops.
const TAKING: Micros = SECOND / 50;
const SEEDS: u64 = 400;

impl Run {
    fn workload(&self) -> Workload {
        let job = |at: f64, takes: u64| Job { at: micros(at), takes: takes * SECOND / 1_000 + TAKING };
        let jobs = self.puts.iter().flat_map(|(at, count, takes)| (0..*count).map(move |_| job(*at, *takes))).collect();
        Workload { jobs, length: micros(self.samples.last().unwrap().0) }
    }

    fn plan(&self) -> Plan {
        let seed = std::fs::read_to_string("keda/chart/presets/seed.yaml").unwrap();
        let workers = read(&[&seed, &self.values]).unwrap();
        let [crawler] = workers.as_slice() else { panic!("one worker alone") };
        // The objective lengthens a replay, and changes nothing else where the age is not scaled on.
        crawler.plan(Cluster { tolerance_is_set: true, busy_cpu: None })
    }

    /// The share of samples that the replay has at another time only.
    fn differing(&self, moments: &[Moment]) -> (f64, String) {
        let within = SYNC as f64 / SECOND as f64 + SAMPLED;
        let (mut other, mut all, mut first) = (0, 0, String::new());
        for (time, .., replicas, _) in &self.samples {
            let Some(replicas) = replicas else { continue };
            all += 1;
            let near = moments.iter().filter(|moment| (moment.time - time).abs() <= within);
            if !near.clone().any(|moment| moment.wanted == *replicas) {
                other += 1;
                if first.is_empty() {
                    let replayed: Vec<i32> = near.map(|moment| moment.wanted).collect();
                    first = format!("at {time:.1} s {replicas} workers, in the replay {replayed:?}");
                }
            }
        }
        (f64::from(other) / f64::from(all.max(1)), first)
    }
}

fn recorded(name: &str) -> Run {
    let text = std::fs::read_to_string(format!("tests/closed_loop/{name}.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The best seed's share of differing samples.
fn replayed(run: &Run) -> (f64, String) {
    let (plan, workload) = (run.plan(), run.workload());
    let span = (workload.length + micros(plan.objective)) / (SECOND / 10);
    let one = |seed| {
        let around = Around {
            poll: SECOND,
            scrape: SECOND,
            sync: SYNC,
            rate_window: 15 * SECOND,
            start: (SECOND, 5 * SECOND / 2),
            seed,
            moments: span,
            ..Around::default()
        };
        run.differing(&simulate(&plan, &around, &workload).moments)
    };
    (1..=SEEDS).map(one).min_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

#[test]
fn the_number_of_workers_is_that_of_the_real_loop() {
    let mut faults = Vec::new();
    for entry in std::fs::read_dir("tests/closed_loop").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (share, first) = replayed(&recorded(name));
        println!("{name}: {:.1} % of the samples differ; {first}", share * 100.0);
        if share > 0.0 {
            faults.push(name.to_string());
        }
    }
    assert!(faults.is_empty(), "{faults:?}");
}

/// The comparison tells one policy from another.
#[test]
fn with_other_windows_the_number_of_workers_is_another() {
    for (name, is, other) in [
        ("burst-prometheus", "stabilizationWindowSeconds: 4,", "stabilizationWindowSeconds: 10,"),
        ("burst-prometheus", "stabilizationWindowSeconds: 10,", "stabilizationWindowSeconds: 20,"),
        ("ramp-prometheus", "scaleUpDepth: 6", "scaleUpDepth: 12"),
        ("long-jobs-metrics-api", "scaleUpDepth: 2", "scaleUpDepth: 3"),
    ] {
        let mut run = recorded(name);
        assert!(run.values.contains(is));
        run.values = run.values.replace(is, other);
        let (share, _) = replayed(&run);
        assert!(share > 0.0, "{name} is the same with {other}");
    }
}
