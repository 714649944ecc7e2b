//! `queue-exporter replay` and `queue-exporter tune`: from their arguments to what is printed.

use super::advice;
use super::csv;
use super::history;
use super::options::{Load, Options};
use super::page::page;
use super::report::{report, table};
use super::seconds;
use super::table::{Worker, read};
use super::workload::{Scale, Workload, fits};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Why a command came to nothing.
#[derive(Debug)]
pub enum Fault {
    /// What was given is wrong.
    Given(String),
    /// What was asked did not answer.
    Unavailable(String),
    /// A file could not be written.
    Refused(String),
}

/// One worker with what it is replayed on.
pub struct Case {
    /// Its row.
    pub worker: Worker,
    /// Its jobs.
    pub workload: Workload,
    /// What was assumed of them.
    pub assumptions: Vec<String>,
}

/// Replays; gives what is to be printed.
///
/// # Errors
/// See [`Fault`].
pub async fn replay(options: &Options) -> Result<String, Fault> {
    let mut reports = Vec::new();
    for case in cases(options, options.seed).await? {
        progress(&case.worker.name, "replaying", 0.0);
        reports.push(report(&case.worker, &case.workload, &options.terms, &case.assumptions));
    }
    done();
    if let Some(path) = &options.page {
        write(path, &page(&reports))?;
    }
    if options.json {
        let json = serde_json::to_string_pretty(&reports).map_err(|error| Fault::Refused(error.to_string()))?;
        return Ok(json + "\n");
    }
    Ok(reports.iter().map(table).collect::<Vec<_>>().join("\n"))
}

/// Tunes each worker; gives what is to be printed, and whether all keep their objective.
///
/// # Errors
/// See [`Fault`].
pub async fn tune(options: &Options) -> Result<(String, bool), Fault> {
    let mut assumed = String::new();
    // Of each worker what it is tuned on, and what it is tried on.
    let mut all: Vec<(Worker, [Vec<Workload>; 2])> = Vec::new();
    if let Load::Shape { .. } = options.load {
        for place in 1..=5 {
            for (part, seed) in [place, 100 + place].into_iter().enumerate() {
                for (number, case) in cases(options, options.seed * 1_000 + seed).await?.into_iter().enumerate() {
                    if all.len() <= number {
                        all.push((case.worker, Default::default()));
                    }
                    if let Some(parts) = all.get_mut(number).and_then(|(_, parts)| parts.get_mut(part)) {
                        parts.push(case.workload);
                    }
                }
            }
        }
    } else {
        for case in cases(options, options.seed).await? {
            let mut parts: [Vec<Workload>; 2] = Default::default();
            let (days, least) = (case.workload.days(), 10.0 * case.worker.row.objective());
            if days.len() < 2 || days.iter().any(|day| seconds(day.length) < least) {
                return Err(Fault::Given(format!(
                    "worker {}: the load is too short to be tuned on one part and tried on another; give two days, or {:.0} minutes at least",
                    case.worker.name,
                    4.0 * least / 60.0
                )));
            }
            // By turns, so that both have each time of the week.
            for (place, day) in days.into_iter().enumerate() {
                if let Some(parts) = parts.get_mut(place % 2) {
                    parts.push(day);
                }
            }
            for assumption in &case.assumptions {
                assumed += &format!("{}: {assumption}\n", case.worker.name);
            }
            all.push((case.worker, parts));
        }
    }
    let (mut text, mut kept) = (assumed, true);
    for (worker, [training, held_out]) in &all {
        let found = advice::advice(worker, training, held_out, &options.terms, options.keep_busy, |share| {
            progress(&worker.name, "tuning", share);
        });
        kept &= found.is_ok();
        text += &found.unwrap_or_else(|refusal| refusal);
        text.push('\n');
    }
    done();
    Ok((text, kept))
}

async fn cases(options: &Options, seed: u64) -> Result<Vec<Case>, Fault> {
    let given = options.values.iter().map(|path| read_file(path, "--values")).collect::<Result<Vec<_>, _>>()?;
    let mut workers = read(&given).map_err(|faults| Fault::Given(faults.join("\n")))?;
    if let Some(unknown) = options.workers.iter().find(|name| !workers.iter().any(|worker| worker.name == **name)) {
        let names: Vec<&str> = workers.iter().map(|worker| worker.name.as_str()).collect();
        return Err(Fault::Given(format!("--worker is {unknown:?}; the table has {}", names.join(", "))));
    }
    workers.retain(|worker| options.workers.is_empty() || options.workers.contains(&worker.name));
    match &options.load {
        Load::Shape { shape, hours } => workers
            .into_iter()
            .map(|worker| {
                let row = &worker.row;
                let scale = Scale {
                    job_seconds: job_seconds(&worker)?,
                    slots: row.max_replicas as f64 * row.slots as f64,
                    objective: row.objective(),
                    seconds: hours * 3_600.0,
                };
                fits(scale.slots / scale.job_seconds * scale.seconds, scale.seconds).map_err(Fault::Given)?;
                let workload = shape.workload(scale, seed);
                Ok(Case { worker, workload, assumptions: Vec::new() })
            })
            .collect(),
        Load::Csv(path) => {
            let text = read_file(path, "--csv")?;
            let wanted = |name: &str| name.is_empty() || workers.iter().any(|worker| worker.name == name);
            let takes = |name: &str, rng: &mut Rng| {
                let worker =
                    workers.iter().find(|worker| worker.name == name || name.is_empty() && workers.len() == 1)?;
                (worker.row.job_seconds > 0.0).then(|| -(1.0 - rng.f64()).ln() * worker.row.job_seconds)
            };
            let found = csv::read(text.as_bytes(), wanted, takes, seed)
                .map_err(|fault| Fault::Given(format!("{}: {fault}", path.display())))?;
            of_file(workers, found).map_err(|fault| Fault::Given(format!("{}: {fault}", path.display())))
        }
        Load::Prometheus { url, days, matchers, header } => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
            let end = now / 60 * 60;
            let span = (end - (days * 1_440.0) as u64 * 60, end);
            let source = history::Source { url: url.clone(), matchers: matchers.clone(), header: header.clone(), span };
            let mut cases = Vec::new();
            for worker in workers {
                let asked =
                    history::ask(&source, &worker.name, |share| progress(&worker.name, "asking Prometheus", share));
                let found = asked.await.map_err(Fault::Unavailable)?;
                let mut assumptions = found.assumptions.clone();
                let takes = match found.job_seconds {
                    Some(seconds) => {
                        assumptions.push(format!(
                            "a job takes {seconds:.3} s on average, by the jobs in flight and done (Little's law)"
                        ));
                        seconds
                    }
                    None => {
                        assumptions.push(
                            "how long a job takes can't be told from the history; jobSeconds of the row is used".into(),
                        );
                        job_seconds(&worker)?
                    }
                };
                assumptions.push(
                    "jobs come at random moments of their minutes, and how long each takes is exponential".into(),
                );
                let workload = found.workload(takes, seed).map_err(Fault::Given)?;
                cases.push(Case { worker, workload, assumptions });
            }
            Ok(cases)
        }
    }
}

/// The workloads of a file for the workers that they are of.
fn of_file(workers: Vec<Worker>, mut found: BTreeMap<String, Workload>) -> Result<Vec<Case>, String> {
    if let (Some(workload), [worker]) = (found.get(""), workers.as_slice()) {
        return Ok(vec![Case { worker: worker.clone(), workload: workload.clone(), assumptions: of_counts() }]);
    }
    let names = workers.iter().map(|worker| worker.name.as_str()).collect::<Vec<_>>().join(", ");
    let cases: Vec<Case> = workers
        .into_iter()
        .filter_map(|worker| Some(Case { workload: found.remove(&worker.name)?, worker, assumptions: of_counts() }))
        .collect();
    if cases.is_empty() {
        return Err(format!(
            "it has no jobs of the workers {names}; add a column `worker`, or choose one with --worker"
        ));
    }
    Ok(cases)
}

/// What is assumed of a file's lines.
fn of_counts() -> Vec<String> {
    vec!["of lines with a count, jobs come at random moments; without seconds they take times that are exponential about jobSeconds".into()]
}

fn job_seconds(worker: &Worker) -> Result<f64, Fault> {
    let seconds = worker.row.job_seconds;
    let fault = || {
        Fault::Given(format!("worker {}: how long a job takes is not known; set jobSeconds in its row", worker.name))
    };
    if seconds > 0.0 { Ok(seconds) } else { Err(fault()) }
}

fn read_file(path: &Path, option: &str) -> Result<String, Fault> {
    std::fs::read_to_string(path)
        .map_err(|error| Fault::Given(format!("{option}: can't read {}: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Fault> {
    std::fs::write(path, text)
        .map_err(|error| Fault::Refused(format!("--page: can't write {}: {error}", path.display())))
}

/// Says how far it is, where somebody looks.
fn progress(worker: &str, what: &str, share: f64) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let bar = "#".repeat((share * 30.0) as usize);
        let _ = write!(out, "\r\x1b[K{worker}: {what} [{bar:<30}]");
        let _ = out.flush();
    }
}

fn done() {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K");
    }
}
