//! Records apalis-redis: `apalis_record REDIS_URL OUTDIR DUMP.PY`
//!
//! The database is flushed before each state. Each state runs in a process of its own, so that none of its workers lives
//! on into the next.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apalis::prelude::*;
use apalis_redis::{Config, ConnectionManager, RedisStorage};
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

const HOUR: u64 = 3600;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    number: usize,
    kind: String,
    payload: String,
}

#[derive(Clone)]
struct Known {
    queue: String,
    at_ms: u64,
    due_ms: u64,
    state: &'static str,
}

/// What producers and workers know of their jobs, without asking Redis.
#[derive(Default)]
struct Ledger {
    jobs: Vec<Known>,
    done: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}

type Shared = Arc<Mutex<Ledger>>;

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

impl Ledger {
    fn count(&self, queue: &str, state: &str) -> usize {
        self.jobs.iter().filter(|job| job.queue == queue && job.state == state).count()
    }

    fn truths(&self) -> Value {
        let mut truths = serde_json::Map::new();
        let now = now_ms();
        for queue in self.jobs.iter().map(|job| &job.queue) {
            let mine = |state| self.jobs.iter().filter(move |job| &job.queue == queue && job.state == state);
            truths.insert(
                queue.clone(),
                json!({
                    "waiting": mine("waiting").count(),
                    "in_flight": mine("in_flight").count(),
                    "delayed": mine("delayed").count(),
                    "delayed_overdue": mine("delayed").filter(|job| job.due_ms <= now).count(),
                    "retrying": mine("retrying").count(),
                    "dead": mine("dead").count(),
                    "processed_total": self.done.get(queue).unwrap_or(&0),
                    "failed_total": self.failed.get(queue).unwrap_or(&0),
                    "oldest_enqueued_at_ms": mine("waiting").map(|job| job.at_ms).min(),
                    "paused": false,
                }),
            );
        }
        truths.into()
    }
}

/// Waits for a condition: a recording must never depend on how fast the machine is.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("waited in vain: {what}");
}

struct Hand {
    connection: ConnectionManager,
    ledger: Shared,
}

impl Hand {
    fn storage(&self, queue: &str) -> RedisStorage<Job> {
        // An idle worker looks for jobs at its heartbeat alone; the default is 30 s.
        let beat = Duration::from_secs(if queue == "retries" { 30 } else { 1 });
        let config = Config::default().queue(queue).batch_size(2).heartbeat_interval(beat);
        RedisStorage::new(self.connection.clone()).with_config(config)
    }

    async fn add(&self, queue: &str, kind: &str, delay: u64, payload: String) {
        let at_ms = now_ms();
        let state = if delay > 0 { "delayed" } else { "waiting" };
        let number = {
            let mut ledger = self.ledger.lock().unwrap();
            ledger.jobs.push(Known { queue: queue.into(), at_ms, due_ms: at_ms + delay * 1000, state });
            ledger.jobs.len() - 1
        };
        let job = TaskBuilder::new(Job { number, kind: kind.into(), payload });
        let job = if delay > 0 { job.run_in_seconds(delay) } else { job };
        self.storage(queue).push_task(job.build()).await.unwrap();
    }

    async fn times(&self, count: usize, queue: &str, kind: &str) {
        for _ in 0..count {
            self.add(queue, kind, 0, String::new()).await;
        }
    }

    fn work(&self, queue: &str, concurrency: usize) {
        let ledger = self.ledger.clone();
        let worker = WorkerBuilder::new(format!("worker-of-{queue}"))
            .backend(self.storage(queue))
            .concurrency(concurrency)
            .build(move |job: Job| run(ledger.clone(), job));
        tokio::spawn(worker.run());
    }

    async fn reaches(&self, queue: &str, state: &'static str, count: usize) {
        until(&format!("{count} {state} in {queue}"), || self.ledger.lock().unwrap().count(queue, state) == count).await;
    }

    /// What a job leaves behind is written after its body has returned.
    async fn settles(&mut self, queue: &str, dead: usize, done: usize) {
        for _ in 0..3000 {
            let mut count = async |key: &str| -> usize {
                redis(&mut self.connection, &["SCARD", &format!("{queue}:{key}")]).await
            };
            if count("dead").await == dead && count("done").await == done {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("waited in vain for the results of {queue}");
    }
}

async fn redis<T: ::redis::FromRedisValue>(connection: &mut ConnectionManager, command: &[&str]) -> T {
    let mut query = ::redis::cmd(command[0]);
    for part in &command[1..] {
        query.arg(*part);
    }
    query.query_async(connection).await.unwrap()
}

/// The body of every job: what it does is in its kind.
async fn run(ledger: Shared, job: Job) -> Result<(), BoxDynError> {
    let set = |state| {
        let mut ledger = ledger.lock().unwrap();
        ledger.jobs[job.number].state = state;
        let queue = ledger.jobs[job.number].queue.clone();
        match state {
            "done" => *ledger.done.entry(queue).or_default() += 1,
            "dead" | "retrying" => *ledger.failed.entry(queue).or_default() += 1,
            _ => {}
        }
    };
    set("in_flight");
    match job.kind.as_str() {
        "hold" => std::future::pending().await,
        "fail" => {
            set("dead");
            Err(AbortError::new("failed on purpose").into())
        }
        "retry" => {
            set("retrying");
            Err("failed on purpose".into())
        }
        _ => {
            set("done");
            Ok(())
        }
    }
}

async fn busy(hand: &mut Hand) -> Vec<&'static str> {
    hand.times(5, "emails", "quick").await;
    hand.times(1, "emails", "fail").await;
    hand.work("emails", 2);
    hand.reaches("emails", "done", 5).await;
    hand.settles("emails", 1, 5).await;
    hand.times(2, "emails", "hold").await;
    hand.reaches("emails", "in_flight", 2).await;
    hand.times(6, "emails", "quick").await;
    hand.add("emails", "quick", 0, "x".repeat(100_000)).await;
    hand.add("emails", "quick", HOUR, String::new()).await;
    hand.add("emails", "quick", HOUR, String::new()).await;

    // Jobs of one second are taken in the order of their random ids, so the two that shall be taken come a second early.
    hand.times(2, "backlog", "hold").await;
    let second = now_ms() / 1000;
    until("the next second", || now_ms() / 1000 > second).await;
    hand.times(5, "backlog", "quick").await;
    hand.work("backlog", 2);
    hand.reaches("backlog", "in_flight", 2).await;

    hand.times(4, "reports", "quick").await;
    hand.add("reports", "quick", HOUR, String::new()).await;
    hand.add("reports", "quick", 1, String::new()).await;
    hand.times(3, "почта-é", "quick").await;
    hand.times(1, "retries", "retry").await;
    hand.work("retries", 1);
    hand.reaches("retries", "retrying", 1).await;
    let due = now_ms() + 2000;
    until("overdue", || now_ms() > due).await;
    vec![
        "a pushed job goes to the zset scheduled with the second of its push as its score, delayed or not: what is due there waits",
        "a worker moves all that is due to the list active, and takes a batch (here of 2) from its head: backlog shows the rest",
        "retries: the failed job is in scheduled again, due a second later: no key tells it from one that waits",
        "dead is the set of jobs that asked for no retry; delayed counts the overdue job of reports too",
        "reports and почта-é never had a worker; one waiting job of emails carries 100 kB",
    ]
}

async fn drained(hand: &mut Hand) -> Vec<&'static str> {
    hand.work("emails", 4);
    hand.times(3, "emails", "quick").await;
    hand.reaches("emails", "done", 3).await;
    hand.times(2, "emails", "hold").await;
    hand.reaches("emails", "in_flight", 2).await;
    hand.settles("emails", 0, 3).await;
    hand.work("reports", 1);
    hand.times(2, "reports", "quick").await;
    hand.reaches("reports", "done", 2).await;
    hand.settles("reports", 0, 2).await;
    vec!["emails: nothing waits, 2 of 4 slots work; reports: all done"]
}

async fn record(url: &str, outdir: &str, dump: &str, state: &str) {
    let mut connection = apalis_redis::connect(url).await.unwrap();
    let () = redis(&mut connection, &["FLUSHDB"]).await;
    let mut hand = Hand { connection, ledger: Shared::default() };
    let mut notes = match state {
        "busy" => busy(&mut hand).await,
        _ => drained(&mut hand).await,
    };
    notes.push("oldest_enqueued_at_ms is the producer's clock just before the push");
    let truth = json!({
        "library": "apalis-redis", "version": version(), "state": state,
        "queues": hand.ledger.lock().unwrap().truths(), "notes": notes,
    });
    // Blocks the only thread, so that the workers write nothing meanwhile.
    let mut child = Command::new("python3").args([dump, url, outdir]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(truth.to_string().as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    std::process::exit(0);
}

fn version() -> String {
    let lock = include_str!("../Cargo.lock");
    let at = lock.find("name = \"apalis-redis\"").unwrap();
    lock[at..].lines().nth(1).unwrap().split('"').nth(1).unwrap().into()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [url, outdir, dump, state] => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(record(url, outdir, dump, state)),
        [url, outdir, dump] => {
            for state in ["busy", "drained"] {
                let own = std::env::current_exe().unwrap();
                assert!(Command::new(own).args([url, outdir, dump, state]).status().unwrap().success());
            }
        }
        _ => {
            eprintln!("usage: apalis_record REDIS_URL OUTDIR DUMP.PY");
            std::process::exit(64);
        }
    }
}
