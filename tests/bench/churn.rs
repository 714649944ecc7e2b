//! `make churn`: an exporter that finds about 10,000 queues by a pattern, for SOAK_SECONDS (3600): each second 25 go and 25 others come, so
//! that an hour sees 100,000 names; five clients scrape it each second; Redis is killed every five minutes and comes back empty, to be filled
//! again. Every minute a line: resident memory, descriptors, polls, queues shown, and the slowest scrape. It exits with 1 where memory grows by more
//! than a tenth of itself from the second sixth of the time to the last, or where descriptors do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod process;
#[path = "../support/mod.rs"]
mod support;

use process::{descriptors, median, resident};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::{Exporter, Redis, free_port};

const QUEUES: usize = 9_800;
/// That go and come each second.
const TURNOVER: usize = 25;
const SCRAPERS: usize = 5;
const REDIS_LIVES: u64 = 300;

fn main() {
    let seconds: u64 = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_600);
    let port = free_port();
    let mut redis = Some(Redis::start_on(port, &[]));
    let mut names: VecDeque<usize> = (0..QUEUES).collect();
    fill(redis.as_ref().unwrap(), &names);
    let url = format!("redis://127.0.0.1:{port}");
    let exporter = Exporter::start_with(&[
        ("REDIS_URL", &url),
        ("QUEUES", "sidekiq:*"),
        ("POLL_INTERVAL", "1s"),
        ("RATE_WINDOW", "60s"),
        ("STALE_AFTER", "5s"),
        ("DISCOVERY_TTL", "30s"),
        ("RUST_LOG", "error"),
    ]);
    let exporter = Arc::new(exporter);
    let (stop, slowest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let scrapers: Vec<_> = (0..SCRAPERS)
        .map(|_| {
            let (exporter, stop, slowest) = (exporter.clone(), stop.clone(), slowest.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    assert_eq!(exporter.get("/metrics").expect("/metrics answers").status, 200);
                    slowest.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_secs(1));
                }
            })
        })
        .collect();
    println!("minute  resident MB  descriptors  polls  queues  slowest scrape ms");
    let (start, mut lines) = (Instant::now(), Vec::new());
    let mut polls = exporter.metrics().polls();
    for second in 1..=seconds {
        std::thread::sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
        if second % REDIS_LIVES == 0 {
            drop(redis.take());
            std::thread::sleep(Duration::from_secs(2));
            redis = Some(Redis::start_on(port, &[]));
            fill(redis.as_ref().unwrap(), &names);
        }
        let gone: VecDeque<usize> = names.drain(..TURNOVER).collect();
        let newest = names.back().copied().unwrap_or(0);
        let came: VecDeque<usize> = (newest + 1..=newest + TURNOVER).collect();
        names.extend(&came);
        let redis = redis.as_ref().unwrap();
        let mut pipe = redis::pipe();
        for name in gone {
            pipe.cmd("SREM").arg("queues").arg(format!("q{name}")).ignore().del(format!("queue:q{name}")).ignore();
        }
        pipe.query::<()>(&mut redis.connect()).unwrap();
        fill(redis, &came);
        if second % 60 == 0 {
            let metrics = exporter.metrics();
            let (resident, descriptors) = (resident(&exporter), descriptors(&exporter));
            println!(
                "{:>6}  {resident:>11.1}  {descriptors:>11}  {:>5}  {:>6}  {:>17.1}",
                second / 60,
                metrics.polls() - polls,
                metrics.value("queue_exporter_queues").unwrap_or(0.0),
                slowest.swap(0, Ordering::Relaxed) as f64 / 1_000.0
            );
            polls = metrics.polls();
            lines.push((resident, descriptors as f64));
        }
    }
    stop.store(true, Ordering::Relaxed);
    scrapers.into_iter().for_each(|scraper| scraper.join().unwrap());
    let cpu = exporter.metrics().value("process_cpu_seconds_total").unwrap_or(0.0);
    println!("CPU: {:.1} % of a core", cpu / start.elapsed().as_secs_f64() * 100.0);
    let sixth = lines.len().div_ceil(6);
    let of = |part: fn(&(f64, f64)) -> f64| {
        (median(lines.iter().skip(sixth).take(sixth).map(part)), median(lines.iter().rev().take(sixth).map(part)))
    };
    let (memory, files) = (of(|line| line.0), of(|line| line.1));
    println!("resident memory, median of the second sixth and of the last: {:.1} MB, {:.1} MB", memory.0, memory.1);
    std::process::exit(i32::from(memory.1 > memory.0 * 1.1 || files.1 > files.0 * 1.1));
}

/// Puts in queues of two jobs each.
fn fill(redis: &Redis, names: &VecDeque<usize>) {
    let mut connection = redis.connect();
    for part in names.iter().collect::<Vec<_>>().chunks(1_000) {
        let mut pipe = redis::pipe();
        for name in part {
            pipe.sadd("queues", format!("q{name}")).ignore();
            for job in ["{\"enqueued_at\":1700000000.1}", "{\"enqueued_at\":1700000000.2}"] {
                pipe.lpush(format!("queue:q{name}"), job).ignore();
            }
        }
        pipe.query::<()>(&mut connection).unwrap();
    }
}
