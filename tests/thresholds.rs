//! The chart's thresholds are exact: over all replica counts and backlogs, its queries as a real Prometheus answers them go through
//! the HPA's arithmetic, and workers are added when and only when there are more than `scaleUpDepth` jobs for each, and removed when and only when there are fewer than `scaleDownDepth`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use support::chart::{Object, objects, render};
use support::prometheus::{Moment, Prometheus};

/// The HPA's default tolerance, and what Kubernetes 1.35 lets the chart set.
const DEFAULT: f64 = 0.1;
const NONE: f64 = 0.0;

/// What one external metric with an AverageValue makes an HPA propose, in thousandths as it counts them:
/// `GetExternalPerPodMetricReplicas` in Kubernetes' pkg/controller/podautoscaler/replica_calculator.go.
fn proposal(value: f64, target: f64, replicas: u64, tolerance: f64) -> u64 {
    let (value, target) = ((value * 1000.0).round(), (target * 1000.0).round());
    let ratio = value / (target * replicas as f64);
    if (1.0 - tolerance..=1.0 + tolerance).contains(&ratio) { replicas } else { (value / target).ceil() as u64 }
}

/// One state of a queue and its workers.
#[derive(Clone, Copy, Debug)]
struct State {
    /// What the Deployment is to have; what the HPA divides by.
    replicas: u64,
    /// What it has: more while a new version surges in.
    status: u64,
    backlog: u64,
    in_flight: u64,
}

impl State {
    fn moment(&self, deployment: &str) -> Moment {
        let queue = "{namespace=\"jobs\",queue=\"crawler\"}";
        Moment::from([
            (format!("redis_queue_backlog{queue}"), self.backlog as f64),
            (format!("redis_queue_in_flight{queue}"), self.in_flight as f64),
            (format!("redis_queue_up{queue}"), 1.0),
            (
                format!("kube_deployment_spec_replicas{{namespace=\"jobs\",deployment=\"{deployment}\"}}"),
                self.replicas as f64,
            ),
        ])
    }
}

/// All backlogs up to some over the upper depth, for each number of workers; in flight none, half, all, or some of workers
/// that are going away as well.
fn states(up: u64, floor: u64) -> Vec<State> {
    let mut states = Vec::new();
    for replicas in 1..=25 {
        for backlog in 0..=up * (replicas + floor + 2) + 1 {
            let in_flight = [0, replicas / 2, replicas, replicas + 3][(backlog % 4) as usize];
            let status = replicas + if backlog % 3 == 0 { replicas.div_ceil(4) } else { 0 };
            states.push(State { replicas, status, backlog, in_flight });
        }
    }
    states
}

/// The rule, stated once more and otherwise than in the chart. `floor` workers beside those that are scaled work too.
fn check(state: State, desired: u64, depths: (u64, u64), floor: u64, exact: bool) {
    let (up, down) = depths;
    let State { replicas, status, backlog, in_flight } = state;
    let about = || format!("{state:?} with depths {depths:?}, floor {floor}, exact {exact}: {desired}");
    let workers = replicas + floor;
    // A busy worker is kept; those of workers that are going away call for none.
    let busy = in_flight.saturating_sub(floor).min(replicas);
    if backlog > up * workers {
        let needed = backlog.div_ceil(up) - floor;
        // While pods surge in, the HPA divides by them too: what is within its tolerance waits until they have replaced the old.
        let surging = !exact && status > replicas && desired == status;
        assert!(desired > replicas && (desired >= needed || surging), "{}", about());
        let most = if exact { needed } else { needed.max(status + status / 10 + 1) };
        assert!(desired <= most, "{}", about());
    } else if backlog < down * workers {
        let kept = (backlog / down).saturating_sub(floor).max(backlog.div_ceil(up).saturating_sub(floor)).max(busy);
        assert!(desired >= if exact { kept } else { kept.min(replicas - replicas / 10) }.max(busy), "{}", about());
        if exact {
            assert_eq!(desired, kept, "{}", about());
        } else if kept < replicas && busy < replicas * 9 / 10 {
            assert!(desired < replicas, "{}", about());
            assert!(desired <= kept.max(replicas - replicas / 10), "{}", about());
        } else {
            assert!(desired <= replicas, "{}", about());
        }
        // What is left is not so few that some come back at once.
        assert!(backlog <= up * (desired.max(1) + floor), "{}", about());
    } else {
        assert_eq!(desired, replicas, "{}", about());
    }
}

/// The ScaledObject of a crawler with these values.
fn crawler(kubernetes: &str, set: &str) -> Object {
    let set = format!("workers.ocr=null,workers.parser=null,workers.labeler=null,trigger=prometheus,{set}");
    let all = objects(&render("helm3", kubernetes, &["--set", &set]));
    all.into_iter().find(|object| object.kind() == "ScaledObject").unwrap()
}

fn threshold(metadata: &Value) -> f64 {
    metadata["threshold"].as_str().unwrap().parse().unwrap()
}

const DEPTHS: [(u64, u64); 4] = [(20, 5), (50, 10), (7, 3), (2, 1)];

#[test]
fn queries_keep_to_the_depths() {
    for (depths, floor) in DEPTHS.into_iter().map(|depths| (depths, 0)).chain([((20, 5), 2)]) {
        let states = states(depths.0, floor);
        let deployment = if floor == 0 { "crawler-worker" } else { "crawler-worker-spot" };
        let moments: Vec<Moment> = states.iter().map(|state| state.moment(deployment)).collect();
        let prometheus = Prometheus::holding(&moments);
        for (kubernetes, tolerance) in [("1.34.0", DEFAULT), ("1.35.0", NONE)] {
            let set = format!(
                "workers.crawler.scaleUpDepth={},workers.crawler.scaleDownDepth={},workers.crawler.spot.enabled={}",
                depths.0,
                depths.1,
                floor > 0
            );
            let scaled = crawler(kubernetes, &set);
            let told = &scaled.value["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleUp"];
            assert_eq!(told["tolerance"].is_string(), tolerance == NONE);
            let mut proposals = vec![0; states.len()];
            for name in ["backlog", "keep", "in_flight"] {
                let metadata = scaled.trigger(name);
                let values = prometheus.at_each(metadata["query"].as_str().unwrap());
                for ((state, value), proposed) in states.iter().zip(values).zip(&mut proposals) {
                    let value = value.unwrap_or_else(|| panic!("{name} is empty at {state:?}"));
                    *proposed = proposal(value, threshold(metadata), state.status, tolerance).max(*proposed);
                }
            }
            for (state, desired) in states.iter().zip(proposals) {
                check(*state, desired, depths, floor, tolerance == NONE);
            }
        }
    }
}

/// The queries of the other triggers, and what each gives where something is not known.
#[test]
fn queries_tell_what_is_known() {
    let queue = "{namespace=\"jobs\",queue=\"crawler\"}";
    let replicas = "kube_deployment_spec_replicas{namespace=\"jobs\",deployment=\"crawler-worker\"}";
    let series: BTreeMap<&str, String> = [
        ("n", replicas.to_string()),
        ("up", format!("redis_queue_up{queue}")),
        ("backlog", format!("redis_queue_backlog{queue}")),
        ("in_flight", format!("redis_queue_in_flight{queue}")),
        ("age", format!("redis_queue_oldest_job_age_seconds{queue}")),
        ("at_least", format!("redis_queue_oldest_job_age_at_least_seconds{queue}")),
        ("rate", format!("redis_queue_arrival_rate{queue}")),
    ]
    .into();
    // objectiveAge is 2m, jobSeconds 2, one slot
    type Case = (&'static str, &'static [(&'static str, f64)], [Option<f64>; 5]);
    let cases: [Case; 8] = [
        (
            "four workers, the oldest job twice as late as it may be: eight wanted",
            &[("n", 4.0), ("up", 1.0), ("backlog", 60.0), ("in_flight", 4.0), ("age", 240.0), ("rate", 3.0)],
            [Some(60.0), Some(4.0), Some(4.0), Some(8.0 * 120.0), Some(6.0)],
        ),
        (
            "no more workers than jobs, however late one is",
            &[("n", 4.0), ("up", 1.0), ("backlog", 1.0), ("in_flight", 4.0), ("age", 9000.0), ("rate", 0.0)],
            [Some(1.0), Some(0.0), Some(4.0), Some(5.0 * 120.0), Some(0.0)],
        ),
        (
            "a lower bound of the age will do, and no rate is none",
            &[("n", 4.0), ("up", 1.0), ("backlog", 60.0), ("in_flight", 9.0), ("at_least", 240.0)],
            [Some(60.0), Some(4.0), Some(4.0), Some(8.0 * 120.0), Some(0.0)],
        ),
        (
            "an age that can't be known asks for none",
            &[("n", 4.0), ("up", 1.0), ("backlog", 60.0), ("in_flight", 4.0)],
            [Some(60.0), Some(4.0), Some(4.0), Some(0.0), Some(0.0)],
        ),
        (
            "no workers: jobs of dead ones need one",
            &[("n", 0.0), ("up", 1.0), ("backlog", 0.0), ("in_flight", 7.0), ("age", 0.0), ("rate", 0.0)],
            [Some(0.0), Some(0.0), Some(1.0), Some(0.0), Some(0.0)],
        ),
        ("the queue can't be read", &[("n", 4.0), ("up", 0.0)], [None, None, None, None, None]),
        ("no exporter", &[("n", 4.0)], [None, None, None, None, None]),
        (
            "no kube-state-metrics: workers are added, none is taken away",
            &[("up", 1.0), ("backlog", 60.0), ("in_flight", 4.0), ("age", 240.0), ("rate", 3.0)],
            [Some(60.0), None, None, None, Some(6.0)],
        ),
    ];
    let moments: Vec<Moment> = cases
        .iter()
        .map(|(_, values, _)| values.iter().map(|(name, value)| (series[name].clone(), *value)).collect())
        .collect();
    let prometheus = Prometheus::holding(&moments);
    for kubernetes in ["1.34.0", "1.35.0"] {
        let set = "scaleUpDepth=20,workers.crawler.scaleDownDepth=5,workers.crawler.arrivalRate=true";
        let scaled = crawler(kubernetes, &format!("workers.crawler.{set}"));
        let answers: Vec<Vec<Option<f64>>> = ["backlog", "keep", "in_flight", "age", "rate"]
            .iter()
            .map(|name| prometheus.at_each(scaled.trigger(name)["query"].as_str().unwrap()))
            .collect();
        for (index, (what, _, wanted)) in cases.iter().enumerate() {
            let found: Vec<Option<f64>> = answers.iter().map(|of_all| of_all[index]).collect();
            assert_eq!(found, wanted, "{what}, on {kubernetes}");
        }
        for name in ["backlog", "keep", "in_flight", "age", "rate"] {
            assert_eq!(scaled.trigger(name)["ignoreNullValues"], "false", "an empty answer would count as 0");
        }
    }
}
