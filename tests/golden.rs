//! Whole outputs, kept as files; `make golden` writes them anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use queue_exporter::curve::Age;
use queue_exporter::flow::{Count, Counts, Totals};
use queue_exporter::layout::{Beyond, Globals, Observation};
use queue_exporter::metrics::{LIBRARY_FAMILIES, QUEUE_FAMILIES, Stats, encode};
use queue_exporter::reader::LibraryName;
use queue_exporter::reads::ReadError;
use queue_exporter::snapshot::{Identity, LibraryRow, Reading, Row, Snapshot};
use queue_exporter::spec::Policy;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(text == golden, "{name} has changed; if it should, run `make golden`. It is now:\n{text}");
}

fn row(label: &str, layout: &'static str, policy: Policy, reading: Option<Reading>) -> Row {
    let problem = reading.is_none().then(|| Arc::from("WRONGTYPE"));
    Row {
        id: Arc::new(Identity::new(label.into(), layout, policy)),
        reading: reading.map(Arc::new),
        problem,
        trace: Arc::default(),
    }
}

/// A queue of which everything is known, one of which only a length is, and one that can't be read.
fn snapshot() -> Snapshot {
    let policy = Policy {
        objective_age: Some(Duration::from_millis(2_500)),
        scale_up_depth: Some(50),
        scale_down_depth: Some(10),
        min_workers: Some(3),
        max_workers: Some(20),
        ..Policy::default()
    };
    let seen = Observation {
        length: Some(7),
        in_flight: Some(2),
        beyond: Beyond::Nothing,
        due: Some(1),
        delayed: Some(3),
        retrying: Some(4),
        dead: Some(5),
        abandoned: Some(1),
        consumers: Some(2),
        slots: Some(8),
        paused: Some(false),
        age: Age::Known { seconds: 12.345_678_9, error: 0.5 },
        oldest_in_flight: Some(60.25),
        counts: Counts { arrivals: Count::Total(100), ..Counts::default() },
    };
    let totals = Totals {
        arrivals: Some(100),
        processed: Some(90),
        failed: Some(6),
        gaps: 2,
        arrival_rate: Some(1.5),
        processing_rate: Some(0.25),
    };
    let bare = Observation { length: Some(0), age: Age::AtLeast(3.0), ..Observation::default() };
    let rows = vec![
        row("ocr", "list", policy, Some(Reading { seen, totals, desired: Some(4) })),
        row(
            "a \"quoted\"\\\n📮",
            "stream",
            Policy::default(),
            Some(Reading { seen: bare, totals: Totals::default(), desired: None }),
        ),
        row("broken", "zset", policy, None),
    ];
    let globals = Globals { in_flight: Some(9), dead: Some(1), processed: Some(1_000), ..Globals::default() };
    let library =
        |prefix: &str, globals| LibraryRow { name: LibraryName { layout: "sidekiq", prefix: prefix.into() }, globals };
    Snapshot::new(rows, vec![library("app\"1:", Some(globals)), library("silent:", None)], true, true)
}

fn metrics() -> String {
    let stats = Stats::new(3, 1).unwrap();
    stats.polled(Duration::from_millis(3), Some(1_795_573_341.5));
    stats.failed(&ReadError::Refused("WRONGTYPE".into()));
    let text = String::from_utf8(encode(&snapshot(), &stats).to_vec()).unwrap();
    // The process's own numbers are of this test.
    let lines = text.lines().filter(|line| !line.contains("process_"));
    lines.map(|line| format!("{}\n", line.replace(env!("CARGO_PKG_VERSION"), "VERSION"))).collect()
}

#[test]
fn golden_metrics() {
    assert_golden("metrics.txt", &metrics());
}

#[test]
fn golden_replay() {
    for (name, arguments) in [
        ("replay-help.txt", vec!["replay", "--help"]),
        ("replay.txt", vec!["replay", "--shape", "steps", "--hours", "2"]),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_queue-exporter")).args(arguments).env_clear().output().unwrap();
        assert_golden(name, &String::from_utf8(output.stdout).unwrap());
    }
}

#[test]
fn golden_help() {
    let output = Command::new(env!("CARGO_BIN_EXE_queue-exporter")).arg("--help").output().unwrap();
    assert_golden("help.txt", &String::from_utf8(output.stdout).unwrap());
}

#[test]
fn the_readme_names_every_series_and_every_variable() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let metrics = metrics();
    let families = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut seen = 0;
    let library = LIBRARY_FAMILIES.iter().map(|family| family.name);
    for family in families.chain(QUEUE_FAMILIES.iter().map(|family| family.name)).chain(library) {
        assert!(readme.contains(&format!("`{family}`")), "the README does not name {family}");
        seen += 1;
    }
    assert!(seen > QUEUE_FAMILIES.len());
    let help = Command::new(env!("CARGO_BIN_EXE_queue-exporter")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let words = help.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_');
    for variable in words.filter(|word| word.len() > 5) {
        assert!(readme.contains(&format!("`{variable}`")), "the README does not name {variable}");
    }
}
