//! Queues that are found: by a library's own register, or by its keys among many others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::Command;
use support::{Exporter, Redis};

#[test]
fn queues_of_a_register_come_stay_while_they_are_listed_and_go() {
    let redis = Redis::start();
    redis.say("SADD rq:queues rq:queue:mail rq:queue:почта rq:queue:test-1");
    redis.say("RPUSH rq:queue:mail 1 2");
    let exporter = Exporter::start(&redis.url(), "rq:*?exclude=test-*|tmp*");
    let metrics = exporter.wait("both are found", |metrics| metrics.value("queue_exporter_queues") == Some(2.0));
    let metrics = if metrics.of("length", "mail").is_some() { metrics } else { exporter.wait_polls(1.0) };
    assert_eq!((metrics.of("length", "mail"), metrics.of("length", "почта")), (Some(2.0), Some(0.0)));
    redis.say("DEL rq:queue:mail");
    exporter.wait("an empty queue is 0", |metrics| metrics.of("length", "mail") == Some(0.0));
    redis.say("SREM rq:queues rq:queue:mail");
    redis.say("SADD rq:queues rq:queue:new");
    exporter.wait("one goes, one comes", |metrics| {
        metrics.of("up", "mail").is_none() && metrics.of("length", "new") == Some(0.0)
    });
    redis.say("DEL rq:queues");
    exporter.wait("none is left, and Redis is up all the same", |metrics| {
        metrics.value("queue_exporter_queues") == Some(0.0) && metrics.value("queue_exporter_redis_up") == Some(1.0)
    });
}

#[test]
fn queues_are_found_by_their_keys_among_many_others() {
    let redis = Redis::start_on(support::free_port(), &["--enable-debug-command", "local"]);
    redis.say("DEBUG POPULATE 50000 bull:mail 10");
    for queue in ["mail", "ocr", "old"] {
        redis.say(&format!("HSET bull:{queue}:meta version bullmq:5.81.5"));
    }
    redis.say("LPUSH bull:ocr:wait 1 2 3");
    let exporter = Exporter::start_with(&[
        ("REDIS_URL", &redis.url()),
        ("QUEUES", "bullmq:*?exclude=old"),
        ("DISCOVERY_TTL", "1s"),
    ]);
    exporter.wait("both are found and read", |metrics| {
        metrics.of("length", "mail") == Some(0.0) && metrics.of("length", "ocr") == Some(3.0)
    });
    assert_eq!(exporter.metrics().of("up", "old"), None);
    redis.say("DEL bull:mail:meta");
    exporter.wait("it is gone once its time has passed", |metrics| metrics.of("up", "mail").is_none());
    assert_eq!(exporter.metrics().of("length", "ocr"), Some(3.0));
}

#[test]
fn a_configured_queue_wins_over_a_found_one_and_too_many_are_dropped_and_counted() {
    let redis = Redis::start();
    redis.say("SADD queues a b c d");
    let exporter = Exporter::start_with(&[
        ("REDIS_URL", &redis.url()),
        ("QUEUES", "list:a,sidekiq:*,sidekiq:b*"),
        ("MAX_QUEUES", "3"),
    ]);
    // The library's a, for another queue has its name, and d, for three are enough.
    let metrics = exporter.wait("two of four are dropped", |metrics| {
        metrics.value("queue_exporter_queues_dropped") == Some(2.0) && metrics.of("length", "c").is_some()
    });
    assert_eq!(metrics.value("queue_exporter_queues"), Some(3.0));
    assert!(metrics.0.contains("redis_queue_up{queue=\"a\",layout=\"list\"} 1"));
    assert_eq!(metrics.of("up", "d"), None);
    redis.say("SREM queues b");
    exporter.wait("there is room for it now", |metrics| metrics.of("length", "d") == Some(0.0));
}

#[test]
fn a_register_that_may_not_be_read_is_an_error_and_hurts_no_queue() {
    let redis = Redis::start();
    redis.say(
        "ACL SETUSER shy on >secret ~* resetchannels -@all +ping +info +client|id +multi +exec +llen +lrange +lpos",
    );
    redis.say("LPUSH a 1");
    let url = format!("redis://shy:secret@127.0.0.1:{}", redis.port);
    let exporter = Exporter::start(&url, "list:a,rq:*");
    exporter.wait("it is counted", |metrics| {
        metrics.value("queue_exporter_poll_errors_total{kind=\"no_permission\"}").is_some_and(|count| count > 0.0)
            && metrics.of("length", "a") == Some(1.0)
    });
}

/// Runs `check` on these; gives what it found, and its exit code.
fn check(url: &str, queues: &str) -> (serde_json::Value, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_queue-exporter"))
        .args(["check", "--output", "json"])
        .env_clear()
        .envs([("REDIS_URL", url), ("QUEUES", queues)])
        .output()
        .unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

#[test]
fn check_says_which_patterns_can_not_be_searched_for() {
    let mut redis = Redis::start();
    redis.say("ACL SETUSER shy on >secret ~* -@all +ping +time +llen");
    let (found, code) = check(&format!("redis://shy:secret@127.0.0.1:{}", redis.port), "rq:mail*");
    let about = |found: &serde_json::Value| found[0]["notes"][0].as_str().unwrap().to_string();
    assert_eq!((&found[0]["queue"], &found[0]["readable"], code), (&"mail*".into(), &false.into(), Some(69)));
    assert!(about(&found).contains("the user may not do that"), "{found}");
    redis.kill();
    let (found, code) = check(&redis.url(), "rq:mail*,sidekiq:*");
    assert_eq!((found.as_array().map(Vec::len), code), (Some(2), Some(69)));
    assert!(about(&found).contains("check host, port and TLS"), "{found}");
}

#[test]
fn check_finds_queues_too() {
    let redis = Redis::start();
    redis.say("SADD asynq:queues mail");
    redis.say("LPUSH asynq:{mail}:pending 1 2 3");
    let (found, code) = check(&redis.url(), "asynq:*");
    assert_eq!((&found[0]["queue"], &found[0]["length"]), (&"mail".into(), &3.into()));
    assert_eq!(code, Some(0));
}
