//! The dashboards: what Grafana needs, what a reader needs, and that every query gives series of what the exporter publishes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use support::chart::ROOT;
use support::prometheus::{Moment, Prometheus};

fn dashboards() -> Vec<(String, Value)> {
    let entries = std::fs::read_dir(format!("{ROOT}/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<(String, Value)> = entries
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(|path| {
            (path.display().to_string(), serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
        })
        .collect();
    assert!(!found.is_empty());
    found
}

fn panels(dashboard: &Value) -> &Vec<Value> {
    dashboard["panels"].as_array().unwrap()
}

#[test]
fn dashboards_can_be_imported_and_read() {
    for (path, dashboard) in dashboards() {
        let name = path.rsplit('/').next().unwrap().trim_end_matches(".json");
        assert_eq!(dashboard["uid"], format!("queue-exporter-{name}"), "stable, for links hang on it");
        assert!(
            dashboard["id"].is_null() && dashboard["editable"] == false && dashboard["schemaVersion"] == 39,
            "{path}"
        );
        let variables = dashboard["templating"]["list"].as_array().unwrap();
        assert_eq!(variables[0]["type"], "datasource", "{path}");
        for variable in &variables[1..] {
            assert_eq!(variable["refresh"], 2, "{path}: a variable is stale when the time range changes");
            assert_eq!(variable["allValue"], ".*", "{path}");
        }
        let mut ids = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for panel in panels(&dashboard) {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{path}: {title}");
            assert!(panel["description"].as_str().unwrap().len() > 30, "{path}: {title}");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{path}: {title}");
            for runbook in panel["description"].as_str().unwrap().split("/alerts/runbooks/").skip(1) {
                assert!(
                    std::path::Path::new(&format!("{ROOT}/alerts/runbooks/{}", runbook.split(' ').next().unwrap()))
                        .exists()
                );
            }
            let at = |side: &str| panel["gridPos"][side].as_u64().unwrap();
            assert!(at("x") + at("w") <= 24, "{path}: {title}");
            for x in at("x")..at("x") + at("w") {
                for y in at("y")..at("y") + at("h") {
                    assert!(taken.insert((x, y)), "{path}: {title} lies over another");
                }
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{path}: {title}");
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                assert!(!query.contains("rate(") || query.contains("[$__rate_interval]"), "{path}: {title}");
                assert!(query.contains("max by"), "{path}: {title}: two exporters would count twice");
            }
        }
    }
}

#[test]
fn dashboards_are_of_the_types_that_grafana_publishes() {
    let check =
        std::process::Command::new("tests/dashboards/schema/check.sh").arg(".cache/schema").current_dir(ROOT).output();
    let check = check.expect("make test installs nodejs and npm, by tests/setup.sh");
    assert!(
        check.status.success(),
        "{}{}",
        String::from_utf8_lossy(&check.stdout),
        String::from_utf8_lossy(&check.stderr)
    );
}

/// The golden scrape, where everything is known of one queue, as Prometheus would keep it; and what others publish of its
/// workers, by the names in tests/dashboards/others.txt.
fn moment() -> Moment {
    let read = |path: &str| std::fs::read_to_string(format!("{ROOT}/tests/{path}")).unwrap();
    let named = |line: &&str| line.starts_with("redis_queue_") || line.starts_with("queue_exporter_");
    let scrape = read("golden/metrics.txt");
    let ours = scrape.lines().filter(named).map(|line| match line.split_once('{') {
        Some((name, rest)) => format!("{name}{{namespace=\"jobs\",instance=\"a\",{rest}"),
        None => line.replacen(' ', "{namespace=\"jobs\",instance=\"a\"} ", 1),
    });
    let others = read("dashboards/others.txt");
    let lines: Vec<String> = ours.chain(others.lines().map(String::from)).collect();
    let split = |line: &String| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_string(), value.parse().unwrap())
    };
    lines.iter().map(split).collect()
}

#[test]
fn every_query_gives_series() {
    let prometheus = Prometheus::holding(&[moment()]);
    for (path, dashboard) in dashboards() {
        let targets = panels(&dashboard).iter().flat_map(|panel| panel["targets"].as_array().unwrap());
        let annotations = dashboard["annotations"]["list"].as_array().unwrap();
        for asking in targets.chain(annotations) {
            let mut query = asking["expr"].as_str().unwrap().replace("$__rate_interval", "1m");
            for variable in ["$namespace", "$queue", "$worker"] {
                query = query.replace(variable, ".*");
            }
            let found = prometheus.at_first(&query);
            // these need two scrapes, and this is one
            let over_time = ["rate(", "increase(", "changes("].iter().any(|function| query.contains(function));
            assert!(!found.is_empty() || over_time, "{path}: nothing for {query}");
        }
    }
}
