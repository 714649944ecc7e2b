//! A demonstration: real queues with real producers and workers on a Redis of its own, and beside what `queue-exporter`
//! says of them the truth, as the workload itself keeps it.
//!
//! `demo EXPORTER_BINARY [--seconds N]`. With `--seconds` it ends by itself, and fails where a number was wrong.

mod programs;
mod report;
mod workload;

use report::{Scrape, Screen};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use workload::Workload;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// What of a `--seconds` run its end takes: stopping the workload, and letting the exporter see all of it.
const SETTLING: u64 = 5;
const USAGE: &str = "usage: demo EXPORTER_BINARY [--seconds N]";

fn main() -> ExitCode {
    match options().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    exporter: PathBuf,
    seconds: Option<u64>,
}

fn options() -> Result<Options> {
    let mut arguments = std::env::args().skip(1);
    let exporter = arguments.next().ok_or(USAGE)?;
    let exporter = std::fs::canonicalize(&exporter).map_err(|error| format!("{exporter}: {error}"))?;
    let seconds = match arguments.next().as_deref() {
        None => None,
        Some("--seconds") => Some(arguments.next().and_then(|number| number.parse().ok()).ok_or(USAGE)?),
        Some(_) => return Err(USAGE.into()),
    };
    Ok(Options { exporter, seconds })
}

/// The exporter starts before there is any job: of those that were there before its first look it can't know the age.
fn run(options: Options) -> Result {
    let (mut redis, url) = programs::start_redis()?;
    let (mut exporter, address) = programs::start_exporter(&options.exporter, &url)?;
    let mut workload = Workload::start(&url)?;
    let load = options.seconds.map(|seconds| Duration::from_secs(seconds.saturating_sub(SETTLING).max(1)));
    let (mut screen, start) = (Screen::new(address), Instant::now());
    while load.is_none_or(|load| start.elapsed() < load) {
        thread::sleep(Duration::from_secs(1));
        redis.check()?;
        exporter.check()?;
        workload.check()?;
        screen.show(&Scrape::get(address)?, &workload.queues, false)?;
    }
    workload.stop()?;
    let scrape = Scrape::get(address)?;
    screen.show(&scrape, &workload.queues, true)?;
    report::verdict(&scrape, &workload.queues)?;
    println!("\nThe workload has stopped, and the exporter's numbers are the true ones.");
    Ok(())
}
