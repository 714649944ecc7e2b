//! `queue-exporter replay` and `tune` as a user runs them: loads that are made, of a file, and of a real Prometheus; what they refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};
use support::prometheus::{Moment, Prometheus};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queue-exporter"));
    command.args(arguments).env_clear().output().unwrap()
}

fn reports(arguments: &[&str]) -> Value {
    let output = run(&[&["replay", "--output", "json"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn fault(arguments: &[&str], code: i32) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    String::from_utf8(if output.stderr.is_empty() { output.stdout } else { output.stderr }).unwrap()
}

fn written(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path.display().to_string())
}

#[test]
fn a_page_holds_all_workers_and_loads_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let output = run(&["replay", "--shape", "ramp", "--hours", "1", "--page", path.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(path).unwrap();
    for part in ["<h2>crawler</h2>", "<h2>ocr</h2>", "<polyline class=late", "least, if all in time"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("url("));
}

#[test]
fn the_tables_way_is_first_and_none_in_time_costs_less_than_the_least() {
    for report in reports(&["--shape", "diurnal", "--hours", "2"]).as_array().unwrap() {
        let (lines, least) = (report["lines"].as_array().unwrap(), report["least_cost"].as_f64().unwrap());
        assert_eq!(lines[0]["name"], "this table");
        for line in lines.iter().filter(|line| line["in_time"] == 1.0) {
            assert!(line["cost"].as_f64().unwrap() >= least, "{line} costs less than {least}");
        }
    }
}

#[test]
fn a_file_of_jobs() {
    let jobs: String = (0..600).map(|second| format!("{second},1.5,crawler\n")).collect();
    let (_folder, path) = written("jobs.csv", &format!("time,seconds,worker\n{jobs}"));
    let reports = reports(&["--csv", &path]);
    let report = &reports[0];
    assert_eq!(
        (reports.as_array().unwrap().len(), &report["worker"], &report["jobs"]),
        (1, &"crawler".into(), &600.into())
    );
    assert!((report["job_seconds"].as_f64().unwrap() - 1.5).abs() < 1e-9);
}

#[test]
fn tuning_gives_a_row_that_costs_less_and_keeps_the_objective() {
    let seed = "keda/chart/presets/seed.yaml";
    let output = run(&["tune", "--shape", "flat", "--hours", "1", "--worker", "crawler", "--values", seed]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let cost = |line: &str| {
        let line = text.lines().find(|found| found.trim().starts_with(line)).unwrap();
        let cost: f64 = line.split("cost ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        cost
    };
    assert!(cost("tuned ") < cost("this row"), "{text}");
    assert!(text.contains("+     scaleUpDepth:") && text.contains("-     scaleUpDepth: 20\n"), "{text}");
}

#[test]
fn an_objective_that_cant_be_kept_is_refused_with_the_reason() {
    let few = written("values.yaml", "workers: {crawler: {maxReplicas: 3}, ocr: null, parser: null, labeler: null}");
    let load: String = (0..7_200).map(|second| format!("{second},5,crawler\n")).collect();
    let load = written("jobs.csv", &format!("time,seconds,worker\n{load}"));
    let told = fault(&["tune", "--values", &few.1, "--csv", &load.1], 1);
    assert!(
        told.contains("with 3 workers at most, no plan starts all jobs within") && told.contains("raise maxReplicas"),
        "{told}"
    );
}

#[test]
fn faults_are_told_with_the_remedy() {
    let refused = written("values.yaml", "workers: {crawler: {maxReplicas: 1}, ocr: {scaleDownDepth: 40}}");
    let told = fault(&["replay", "--shape", "flat", "--values", &refused.1], 64);
    assert!(
        told.contains("worker crawler: maxReplicas 1 is under minReplicas 2")
            && told.contains("worker ocr: scaleUpDepth 37"),
        "{told}"
    );
    for (arguments, part) in [
        (vec!["replay"], "give one of --shape, --csv and --prometheus"),
        (
            vec!["tune", "--shape", "flat", "--worker", "nobody"],
            "--worker is \"nobody\"; the table has crawler, labeler, ocr, parser",
        ),
        (vec!["replay", "--csv", "/nowhere.csv"], "--csv: can't read /nowhere.csv"),
        (vec!["replay", "--shape", "flat", "--hours", "x"], "--hours is \"x\"; it must be a number"),
    ] {
        let told = fault(&arguments, 64);
        assert!(told.contains(part), "{told}");
    }
    for (text, part) in [
        ("time,worker\n1,else\n", "no line of the workers"),
        ("time,jobs,worker\n1,1e12,crawler\n", "line 2: jobs is \"1e12\"; it must be a number from 0 to"),
        ("time,jobs,worker\n1,3e7,crawler\n2,3e7,crawler\n", "the load has 60000000 jobs; at most 50000000"),
        ("time,worker\n0,crawler\n3e9,crawler\n", "the load spans 34722 days; at most 366"),
    ] {
        let (_folder, path) = written("jobs.csv", text);
        let told = fault(&["replay", "--csv", &path], 64);
        assert!(told.contains(part), "{told}");
    }
    for (row, part) in [
        ("maxReplica: 20", "unknown key maxReplica"),
        ("pollingInterval: 0", "pollingInterval is 0; it must be from 1"),
        ("jobSeconds: 1.0e+300", "jobSeconds is 1"),
        ("slots: 1000000000000", "slots is 1000000000000; it must be from 1 to 10000"),
        ("scaleDown: {percent: 0}", "scaleDown.percent is 0; it must be from 1 to 100"),
        ("scaleUp: {periodSeconds: soon}", "scaleUp.periodSeconds is not as it should be: invalid type"),
    ] {
        let (_folder, path) = written("values.yaml", &format!("workers: {{crawler: {{{row}}}}}"));
        let told = fault(&["replay", "--shape", "flat", "--values", &path], 64);
        assert!(told.contains(part), "{told}");
    }
    let silent = format!("http://127.0.0.1:{}", support::free_port());
    assert!(fault(&["replay", "--prometheus", &silent, "--worker", "ocr"], 69).contains("can't connect"));
}

/// Two hours of a job a second, four in flight, whose counters began anew once and were not there for ten minutes.
#[test]
fn a_history_in_a_real_prometheus() {
    let now = usize::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
    let (minutes, start) = (150, now / 60 * 60 - 140 * 60);
    let moment = |minute: usize| {
        let queue = "{queue=\"crawler\",layout=\"list\"}";
        if (40..50).contains(&minute) {
            return Moment::new();
        }
        let counted = if minute < 90 { minute * 60 } else { (minute - 90) * 60 };
        Moment::from([
            (format!("redis_queue_arrivals_total{queue}"), counted as f64),
            (format!("redis_queue_processed_total{queue}"), counted as f64),
            (format!("redis_queue_in_flight{queue}"), 4.0),
            (format!("redis_queue_observation_gaps_total{queue}"), 0.0),
        ])
    };
    let moments: Vec<Moment> = (0..minutes).map(moment).collect();
    let prometheus = Prometheus::since(start, 60, &moments);
    let url = prometheus.url();
    let reports = reports(&["--prometheus", &url, "--days", "0.0833", "--worker", "crawler"]);
    let report = &reports[0];
    let jobs = report["jobs"].as_u64().unwrap();
    assert!((7_000..=7_200).contains(&jobs), "{jobs}");
    assert!((report["job_seconds"].as_f64().unwrap() - 4.0).abs() < 0.2, "{report}");
    let assumptions = report["assumptions"].to_string();
    for part in ["began anew 1 times", "minutes are missing", "Little's law"] {
        assert!(assumptions.contains(part), "{assumptions}");
    }
    let told = fault(&["replay", "--prometheus", &url, "--worker", "ocr"], 69);
    assert!(told.contains("has no redis_queue_arrivals_total of queue \"ocr\""), "{told}");
}
