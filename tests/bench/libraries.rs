//! Benchmark: `queue-exporter` beside what a library's own users scrape today, on the same Redis and the same queues:
//! RQ with rq-exporter, BullMQ with its own export method behind a small server. 1,000 queues unless `--sizes` says others.
//!
//! `make bench-libraries` installs both peers first.

mod bed;

use bed::{Bed, Outcome, POLLS, Times, command, free_address, paced, repeat, sample, scrape, start};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

/// How long each figure is averaged over, in seconds.
const SECONDS: u32 = 15;
/// Jobs that wait in each queue.
const JOBS: usize = 5;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A library, its queues, and its peer.
struct Library {
    layout: &'static str,
    fill: fn(&mut Bed, usize) -> Outcome<()>,
    /// The peer's command; it listens on the port that it is given.
    peer: fn(&Bed, u16, usize) -> Command,
}

struct Figures {
    scrape: Times,
    cpu_ms: f64,
    commands: f64,
    reads: f64,
}

fn run() -> Outcome<()> {
    let sizes = match env::args().skip_while(|arg| arg != "--sizes").nth(1) {
        Some(sizes) => sizes.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>()?,
        None => vec![1000],
    };
    let libraries = [
        Library { layout: "rq", fill: fill_rq, peer: rq_exporter },
        Library { layout: "bullmq", fill: fill_bullmq, peer: bullmq_export },
    ];
    println!(
        "library   queues  scrape p50, ms: ours  peer  ratio   CPU a scrape, ms: ours  peer  ratio   commands: ours  peer   reads: ours  peer"
    );
    for library in &libraries {
        for &n in &sizes {
            eprintln!("bench: measuring {n} queues of {}", library.layout);
            let mut bed = Bed::new()?;
            (library.fill)(&mut bed, n)?;
            bed.measure_idle(3)?;
            let ours = measure_ours(&mut bed, library, n)?;
            let peer = measure_peer(&mut bed, library, n)?;
            println!(
                "{:8} {n:7} {:22.2} {:6.1} 1/{:<5.0} {:22.1} {:6.1} 1/{:<5.0} {:16.0} {:6.0} {:13.0} {:6.0}",
                library.layout,
                ours.scrape.p50,
                peer.scrape.p50,
                peer.scrape.p50 / ours.scrape.p50,
                ours.cpu_ms,
                peer.cpu_ms,
                peer.cpu_ms / ours.cpu_ms,
                ours.commands,
                peer.commands,
                ours.reads,
                peer.reads,
            );
        }
    }
    Ok(())
}

/// CPU is per poll and scrape, once a second.
fn measure_ours(bed: &mut Bed, library: &Library, n: usize) -> Outcome<Figures> {
    let address = free_address()?;
    let file = bed.dir.0.join("queues.yaml");
    let rows: String = (0..n).map(|queue| format!("- queue: {}:q{queue}\n", library.layout)).collect();
    fs::write(&file, format!("queues:\n{rows}"))?;
    let binary = option_env!("CARGO_BIN_EXE_queue-exporter").unwrap_or("queue-exporter");
    let mut command = command(binary);
    command.env("REDIS_URL", &bed.url).env("QUEUES_FILE", &file).env("LISTEN_ADDR", address.to_string());
    command.envs([("MAX_QUEUES", "20000"), ("RUST_LOG", "warn")]);
    let is_up = |body: &[u8]| String::from_utf8_lossy(body).contains("redis_queue_up{queue=\"q0\"");
    let (process, _) = start(&mut command, address, 1, is_up)?;
    // Past the first polls, which read more.
    thread::sleep(Duration::from_millis(3500));
    let mut body = Vec::new();
    scrape(address, &mut body)?;
    let ((scrapes, cpu_ms, polls), load) = bed.observe(|| {
        let (cpu, polls) = (process.cpu_with_ended_threads_ms()?, sample(&body, POLLS)?);
        let scrapes = paced(SECONDS, || scrape(address, &mut body))?;
        Ok((scrapes, process.cpu_with_ended_threads_ms()? - cpu, sample(&body, POLLS)? - polls))
    })?;
    let length = String::from_utf8_lossy(&body).contains(&format!("layout=\"{}\"}} {JOBS}\n", library.layout));
    if !length {
        return Err(format!("queue-exporter does not see {JOBS} jobs in the queues of {}", library.layout).into());
    }
    let load = load.per(polls);
    Ok(Figures { scrape: Times::of(&scrapes), cpu_ms: cpu_ms / polls, commands: load.commands, reads: load.reads })
}

fn measure_peer(bed: &mut Bed, library: &Library, n: usize) -> Outcome<Figures> {
    let address = free_address()?;
    let mut command = (library.peer)(bed, address.port(), n);
    command.stderr(Stdio::null());
    let (process, _) = start(&mut command, address, 1, |body| String::from_utf8_lossy(body).contains("q0"))?;
    let mut body = Vec::new();
    // once a second for its CPU, as ours is; back to back for its latency, with warm caches
    let ((count, cpu_ms), load) = bed.observe(|| {
        let cpu = process.cpu_with_ended_threads_ms()?;
        let scrapes = paced(SECONDS, || scrape(address, &mut body))?;
        Ok((scrapes.len() as f64, process.cpu_with_ended_threads_ms()? - cpu))
    })?;
    let scrapes = repeat(SECONDS, || scrape(address, &mut body))?;
    let load = load.per(count);
    Ok(Figures { scrape: Times::of(&scrapes), cpu_ms: cpu_ms / count, commands: load.commands, reads: load.reads })
}

fn cache(path: &str) -> String {
    format!("{}/.cache/live/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn rq_exporter(bed: &Bed, port: u16, _queues: usize) -> Command {
    let mut command = command(&cache("rq-exporter/bin/rq-exporter"));
    command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--redis-url", &bed.url]);
    command
}

fn bullmq_export(bed: &Bed, port: u16, queues: usize) -> Command {
    let mut command = command("node");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/bullmq_export.js"));
    command.args([port.to_string(), queues.to_string()]);
    command.env("REDIS_URL", &bed.url).env("NODE_PATH", cache("node/node_modules"));
    command
}

fn fill_rq(bed: &mut Bed, n: usize) -> Outcome<()> {
    for queue in 0..n {
        let mut pipe = redis::pipe();
        pipe.cmd("SADD").arg(&["rq:queues", &format!("rq:queue:q{queue}")]);
        for job in 0..JOBS {
            let id = format!("{queue}-{job}");
            pipe.cmd("RPUSH").arg(&[&format!("rq:queue:q{queue}"), &id]);
            pipe.cmd("HSET").arg(&[
                &format!("rq:job:{id}"),
                "enqueued_at",
                "2026-11-25T09:46:00.000000Z",
                "status",
                "queued",
            ]);
        }
        for registry in ["wip", "scheduled", "failed", "finished", "deferred"] {
            pipe.cmd("ZADD").arg(&[&format!("rq:{registry}:q{queue}"), "4000000000", "a"]);
        }
        pipe.exec(&mut bed.admin)?;
    }
    Ok(())
}

fn fill_bullmq(bed: &mut Bed, n: usize) -> Outcome<()> {
    for queue in 0..n {
        let of = |part: &str| format!("bull:q{queue}:{part}");
        let mut pipe = redis::pipe();
        pipe.cmd("HSET").arg(&[&of("meta"), "version", "bullmq:5.81.5", "opts.maxLenEvents", "10000"]);
        for job in 0..JOBS {
            let id = job.to_string();
            pipe.cmd("LPUSH").arg(&[&of("wait"), &id]);
            pipe.cmd("HSET").arg(&[&of(&id), "timestamp", "1795600000000", "opts", "{}", "data", "{}"]);
        }
        pipe.cmd("LPUSH").arg(&[of("active"), "a".into()]);
        for set in ["delayed", "failed", "completed"] {
            pipe.cmd("ZADD").arg(&[&of(set), "8000000000000000", "a"]);
        }
        pipe.exec(&mut bed.admin)?;
    }
    Ok(())
}
