//! The alert rules: promtool's own tests of each, and what keeps them usable: a runbook, links, a test, metrics that exist, and a
//! route. `tests/alerts/*.test.yaml` say when each fires and when it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;
use support::chart::ROOT;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(ROOT).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; make test installs it, by tests/setup.sh"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

fn files(folder: &str, end: &str) -> Vec<String> {
    let entries = std::fs::read_dir(format!("{ROOT}/{folder}")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<String> =
        names.filter(|name| name.ends_with(end)).map(|name| format!("{folder}/{name}")).collect();
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

/// All rules, recording and alerting.
fn rules() -> Vec<Value> {
    let mut all = Vec::new();
    for file in files("alerts", ".rules.yaml") {
        let text = std::fs::read_to_string(format!("{ROOT}/{file}")).unwrap();
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        for group in value["groups"].as_array().unwrap() {
            all.extend(group["rules"].as_array().unwrap().clone());
        }
    }
    all
}

fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}

#[test]
fn rules_are_valid_and_keep_to_their_tests() {
    let rule_files = files("alerts", ".rules.yaml");
    let mut arguments = vec!["check", "rules", "--lint=all", "--lint-fatal"];
    arguments.extend(rule_files.iter().map(String::as_str));
    run("promtool", &arguments);
    let tests = files("tests/alerts", ".test.yaml");
    let mut arguments = vec!["test", "rules"];
    arguments.extend(tests.iter().map(String::as_str));
    run("promtool", &arguments);
}

#[test]
fn every_alert_has_a_test_a_runbook_and_links() {
    let tests: String = files("tests/alerts", ".test.yaml")
        .iter()
        .map(|file| std::fs::read_to_string(format!("{ROOT}/{file}")).unwrap())
        .collect();
    let mut names = BTreeSet::new();
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        assert!(names.insert(name.to_string()), "{name} is there twice");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test in which it fires");
        assert!(["page", "ticket", "info"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        let annotations = &alert["annotations"];
        for text in ["summary", "description"] {
            assert!(annotations[text].as_str().is_some_and(|text| text.len() > 20), "{name}: {text}");
        }
        let runbook = annotations["runbook_url"].as_str().unwrap();
        assert!(runbook.ends_with(&format!("/alerts/runbooks/{name}.md")), "{name}: {runbook}");
        let text = std::fs::read_to_string(format!("{ROOT}/alerts/runbooks/{name}.md")).expect(name);
        for part in ["**Meaning.**", "**Impact.**", "**Diagnosis.**", "**Mitigation.**"] {
            assert!(text.contains(part), "{name}: {part}");
        }
        let board = annotations["dashboard_url"].as_str().unwrap();
        // The variables hold names of queues: what is named after a worker is stripped to that.
        let worker = board.split_once("var-worker=").map_or("", |(_, worker)| worker);
        assert!(
            worker.is_empty() || worker.contains("$labels.queue") || worker.contains("reReplaceAll"),
            "{name}: {board}"
        );
        let boards =
            ["queues", "scaling", "cost", "exporter"].map(|board| format!("/d/queue-exporter-{board}?var-namespace="));
        assert!(boards.iter().any(|start| board.starts_with(start)), "{name}: {board}");
    }
    let runbooks = files("alerts/runbooks", ".md");
    let runbooks: BTreeSet<String> =
        runbooks.iter().map(|file| file.rsplit('/').next().unwrap().trim_end_matches(".md").to_string()).collect();
    assert_eq!(runbooks, names);
}

/// A rule on a metric that nobody publishes never fires.
#[test]
fn every_metric_of_a_rule_exists() {
    let catalogue = std::fs::read_to_string(format!("{ROOT}/tests/golden/metrics.txt")).unwrap();
    let others = std::fs::read_to_string(format!("{ROOT}/tests/alerts/others.txt")).unwrap();
    let all = rules();
    let mut recorded: BTreeSet<&str> = all.iter().filter_map(|rule| rule["record"].as_str()).collect();
    // Of the chart's table, where there is one.
    recorded.extend(["worker:price:usd_per_cpu_hour", "worker:price:usd_per_gib_hour"]);
    let mut foreign = BTreeSet::new();
    for rule in &all {
        for word in
            rule["expr"].as_str().unwrap().split(|letter: char| !letter.is_alphanumeric() && !"_:".contains(letter))
        {
            if word.trim_matches(':').contains(':') {
                assert!(recorded.contains(word), "{word} is not recorded");
            } else if word.starts_with("redis_") || word.starts_with("queue_exporter_") {
                let family = word.trim_end_matches("_bucket");
                assert!(catalogue.contains(&format!("# TYPE {family} ")), "{word} is not published");
            } else if ["kube_", "keda_", "aggregator_", "node_"].iter().any(|start| word.starts_with(start)) {
                foreign.insert(word);
            }
        }
    }
    assert_eq!(foreign, others.lines().collect(), "tests/alerts/others.txt");
}

#[test]
fn alerts_are_routed_by_severity_and_silenced_by_what_explains_them() {
    let config = "alerts/alertmanager.yaml";
    run("amtool", &["check-config", config]);
    let all = alerts();
    for alert in &all {
        let severity = alert["labels"]["severity"].as_str().unwrap();
        let name = format!("alertname={}", alert["alert"].as_str().unwrap());
        let severity_label = format!("severity={severity}");
        let test = [
            "config",
            "routes",
            "test",
            "--config.file",
            config,
            "--verify.receivers",
            severity,
            &name,
            &severity_label,
        ];
        run("amtool", &test);
    }
    let text = std::fs::read_to_string(format!("{ROOT}/{config}")).unwrap();
    let value: Value = serde_saphyr::from_str(&text).unwrap();
    let names: BTreeSet<&str> = all.iter().map(|alert| alert["alert"].as_str().unwrap()).collect();
    for rule in value["inhibit_rules"].as_array().unwrap() {
        for matcher in [&rule["source_matchers"][0], &rule["target_matchers"][0]] {
            let pattern = matcher.as_str().unwrap().rsplit(['=', '~']).next().unwrap().trim().trim_matches('"');
            for name in pattern.split('|').filter(|name| !name.contains(".+")) {
                assert!(names.contains(name), "{name} is silenced, or silences, but does not exist");
            }
        }
    }
}
