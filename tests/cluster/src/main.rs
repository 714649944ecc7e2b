//! The whole loop on the real control plane and the real KEDA: jobs, exporter, Prometheus, KEDA, HPA, pods, workers.
//!
//! `cluster BIN TOOLS EXPORTER REPORT [SCENARIO...]`: the folder of the plane's programs, that of the chart's tools, the exporter, and
//! where the report goes; all scenarios, or those that are named (`burst` with both kinds of trigger, `burst:prometheus`). It exits with 1 if one ends otherwise than
//! it must. `latency` as the only scenario compares how soon more workers come with each kind of trigger, `activation` how soon
//! the first of an idle queue, `killed` the jobs that each kills, `pictures` keeps what the dashboards show under load.

mod apply;
mod certificates;
mod failover;
mod keda;
mod killed;
mod nodes;
mod pictures;
mod plane;
mod process;
#[path = "../../support/quicker.rs"]
mod quicker;
mod reaction;
mod scenarios;
mod service;
mod timeline;
mod usage;
mod workers;
mod world;

use anyhow::{Context, Result};
use std::collections::VecDeque;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use world::{Places, World};

/// Worlds beside one another: most of the time each waits.
const LANES: usize = 3;

/// Those that run with both triggers unless some are named: the others are about the same parts with either.
const BOTH: [&str; 6] = ["burst", "band", "long-jobs", "zero", "exporter-killed", "redis-killed"];

/// Those whose triggers need Prometheus.
const PROMETHEUS_ONLY: [&str; 2] = ["prometheus-down", "state-metrics-down"];

/// Those that are about the external scaler alone, or the chart's default, which it is.
const PUSHED_ONLY: [&str; 2] = ["documented", "two-exporters"];

/// Those that run with the external scaler, too, unless some are named.
const PUSHED: [&str; 13] = [
    "documented",
    "burst",
    "band",
    "long-jobs",
    "zero",
    "age",
    "rate",
    "steady",
    "exporter-killed",
    "redis-killed",
    "redis-failed-over",
    "keda-restarted",
    "two-exporters",
];

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bin, tools, exporter, report, names @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: cluster BIN TOOLS EXPORTER REPORT [SCENARIO...]");
    };
    let run = tempfile::Builder::new().prefix("queue-exporter-cluster").tempdir()?;
    let places = Places {
        bin: bin.into(),
        helm: Path::new(tools).join("bin/helm3"),
        crds: Path::new(tools).join("crds/keda-2.21.0"),
        exporter: exporter.into(),
        project: std::env::current_dir()?,
        run: run.path().into(),
    };
    let report = PathBuf::from(report);
    std::fs::create_dir_all(&report)?;
    let outcome = tokio::select! {
        outcome = all(places, &report, names) => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    if outcome.is_err() {
        println!("the logs are in {}", run.keep().display());
    }
    outcome
}

/// One scenario with one kind of trigger.
type Run = (&'static str, &'static str, &'static str);

fn chosen(names: &[String]) -> VecDeque<Run> {
    let mut runs = VecDeque::new();
    for (name, about) in scenarios::ALL {
        for trigger in ["prometheus", "metrics-api", "external-push"] {
            let wanted = |given: &String| given == name || *given == format!("{name}:{trigger}");
            let named = if names.is_empty() {
                match trigger {
                    "metrics-api" => BOTH.contains(&name),
                    "external-push" => PUSHED.contains(&name),
                    _ => true,
                }
            } else {
                names.iter().any(wanted)
            };
            let works = match trigger {
                "prometheus" | "metrics-api" if PUSHED_ONLY.contains(&name) => false,
                "metrics-api" => !PROMETHEUS_ONLY.contains(&name),
                "external-push" => !PROMETHEUS_ONLY.contains(&name),
                _ => true,
            };
            if named && works {
                runs.push_back((name, about, trigger));
            }
        }
    }
    runs
}

async fn all(places: Places, report: &Path, names: &[String]) -> Result<()> {
    match names {
        [name] if name == "latency" => return reactions(places, report, &reaction::BURST).await,
        [name] if name == "killed" => return kills(places, report).await,
        [name] if name == "activation" => return reactions(places, report, &reaction::FIRST_JOB).await,
        [name] if name == "pictures" => {
            let mut world = World::start(places, "2s", "2s").await?;
            let shown = pictures::pictures(&mut world).await?;
            std::fs::write(report.join("pictures.json"), serde_json::to_string(&shown)?)?;
            return Ok(());
        }
        _ => {}
    }
    let began = Instant::now();
    let runs = Mutex::new(chosen(names));
    let (table, failed) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let lanes = (0..LANES).map(|lane| {
        let places = Places { run: places.run.join(lane.to_string()), ..places.clone() };
        one_after_another(places, report, &runs, &table, &failed)
    });
    futures_util::future::try_join_all(lanes).await?;
    let mut rows = table.into_inner().unwrap_or_default();
    rows.sort();
    let head = "| scenario | trigger | seconds | outcome |\n|---|---|---|---|\n";
    std::fs::write(report.join("report.md"), format!("{head}{}\n", rows.join("\n")))?;
    println!("{:.0} s in all", began.elapsed().as_secs_f64());
    let failed = failed.into_inner();
    anyhow::ensure!(failed == 0, "{failed} scenarios failed");
    Ok(())
}

/// Takes runs until none is left, in a world of its own.
async fn one_after_another(
    places: Places,
    report: &Path,
    runs: &Mutex<VecDeque<Run>>,
    table: &Mutex<Vec<String>>,
    failed: &AtomicUsize,
) -> Result<()> {
    let next = || runs.lock().ok().and_then(|mut runs| runs.pop_front());
    let Some(mut run) = next() else { return Ok(()) };
    std::fs::create_dir_all(&places.run)?;
    let mut world = World::start(places, "2s", "1s").await?;
    loop {
        let (name, about, trigger) = run;
        let began = Instant::now();
        let outcome = scenarios::run(&mut world, name, trigger).await;
        let seconds = began.elapsed().as_secs_f64();
        let line = match &outcome {
            Ok(record) => {
                let picture = timeline::svg(&format!("{name}, {trigger}: {about}"), &record.samples);
                std::fs::write(report.join(format!("{name}-{trigger}.svg")), picture)?;
                std::fs::write(report.join(format!("{name}-{trigger}.json")), record.json().to_string())?;
                "as it must be".to_string()
            }
            Err(fault) => {
                failed.fetch_add(1, Ordering::Relaxed);
                world.uninstall().await.context("cleaning up")?;
                format!("FAILED: {fault:#}")
            }
        };
        println!("{name} ({trigger}), {seconds:.0} s: {line}");
        if let Ok(mut table) = table.lock() {
            table.push(format!("| {name} | {trigger} | {seconds:.0} | {} |", line.replace('\n', " ")));
        }
        match next() {
            Some(following) => run = following,
            None => return Ok(()),
        }
    }
}

async fn reactions(places: Places, report: &Path, case: &reaction::Case) -> Result<()> {
    let mut world = World::start(places, "15s", "5s").await?;
    let mut table =
        "| trigger | tries | half within, s | 99 of 100 within, s | longest, s |\n|---|---|---|---|---|\n".to_string();
    println!("{table}");
    for (kind, tries) in case.kinds {
        let seconds = reaction::reaction(&mut world, case, kind, tries).await?;
        let [half, most, longest] = [0.5, 0.99, 1.0].map(|share| reaction::at(&seconds, share));
        let line = format!("| {kind} | {tries} | {half:.2} | {most:.2} | {longest:.2} |");
        println!("{line}");
        let _ = writeln!(table, "{line}");
    }
    std::fs::write(report.join("reaction.md"), &table)?;
    Ok(())
}

async fn kills(places: Places, report: &Path) -> Result<()> {
    let mut world = World::start(places, "15s", "5s").await?;
    let mut table =
        "| trigger | workers when the long jobs were all that was left | long jobs killed of 4 |\n|---|---|---|\n"
            .to_string();
    let mut ours = 0;
    for kind in killed::KINDS {
        let (workers, killed) = killed::killed(&mut world, kind).await?;
        ours += if kind == "redis" { 0 } else { killed };
        let line = format!("| {kind} | {workers} | {killed} |");
        println!("{line}");
        let _ = writeln!(table, "{line}");
    }
    std::fs::write(report.join("killed.md"), &table)?;
    anyhow::ensure!(ours == 0, "{ours} long jobs were killed by triggers of the chart");
    Ok(())
}
