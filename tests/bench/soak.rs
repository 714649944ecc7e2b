//! `make soak`: an exporter with 1,000 queues and 1,000 open streams for SOAK_SECONDS (3600), while jobs come and go, streams are cut and
//! opened again, some readers read nothing, and Redis is away now and then. Every minute a line: resident memory, descriptors, and
//! how long the first jobs took to be pushed. It exits with 1 where memory grows by more than a tenth of itself from the second sixth of the time to the last.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::grpc::Scaler;
use support::process::{descriptors, median, resident};
use support::{Exporter, Redis, free_port};
use tokio::task::JoinHandle;

const QUEUES: usize = 1_000;
/// Streams whose messages nobody reads.
const SLOW: usize = 50;

type Sent = Arc<Mutex<HashMap<usize, Instant>>>;
type Took = Arc<Mutex<Vec<f64>>>;

fn main() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_600);
    let redis = Redis::start();
    let port = free_port();
    let queues: String = (0..QUEUES).map(|queue| format!("  - {{queue: 'list:q{queue}?in_flight=busy{queue}', scale_up_depth: 20, scale_down_depth: 5, objective_age: 1m}}\n")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("queues:\n{queues}")).unwrap();
    let (url, address) = (redis.url(), format!("127.0.0.1:{port}"));
    let variables = [
        ("REDIS_URL", url.as_str()),
        ("QUEUES_FILE", file.path().to_str().unwrap()),
        ("GRPC_ADDR", &address),
        ("POLL_INTERVAL", "1s"),
        ("RATE_WINDOW", "60s"),
        ("STALE_AFTER", "5s"),
        ("RUST_LOG", "error"),
    ];
    let exporter = Exporter::start_with(&variables);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let grown = runtime.block_on(soak(&redis, &exporter, port, Duration::from_secs(seconds)));
    std::process::exit(i32::from(grown));
}

async fn soak(redis: &Redis, exporter: &Exporter, port: u16, length: Duration) -> bool {
    let (sent, took) = (Sent::default(), Took::default());
    // Two operators of KEDA, each with its one connection.
    let scalers = [Scaler::new(port), Scaler::new(port)];
    let open = |queue: usize| tokio::spawn(listen(scalers[queue % 2].clone(), queue, sent.clone(), took.clone()));
    let mut streams: Vec<JoinHandle<()>> = (0..QUEUES).map(open).collect();
    let mut connection = redis.connect();
    let (start, mut minute) = (Instant::now(), Instant::now());
    let mut memory = Vec::new();
    let cpu = cpu_seconds(exporter);
    println!("minute  resident MB  descriptors  pushes  push ms p50   p99   max");
    for step in 0_usize.. {
        if start.elapsed() >= length {
            break;
        }
        // Ten first jobs a second, each taken two seconds later, over all queues in turn.
        let queue = step % QUEUES;
        sent.lock().unwrap().insert(queue, Instant::now());
        redis::cmd("LPUSH").arg(format!("q{queue}")).arg(step).query::<()>(&mut connection).unwrap();
        if step >= 20 {
            redis::cmd("DEL").arg(format!("q{}", (step - 20) % QUEUES)).query::<()>(&mut connection).unwrap();
        }
        if step % 37 == 0 {
            let cut = fastrand::usize(0..QUEUES);
            streams[cut].abort();
            streams[cut] = open(cut);
        }
        if step % 6_000 == 5_900 {
            redis.signal("STOP");
            tokio::time::sleep(Duration::from_secs(8)).await;
            redis.signal("CONT");
            sent.lock().unwrap().clear();
        }
        if minute.elapsed() >= Duration::from_secs(60) {
            minute = Instant::now();
            memory.push(report(start, exporter, &took));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("CPU: {:.1} % of a core", (cpu_seconds(exporter) - cpu) / start.elapsed().as_secs_f64() * 100.0);
    // Of the second sixth, when all is warm, and the last one.
    let sixth = memory.len().div_ceil(6);
    let early = median(memory.iter().skip(sixth).take(sixth).copied());
    let late = median(memory.iter().rev().take(sixth).copied());
    println!("resident memory, median of the second sixth and of the last: {early:.1} MB, {late:.1} MB");
    late > early * 1.1
}

/// One stream, opened again when it ends; a slow reader reads nothing of it.
async fn listen(scaler: Scaler, queue: usize, sent: Sent, took: Took) {
    loop {
        if let Ok(mut stream) = scaler.stream(&format!("queue=q{queue}")).await {
            if queue < SLOW {
                std::future::pending::<()>().await;
            }
            while let Ok(Some(_)) = stream.message().await {
                if let Some(sent) = sent.lock().unwrap().remove(&queue) {
                    took.lock().unwrap().push(sent.elapsed().as_secs_f64() * 1_000.0);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn report(start: Instant, exporter: &Exporter, took: &Took) -> f64 {
    let (megabytes, descriptors) = (resident(exporter), descriptors(exporter));
    let mut took = std::mem::take(&mut *took.lock().unwrap());
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get(((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1)));
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| at(share).copied().unwrap_or(f64::NAN));
    let minutes = start.elapsed().as_secs() / 60;
    println!(
        "{minutes:>6}  {megabytes:>11.1}  {descriptors:>11}  {:>6}  {p50:>11.0} {p99:>5.0} {max:>5.0}",
        took.len()
    );
    megabytes
}

fn cpu_seconds(exporter: &Exporter) -> f64 {
    exporter.metrics().value("process_cpu_seconds_total").unwrap_or(0.0)
}
