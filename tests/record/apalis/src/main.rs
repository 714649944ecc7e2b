//! apalis: jobs done, in flight, waiting in the list and due beside it. `apalis-states OUT`, with REDIS_URL and RECORD_DIR.

use apalis::prelude::*;
use apalis_redis::{Config, RedisStorage};
use serde::{Deserialize, Serialize};
use std::process::Command;
use std::time::{Duration, SystemTime};

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Email {
    blocks: bool,
    text: String,
}

async fn send(email: Email) -> Result<(), BoxDynError> {
    if email.blocks {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    }
    Ok(())
}

/// Waits until redis-cli says so.
async fn until(what: &str, words: &[&str], wanted: &str) {
    for _ in 0..600 {
        let url = std::env::var("REDIS_URL").unwrap();
        let said = Command::new("redis-cli").args(["-u", &url]).args(words).output().unwrap();
        if String::from_utf8_lossy(&said.stdout).trim() == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}

fn millis() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
}

#[tokio::main]
async fn main() {
    let connection = apalis_redis::connect(std::env::var("REDIS_URL").unwrap()).await.unwrap();
    let config = Config::default().queue("emails").batch_size(2);
    let mut storage: RedisStorage<Email> = RedisStorage::new(connection).with_config(config);
    let email = |blocks, text: &str| Email { blocks, text: text.into() };
    for _ in 0..3 {
        storage.push(email(false, "")).await.unwrap();
    }
    let worker = WorkerBuilder::new("tasty-pear").backend(storage.clone()).concurrency(2).build(send);
    let working = tokio::spawn(worker.run());
    until("three are done", &["SCARD", "emails:done"], "3").await;
    for _ in 0..2 {
        storage.push(email(true, "")).await.unwrap();
    }
    until("two run", &["SCARD", "emails:inflight:tasty-pear"], "2").await;
    working.abort();
    // Jobs that are to run at once are due until a worker looks.
    let first = millis();
    for _ in 0..3 {
        storage.push(email(true, &"x".repeat(1000))).await.unwrap();
    }
    let out = std::env::args().nth(1).unwrap();
    let script = format!("{}/fixture.py", std::env::var("RECORD_DIR").unwrap());
    let truth = format!(
        r#"{{"apalis:emails": {{"length": 0, "in_flight": 2, "due": 3, "delayed": 0, "dead": 0, "processed": 3,
            "oldest_ms": {first}, "within_ms": 1000}}}}"#
    );
    let (file, now) = (format!("{out}/apalis-1.0.0-busy"), (millis() + 3_000).to_string());
    let status = Command::new("python3").args([&script, &file, "apalis", "1.0.0", &now, &truth]).status().unwrap();
    assert!(status.success());
    std::process::exit(0);
}
