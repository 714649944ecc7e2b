//! The chart's table of workers, as `helm install --values FILE` takes it: its rows on top of the chart's own values, and what the
//! templates make of each.

use super::SECOND;
use super::hpa::{Amount, Behavior, Rules, Select, Step, TOLERANCE};
use super::plan::{Asked, Plan, Trigger};
use crate::config::parse_duration;
use crate::spec::Policy;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

const CHART: &str = include_str!("../../keda/chart/values.yaml");

/// Maps of a row that are filled up key by key, as `_workers.tpl` does; all else is replaced whole.
const FILLED: [&str; 8] = ["image", "scaleDown", "scaleUp", "spot", "job", "resources", "rollingUpdate", "price"];

/// Keys of a row that `workerDefaults` has no values for.
const OWN: [&str; 6] = ["queue", "minReplicas", "maxReplicas", "scaleUpDepth", "scaleDownDepth", "objectiveAge"];

/// One row that is scaled.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name, and that of its queue.
    pub name: String,
    /// What the row says.
    pub row: Row,
    /// `trigger`.
    pub trigger: String,
    /// CPU cores and GiB that a worker requests.
    pub requests: (f64, f64),
    /// What of the row is not replayed, in words.
    pub left_out: Vec<String>,
}

/// What is used of a row.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // as keda/chart/values.yaml describes them
pub struct Row {
    pub queue: String,
    pub kind: String,
    pub enabled: bool,
    pub min_replicas: i32,
    pub max_replicas: i32,
    pub scale_up_depth: u64,
    pub scale_down_depth: u64,
    pub objective_age: String,
    pub job_seconds: f64,
    pub arrival_rate: bool,
    pub catch_up: String,
    pub slots: u64,
    pub in_flight: Value,
    pub scale_up: Direction,
    pub scale_down: Direction,
    pub polling_interval: u64,
    pub cooldown_period: u64,
    pub cpu_utilization: f64,
    pub memory_utilization: f64,
    pub cron: Vec<Value>,
    pub termination_grace_period_seconds: u64,
    pub spot: Spot,
    pub price: Price,
    resources: Resources,
}

/// `scaleUp` or `scaleDown`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Direction {
    pub stabilization_window_seconds: u64,
    pub percent: i32,
    pub period_seconds: u64,
}

/// `spot`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Spot {
    pub enabled: bool,
    pub termination_grace_period_seconds: u64,
}

/// `price`: what a worker's nodes cost, in whatever currency.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Price {
    /// Of a CPU for an hour.
    pub cpu_hour: f64,
    /// Of a GiB of memory for an hour.
    pub gib_hour: f64,
    /// The share that a spot node saves.
    pub spot_discount: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq)]
struct Resources {
    requests: Map<String, Value>,
}

/// What the table does not say.
#[derive(Clone, Copy, Debug)]
pub struct Cluster {
    /// Kubernetes 1.35 or later, where the chart sets the HPA's tolerance to 0.
    pub tolerance_is_set: bool,
    /// The share of its CPU request that a busy worker uses, where `cpuUtilization` is to be replayed.
    pub busy_cpu: Option<f64>,
}

/// Reads a table: what helm is given with `--values`, each on top of the ones before.
///
/// # Errors
/// All faults, each with the row and the remedy.
pub fn read<T: AsRef<str>>(texts: &[T]) -> Result<Vec<Worker>, Vec<String>> {
    let parse = |text: &str| {
        serde_saphyr::from_str::<Value>(text).map_err(|error| vec![format!("values are no YAML: {error}")])
    };
    let mut values = parse(CHART)?;
    for text in texts {
        let given = parse(text.as_ref())?;
        if !given.is_object() && !given.is_null() {
            return Err(vec!["values are no map; write what you give helm with --values".into()]);
        }
        merge(&mut values, given);
    }
    let part = |name: &str| values.get(name).unwrap_or(&Value::Null);
    let trigger = part("trigger").as_str().unwrap_or_default().to_string();
    let (mut workers, mut faults) = (Vec::new(), Vec::new());
    if !["prometheus", "metrics-api", "external-push"].contains(&trigger.as_str()) {
        faults.push(format!("trigger is {trigger:?}; it must be prometheus, metrics-api or external-push"));
    }
    for (name, given) in part("workers").as_object().into_iter().flatten().filter(|(_, row)| !row.is_null()) {
        match worker(name, part("workerDefaults"), given, &trigger) {
            Ok(worker) if worker.row.enabled => workers.push(worker),
            Ok(_) => {}
            Err(fault) => faults.push(format!("worker {name}: {fault}")),
        }
    }
    if workers.is_empty() && faults.is_empty() {
        faults.push("the table has no worker; give one in `workers`".into());
    }
    if faults.is_empty() { Ok(workers) } else { Err(faults) }
}

/// As Helm merges values: maps key by key, and null takes a key away.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(&key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from,
    }
}

fn worker(name: &str, defaults: &Value, given: &Value, trigger: &str) -> Result<Worker, String> {
    let mut row = defaults.as_object().ok_or("workerDefaults is no map")?.clone();
    for (key, value) in given.as_object().ok_or("the row is no map")? {
        if !row.contains_key(key) && !OWN.contains(&key.as_str()) {
            return Err(format!("unknown key {key}; see the chart's values.yaml"));
        }
        match (row.get_mut(key), value) {
            (Some(Value::Object(default)), Value::Object(value)) if FILLED.contains(&key.as_str()) => {
                default.extend(value.clone());
            }
            _ => {
                row.insert(key.clone(), value.clone());
            }
        }
    }
    let row: Row = serde_path_to_error::deserialize(Value::from(row)).map_err(|error| {
        format!("{} is not as it should be: {}; see the chart's values.yaml", error.path(), error.inner())
    })?;
    check(&row, trigger)?;
    let quantity = |name: &str| match row.resources.requests.get(name) {
        Some(Value::String(text)) => {
            quantity(text).ok_or(format!("resources.requests.{name} is {text:?}, which is no quantity"))
        }
        Some(Value::Number(number)) => Ok(number.as_f64().unwrap_or(0.0)),
        _ => Ok(0.0),
    };
    let requests = (quantity("cpu")?, quantity("memory")? / f64::from(1_u32 << 30));
    let mut left_out = Vec::new();
    if row.memory_utilization > 0.0 {
        left_out.push("memoryUtilization: what a job does to memory is not known".into());
    }
    if !row.cron.is_empty() {
        left_out.push("cron: a replay has no time of day".into());
    }
    if row.spot.enabled {
        left_out.push(
            "spot: floor and spot workers are scaled as one, so that the last spot worker goes without KEDA's cooldown"
                .into(),
        );
    }
    Ok(Worker { name: name.into(), row, trigger: trigger.into(), requests, left_out })
}

/// What the chart and its schema refuse of the values that are used here, in their words.
fn check(row: &Row, trigger: &str) -> Result<(), String> {
    let Row { min_replicas: min, max_replicas: max, scale_up_depth: up, scale_down_depth: down, .. } = row;
    if *min < 0 || *max < 1 {
        return Err(format!("minReplicas {min} and maxReplicas {max} must be 0 and 1 at least"));
    }
    if max < min {
        return Err(format!("maxReplicas {max} is under minReplicas {min}; raise the one or lower the other"));
    }
    if *down == 0 || 2 * down > *up {
        return Err(format!(
            "scaleUpDepth {up} is under twice scaleDownDepth {down}; with less between them, workers would come and go by turns"
        ));
    }
    if parse_duration(&row.objective_age).is_none() {
        return Err(format!(
            "objectiveAge is {:?}; it must be over 0, with a unit, such as 90s or 5m",
            row.objective_age
        ));
    }
    let ranges = [
        ("slots", row.slots as f64, 1.0, 10_000.0),
        ("maxReplicas", f64::from(row.max_replicas), 1.0, 100_000.0),
        ("jobSeconds", row.job_seconds, 0.0, 1e7),
        ("pollingInterval", row.polling_interval as f64, 1.0, 1e6),
        ("cooldownPeriod", row.cooldown_period as f64, 0.0, 1e6),
        ("terminationGracePeriodSeconds", row.termination_grace_period_seconds as f64, 0.0, 1e7),
        ("spot.terminationGracePeriodSeconds", row.spot.termination_grace_period_seconds as f64, 0.0, 1e7),
        ("scaleUp.stabilizationWindowSeconds", row.scale_up.stabilization_window_seconds as f64, 0.0, 3_600.0),
        ("scaleDown.stabilizationWindowSeconds", row.scale_down.stabilization_window_seconds as f64, 0.0, 3_600.0),
        ("scaleUp.percent", f64::from(row.scale_up.percent), 1.0, 1e6),
        ("scaleDown.percent", f64::from(row.scale_down.percent), 1.0, 100.0),
        ("scaleUp.periodSeconds", row.scale_up.period_seconds as f64, 1.0, 1_800.0),
        ("scaleDown.periodSeconds", row.scale_down.period_seconds as f64, 1.0, 1_800.0),
        ("objectiveAge", row.objective(), 1.0, 1e7),
        ("price.cpuHour", row.price.cpu_hour, 0.0, 1e9),
        ("price.gibHour", row.price.gib_hour, 0.0, 1e9),
        ("price.spotDiscount", row.price.spot_discount, 0.0, 1.0),
    ];
    for (name, value, least, most) in ranges {
        if !(least..=most).contains(&value) {
            return Err(format!("{name} is {value}; it must be from {least} to {most}"));
        }
    }
    if row.kind != "Deployment" {
        return Err(format!(
            "kind is {}; only a Deployment can be replayed: set enabled: false for this row",
            row.kind
        ));
    }
    if row.spot.enabled && trigger == "metrics-api" {
        return Err("spot.enabled needs trigger: prometheus or external-push".into());
    }
    Ok(())
}

/// A quantity of Kubernetes: 250m, 2, 512Mi.
fn quantity(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 9] = [
        ("Ki", 1_024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
    ];
    let unit = UNITS.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    let (number, size) = unit.unwrap_or((text, 1.0));
    number.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0).map(|number| number * size)
}

impl Row {
    /// In seconds.
    #[must_use]
    pub fn objective(&self) -> f64 {
        parse_duration(&self.objective_age).map_or(0.0, |age| age.as_secs_f64())
    }

    /// `worker.inFlight` of `_workers.tpl`.
    #[must_use]
    pub fn sees_in_flight(&self) -> bool {
        let layout = self.queue.split(':').next().unwrap_or_default();
        match &self.in_flight {
            Value::Bool(seen) => *seen,
            Value::String(text) if text == "auto" => match layout {
                "list" | "zset" => self.queue.contains("in_flight="),
                other => !["huey", "taskiq"].contains(&other),
            },
            Value::String(text) => text == "true",
            _ => false,
        }
    }

    /// Whether counters of the library, or of its workers, say how many jobs came and went.
    fn counted(&self) -> bool {
        let (layout, options) = self.queue.split_once(':').unwrap_or((&self.queue, ""));
        match layout {
            "list" => options.contains("processed=") || options.contains("notify=true"),
            other => !["celery", "huey", "resque", "taskiq"].contains(&other),
        }
    }

    fn direction(&self, direction: Direction, tolerance: f64) -> Rules {
        let step = Step { amount: Amount::Percent(direction.percent), period: direction.period_seconds * SECOND };
        let window = direction.stabilization_window_seconds * SECOND;
        Rules { window, select: Select::Max, steps: vec![step], tolerance }
    }

    /// What the exporter is told of the queue.
    fn policy(&self) -> Policy {
        Policy {
            objective_age: parse_duration(&self.objective_age),
            scale_up_depth: Some(self.scale_up_depth),
            scale_down_depth: Some(self.scale_down_depth),
            min_workers: Some(self.min_replicas.unsigned_abs().into()),
            max_workers: Some(self.max_replicas.unsigned_abs().into()),
            worker_slots: Some(self.slots),
            job_seconds: (self.job_seconds > 0.0 && self.arrival_rate)
                .then(|| Duration::from_secs_f64(self.job_seconds)),
            catch_up: parse_duration(&self.catch_up),
            arrival_rate: (!self.arrival_rate).then_some(false),
            keep_busy: (!self.sees_in_flight()).then_some(false),
        }
    }
}

impl Worker {
    /// What one costs for an hour, on a node that stays.
    #[must_use]
    pub fn price(&self) -> f64 {
        self.requests.0 * self.row.price.cpu_hour + self.requests.1 * self.row.price.gib_hour
    }

    /// How it is scaled.
    #[must_use]
    pub fn plan(&self, cluster: Cluster) -> Plan {
        let row = &self.row;
        let resources = row.cpu_utilization > 0.0 || row.memory_utilization > 0.0;
        let exact = cluster.tolerance_is_set && !resources;
        let slots = row.sees_in_flight().then_some(row.slots);
        let mut triggers = match self.trigger.as_str() {
            "prometheus" => {
                let mut triggers = vec![
                    Trigger::Backlog { depth: row.scale_up_depth, exact },
                    Trigger::Keep { depth: row.scale_down_depth, exact },
                    Trigger::Age { objective: row.objective(), slots },
                ];
                triggers.extend(slots.map(|slots| Trigger::InFlight { slots }));
                if row.job_seconds > 0.0 && row.arrival_rate {
                    triggers.push(Trigger::Rate { job_seconds: row.job_seconds, slots: row.slots });
                }
                triggers
            }
            _ => vec![Trigger::Desired, Trigger::Length { target: row.scale_up_depth as f64 }],
        };
        if let Some(busy) = cluster.busy_cpu.filter(|_| row.cpu_utilization > 0.0) {
            triggers.push(Trigger::Cpu { target: row.cpu_utilization, busy: busy / row.slots as f64 });
        }
        let tolerance = if exact { 0.0 } else { TOLERANCE };
        let behavior =
            Behavior { up: row.direction(row.scale_up, tolerance), down: row.direction(row.scale_down, tolerance) };
        Plan {
            min: row.min_replicas,
            max: row.max_replicas,
            slots: row.slots,
            grace: row.termination_grace_period_seconds * SECOND,
            objective: row.objective(),
            triggers,
            behavior: Some(behavior),
            asked: match self.trigger.as_str() {
                "external-push" => Asked::Pushing,
                "metrics-api" => Asked::Exporter,
                _ => Asked::Prometheus,
            },
            polling: row.polling_interval * SECOND,
            cooldown: row.cooldown_period * SECOND,
            policy: row.policy(),
            counted: row.counted(),
            spot_grace: row.spot.enabled.then_some(row.spot.termination_grace_period_seconds * SECOND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_own_table() {
        let workers = read(&["trigger: prometheus"]).unwrap();
        let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
        assert_eq!(names, ["crawler", "labeler", "ocr", "parser"]);
        let crawler = workers[0].plan(Cluster { tolerance_is_set: true, busy_cpu: None });
        assert_eq!((crawler.min, crawler.max, crawler.objective), (2, 10, 120.0));
        assert!(crawler.triggers.contains(&Trigger::Backlog { depth: 46, exact: true }));
        assert!(crawler.triggers.contains(&Trigger::InFlight { slots: 1 }));
        assert!(!crawler.counted);
        assert_eq!(workers[2].requests, (1.0, 2.0));
        assert_eq!(workers[2].price(), 0.034 + 2.0 * 0.0045);
        assert_eq!(workers[2].left_out.len(), 1);
    }

    #[test]
    fn rows_are_merged_as_helm_and_the_chart_do() {
        let text = "trigger: external-push\nworkers: {ocr: null, parser: null, labeler: null, crawler: {scaleUpDepth: 20, scaleDownDepth: 5, scaleDown: {percent: 10}, slots: 4, price: {cpuHour: 0.5}}}";
        let workers = read(&[text]).unwrap();
        assert_eq!(workers.len(), 1);
        let (row, plan) = (&workers[0].row, workers[0].plan(Cluster { tolerance_is_set: false, busy_cpu: None }));
        assert_eq!((row.scale_down.percent, row.scale_down.stabilization_window_seconds), (10, 30));
        assert_eq!(row.price, Price { cpu_hour: 0.5, gib_hour: 0.0045, spot_discount: 0.65 });
        assert_eq!((plan.asked, plan.slots), (Asked::Pushing, 4));
        assert_eq!(plan.triggers, [Trigger::Desired, Trigger::Length { target: 20.0 }]);
    }

    #[test]
    fn what_the_chart_refuses_is_refused_at_once() {
        let text = "trigger: guess\nworkers: {crawler: {maxReplicas: 1}, ocr: {scaleDownDepth: 40}, parser: {objectiveAge: soon}, labeler: {slots: x}}";
        let faults = read(&[text]).unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:#?}");
        assert!(
            faults.iter().any(|fault| fault.starts_with("worker labeler: slots is not as it should be: invalid type"))
        );
        assert!(faults.iter().any(|fault| fault.starts_with("worker crawler: maxReplicas 1 is under minReplicas 2")));
    }

    #[test]
    fn quantities() {
        for (text, value) in
            [("250m", Some(0.25)), ("2", Some(2.0)), ("512Mi", Some(536_870_912.0)), ("2Qi", None), ("-1", None)]
        {
            assert_eq!(quantity(text), value, "{text}");
        }
    }
}
