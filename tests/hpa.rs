//! The replay's HPA decides as the real controller does, at each sync of 300 series that it was recorded over (`tests/hpa/record.sh`);
//! and a plain restatement of its rules says the same of any others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use proptest::prelude::*;
use queue_exporter::replay::hpa::{Amount, Behavior, Hpa, Reading, Rules, Scale, Select, Step, TOLERANCE};
use queue_exporter::replay::{SECOND, micros};
use serde::Deserialize;

#[derive(Deserialize)]
struct Series {
    min: i32,
    max: i32,
    behavior: Option<Directions>,
    metrics: Vec<Metric>,
    syncs: Vec<Sync>,
}

#[derive(Deserialize)]
struct Directions {
    up: Direction,
    down: Direction,
}

#[derive(Deserialize)]
struct Direction {
    window: u64,
    select: String,
    policies: Vec<Policy>,
    tolerance: Option<f64>,
}

#[derive(Deserialize)]
struct Policy {
    kind: String,
    value: i32,
    period: u64,
}

#[derive(Deserialize)]
struct Metric {
    kind: String,
    target: i64,
}

#[derive(Debug, Deserialize)]
struct Sync {
    at: f64,
    spec: i32,
    status: i32,
    ready: i32,
    values: Vec<Option<i64>>,
    desired: i32,
}

fn rules(direction: &Direction) -> Rules {
    let step = |policy: &Policy| {
        let amount = if policy.kind == "Percent" { Amount::Percent(policy.value) } else { Amount::Pods(policy.value) };
        Step { amount, period: policy.period * SECOND }
    };
    Rules {
        window: direction.window * SECOND,
        select: match direction.select.as_str() {
            "Max" => Select::Max,
            "Min" => Select::Min,
            _ => Select::Disabled,
        },
        steps: direction.policies.iter().map(step).collect(),
        tolerance: direction.tolerance.unwrap_or(TOLERANCE),
    }
}

fn reading(metric: &Metric, value: Option<i64>) -> Option<Reading> {
    let target = metric.target;
    value.map(|value| match metric.kind.as_str() {
        "Value" => Reading::Value { value, target },
        _ => Reading::Average { value, target },
    })
}

#[test]
fn it_decides_as_the_controller_did() {
    let all: Vec<Series> = serde_json::from_str(include_str!("hpa/series.json")).unwrap();
    let (mut decided, mut changed) = (0, 0);
    for (number, series) in all.iter().enumerate() {
        let behavior = series.behavior.as_ref();
        let behavior = behavior.map(|both| Behavior { up: rules(&both.up), down: rules(&both.down) });
        let mut hpa = Hpa::new(series.min, series.max, behavior);
        for sync in &series.syncs {
            let metrics: Vec<_> =
                series.metrics.iter().zip(&sync.values).map(|(metric, value)| reading(metric, *value)).collect();
            let scale = Scale { spec: sync.spec, status: sync.status, ready: sync.ready };
            // From a moment on that is later than any window, so that nothing falls before 0.
            let desired = hpa.sync(micros(sync.at) + 3_600 * SECOND, scale, &metrics);
            assert_eq!(desired, sync.desired, "series {number}: {sync:?}");
            decided += 1;
            changed += u32::from(sync.desired != sync.spec);
        }
    }
    assert!(all.len() >= 300 && decided >= 15_000 && changed > 1_000, "{decided} syncs, {changed} changes");
}

/// All that was, and the rules once more: slower and plainer than in [`Hpa`]. One metric, one step for each direction of the same period.
struct Plain {
    recommended: Vec<(u64, i32)>,
    changes: Vec<(u64, i32)>,
}

impl Plain {
    fn sync(&mut self, now: u64, spec: i32, wanted: i32, (min, max): (i32, i32), behavior: &Behavior) -> i32 {
        if spec > max || spec < min {
            let desired = if spec > max { max } else { min };
            self.changes.push((now, desired - spec));
            return desired;
        }
        // Up to what all of the window wanted at least, down to what any of it wanted at most.
        let mut least = wanted;
        let mut most = wanted;
        for (at, count) in &self.recommended {
            if now - at < behavior.up.window {
                least = least.min(*count);
            }
            if now - at < behavior.down.window {
                most = most.max(*count);
            }
        }
        self.recommended.push((now, wanted));
        let mut desired = spec;
        if desired < least {
            desired = least;
        }
        if desired > most {
            desired = most;
        }
        // What it was when the period began.
        let rules = if desired > spec { &behavior.up } else { &behavior.down };
        let mut start = spec;
        for (at, change) in &self.changes {
            if now - at < rules.steps[0].period {
                start -= change;
            }
        }
        let Amount::Percent(percent) = rules.steps[0].amount else { panic!("per cent only") };
        let share = f64::from(percent) / 100.0;
        if desired > spec {
            let limit = (f64::from(start) * (1.0 + share)).ceil() as i32;
            desired = desired.min(max).min(limit.max(spec));
        } else if desired < spec {
            let limit = (f64::from(start) * (1.0 - share)).trunc() as i32;
            desired = desired.max(min).max(limit.min(spec));
        }
        if desired != spec {
            self.changes.push((now, desired - spec));
        }
        desired
    }
}

proptest! {
    #[test]
    fn it_follows_the_rules_as_restated(
        values in prop::collection::vec(0_i64..60_000, 1..80),
        windows in (0_u64..20, 0_u64..20),
        percents in (1_i32..200, 1_i32..100),
        period in 1_u64..8,
        first in 0_i32..30,
    ) {
        let (min, max) = (2, 20);
        let rules = |window: u64, percent| Rules {
            window: window * 15 * SECOND,
            select: Select::Max,
            steps: vec![Step { amount: Amount::Percent(percent), period: period * 15 * SECOND }],
            tolerance: 0.0,
        };
        let behavior = Behavior { up: rules(windows.0, percents.0), down: rules(windows.1, percents.1) };
        let mut hpa = Hpa::new(min, max, Some(behavior.clone()));
        let mut spec = first.max(1);
        let start = 3_600 * SECOND;
        let mut plain = Plain { recommended: vec![(start, spec)], changes: Vec::new() };
        for (place, value) in values.iter().enumerate() {
            let now = start + place as u64 * 15 * SECOND;
            let scale = Scale { spec, status: spec, ready: spec };
            let target = 2_000;
            let desired = hpa.sync(now, scale, &[Some(Reading::Average { value: *value, target })]);
            // With no tolerance a ratio of 1 is the number that there is.
            let wanted = ((*value as f64) / target as f64).ceil() as i32;
            prop_assert_eq!(desired, plain.sync(now, spec, wanted, (min, max), &behavior));
            spec = desired;
        }
    }
}
