//! The whole loop on the real control plane and the real KEDA: jobs, exporter, Prometheus, KEDA, HPA, pods, workers.
//!
//! `cluster BIN TOOLS EXPORTER REPORT [SCENARIO...]`: the folder of the plane's programs, that of the chart's tools, the exporter, and
//! where the report goes; all scenarios with both triggers, or those that are named. It exits with 1 if one ends otherwise than
//! it must. `latency` as the only scenario compares the triggers with the real defaults.

mod apply;
mod certificates;
mod keda;
mod latency;
mod nodes;
mod plane;
mod process;
mod scenarios;
mod timeline;
mod workers;
mod world;

use anyhow::{Context, Result};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;
use world::{Places, World};

/// Those whose triggers need Prometheus.
const PROMETHEUS_ONLY: [&str; 4] = ["age", "rate", "prometheus-down", "state-metrics-down"];

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
        println!("the logs are in {}", run.keep().join("logs").display());
    }
    outcome
}

async fn all(places: Places, report: &Path, names: &[String]) -> Result<()> {
    if names.iter().any(|name| name == "latency") {
        return compare(places, report).await;
    }
    let began = Instant::now();
    let mut world = World::start(places, "2s", "1s").await?;
    println!("up after {:.0} s", began.elapsed().as_secs_f64());
    let mut table = "| scenario | trigger | seconds | outcome |\n|---|---|---|---|\n".to_string();
    let mut failed = 0;
    for (name, about) in scenarios::ALL {
        for trigger in ["prometheus", "metrics-api"] {
            let chosen =
                names.is_empty() || names.iter().any(|wanted| wanted == name || *wanted == format!("{name}:{trigger}"));
            if !chosen || (trigger == "metrics-api" && PROMETHEUS_ONLY.contains(&name)) {
                continue;
            }
            let began = Instant::now();
            let outcome = scenarios::run(&mut world, name, trigger).await;
            let seconds = began.elapsed().as_secs_f64();
            let line = match &outcome {
                Ok(samples) => {
                    let picture = timeline::svg(&format!("{name}, {trigger}: {about}"), samples);
                    std::fs::write(report.join(format!("{name}-{trigger}.svg")), picture)?;
                    "as it must be".to_string()
                }
                Err(fault) => {
                    failed += 1;
                    world.uninstall().await.context("cleaning up")?;
                    format!("FAILED: {fault:#}")
                }
            };
            println!("{name} ({trigger}), {seconds:.0} s: {line}");
            let _ = writeln!(table, "| {name} | {trigger} | {seconds:.0} | {} |", line.replace('\n', " "));
        }
    }
    std::fs::write(report.join("report.md"), &table)?;
    println!("{:.0} s in all", began.elapsed().as_secs_f64());
    anyhow::ensure!(failed == 0, "{failed} scenarios failed");
    Ok(())
}

/// How often each comparison is made: a burst may come at any moment of the periods.
const ROUNDS: u64 = 3;

async fn compare(places: Places, report: &Path) -> Result<()> {
    let mut world = World::start(places, "15s", "5s").await?;
    let mut table = "| trigger | burst to more workers, s | long jobs killed of 4 |\n|---|---|---|\n".to_string();
    for kind in latency::KINDS {
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            seconds.push(format!("{:.0}", latency::reaction(&mut world, kind).await?));
        }
        let killed = latency::killed(&mut world, kind).await?;
        let line = format!("| {kind} | {} | {killed} |", seconds.join(", "));
        println!("{line}");
        let _ = writeln!(table, "{line}");
    }
    std::fs::write(report.join("latency.md"), &table)?;
    Ok(())
}
