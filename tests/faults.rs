//! What goes wrong in real life: at every fault `/metrics` answers, tells the truth, and recovers without a restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use queue_exporter::layout::TABLE;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{ACL, Exporter, Redis, free_port, get, load_fixture, wait_for};

fn is_down(metrics: &support::Metrics, queue: &str) -> bool {
    metrics.of("up", queue) == Some(0.0) && metrics.readings(queue) == 0
}

#[test]
fn redis_may_come_late_go_and_come_back() {
    let port = free_port();
    let url = format!("redis://127.0.0.1:{port}");
    let exporter = Exporter::start(&url, "list:q");
    let metrics = exporter.metrics();
    assert!(is_down(&metrics, "q"));
    assert_eq!(metrics.value("queue_exporter_redis_up"), Some(0.0));
    for jobs in [3, 5] {
        let redis = Redis::start_on(port, &[]);
        for job in 0..jobs {
            redis.say(&format!("LPUSH q {job}"));
        }
        exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == Some(f64::from(jobs)));
        drop(redis);
        exporter.wait("the old reading dies", |metrics| is_down(metrics, "q"));
    }
    assert_eq!(exporter.get("/healthz").unwrap().status, 200);
    assert_eq!(exporter.get("/readyz").unwrap().status, 200);
}

#[test]
fn a_silent_redis_is_noticed_and_readings_die() {
    let redis = Redis::start();
    redis.say("LPUSH q job");
    let exporter = Exporter::start(&redis.url(), "list:q");
    redis.signal("STOP");
    exporter.wait("the reading dies", |metrics| is_down(metrics, "q"));
    redis.signal("CONT");
    exporter.wait("the queue is read again", |metrics| metrics.of("length", "q") == Some(1.0));
    redis.say("CLIENT PAUSE 3000 ALL");
    exporter.wait("the reading dies", |metrics| is_down(metrics, "q"));
    exporter.wait("the queue is read again", |metrics| metrics.of("length", "q") == Some(1.0));
}

#[test]
fn one_bad_key_hurts_no_other() {
    let redis = Redis::start();
    redis.say("RPUSH a 1 2");
    redis.say("SET c text");
    redis.say("RPUSH d 1 2 3");
    let exporter = Exporter::start(&redis.url(), "list:a,list:b,list:c,list:d,list:e?processed=d");
    let metrics = exporter.metrics();
    let lengths = ["a", "b", "c", "d"].map(|queue| metrics.of("length", queue));
    assert_eq!(lengths, [Some(2.0), Some(0.0), None, Some(3.0)]);
    assert!(is_down(&metrics, "c") && is_down(&metrics, "e"));
    assert!(metrics.value("queue_exporter_poll_errors_total{kind=\"wrong_type\"}").unwrap() >= 2.0);
    redis.say("DEL c");
    redis.say("RPUSH c 1");
    exporter.wait("the mended queue is read", |metrics| metrics.of("length", "c") == Some(1.0));
}

#[test]
fn a_drained_queue_reads_0_and_a_deleted_one_too() {
    let redis = Redis::start();
    redis.say("RPUSH q 1 2");
    let exporter = Exporter::start(&redis.url(), "list:q");
    assert_eq!(exporter.metrics().of("length", "q"), Some(2.0));
    redis.say("DEL q");
    exporter.wait("the queue reads 0", |metrics| {
        metrics.of("length", "q") == Some(0.0) && metrics.of("oldest_job_age_seconds", "q") == Some(0.0)
    });
}

#[test]
fn the_least_acl_of_the_readme_is_enough() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let words: Vec<&str> = readme.split_whitespace().filter(|word| *word != "\\").collect();
    assert!(words.join(" ").contains(ACL), "the README has another line");
    let redis = Redis::start();
    redis.say(ACL);
    redis.say("CONFIG SET notify-keyspace-events Kl");
    redis.say("LPUSH l 1 2 3");
    redis.say("ZADD z 1795574013 a");
    redis.say("XADD s * f 1");
    redis.say("XADD s * f 2");
    redis.say("XGROUP CREATE s g 0");
    redis.say("XREADGROUP GROUP g c COUNT 1 STREAMS s >");
    redis.say("SET done 7");
    let recorded = ["bullmq", "asynq-0.26.0-busy", "celery", "dramatiq", "rq", "saq", "sidekiq", "huey"];
    for name in recorded {
        load_fixture(&redis, &format!("{name}.jsonl"));
    }
    let plain = "list:l?notify=true&processed=done&delayed=z&time=a,zset:z,stream:s?group=g";
    // arq's sorted set and Celery's list would be one key.
    let queue = |name: &str| if name == "arq" { "nowhere" } else { "emails" };
    let libraries: Vec<String> =
        TABLE.iter().skip(3).map(|entry| format!("{0}:{1}?name={0}", entry.name, queue(entry.name))).collect();
    let patterns = "rq:*,bullmq:reports*,celery:reports*,sidekiq:почта*";
    let url = format!("redis://exporter:secret@127.0.0.1:{}", redis.port);
    let exporter = Exporter::start(&url, &format!("{plain},{},{patterns}", libraries.join(",")));
    let metrics = exporter.wait_polls(8.0);
    for queue in ["l", "z", "s"].into_iter().chain(TABLE.iter().skip(3).map(|entry| entry.name)) {
        assert_eq!(metrics.of("up", queue), Some(1.0), "{queue}: {}", metrics.0);
    }
    redis.say("LPUSH l 1 2 3");
    let other = Exporter::start(&format!("{url}/1"), "list:l");
    assert_eq!(other.wait_polls(2.0).of("length", "l"), Some(0.0), "the number of a database was heeded");
    // Redis itself keeps the list of what was refused.
    assert_eq!(redis.say("ACL LOG"), redis::Value::Array(Vec::new()));
}

#[test]
fn a_reading_dies_between_two_polls_too() {
    let mut redis = Redis::start();
    redis.say("LPUSH q 1");
    let exporter = Exporter::start_with(&[
        ("REDIS_URL", &redis.url()),
        ("QUEUES", "list:q"),
        ("POLL_INTERVAL", "4s"),
        ("STALE_AFTER", "5s"),
        ("RATE_WINDOW", "20s"),
    ]);
    exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == Some(1.0));
    redis.kill();
    let metrics = exporter.wait("nothing is left", |metrics| metrics.readings("q") == 0);
    assert!(metrics.polls() < 3.0, "only the third poll took it down");
}

/// Of a library whose main key may have two types.
#[test]
fn a_key_of_a_wrong_type_beside_the_main_one_is_told_as_that() {
    let redis = Redis::start();
    redis.say("LPUSH huey.redis.q job");
    redis.say("SET huey.schedule.q text");
    let exporter = Exporter::start(&redis.url(), "huey:q");
    let metrics = exporter.wait_polls(3.0);
    let errors = |kind: &str| metrics.value(&format!("queue_exporter_poll_errors_total{{kind=\"{kind}\"}}"));
    assert_eq!(metrics.of("up", "q"), Some(0.0));
    assert!(errors("wrong_type") >= Some(2.0) && errors("unexpected_answer") == Some(0.0), "{}", metrics.0);
}

#[test]
fn a_refused_command_is_a_refusal_of_its_queues_only() {
    let redis = Redis::start();
    redis.say("ACL SETUSER exporter on >secret ~* -@all +ping +multi +exec +llen +lrange +zcard +zrange +zcount");
    redis.say("LPUSH l 1 2 3");
    redis.say("ZADD z 1795574013 a");
    let url = format!("redis://exporter:secret@127.0.0.1:{}", redis.port);
    let exporter = Exporter::start(&url, "list:l,zset:z");
    // LPOS comes with the second look.
    let metrics = exporter.wait("the list is refused", |metrics| is_down(metrics, "l"));
    assert_eq!(metrics.of("length", "z"), Some(1.0));
    assert!(metrics.value("queue_exporter_poll_errors_total{kind=\"no_permission\"}").unwrap() >= 1.0);
    redis.say("ACL SETUSER exporter +lpos");
    exporter.wait("the list is read", |metrics| metrics.of("length", "l") == Some(3.0));
}

#[test]
fn a_password_may_rotate_in_its_file() {
    let redis = Redis::start_on(free_port(), &["--requirepass", "first"]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    std::fs::write(&file, format!("redis://:wrong@127.0.0.1:{}\n", redis.port)).unwrap();
    let exporter = Exporter::start_with(&[("REDIS_URL_FILE", file.to_str().unwrap()), ("QUEUES", "list:q")]);
    let metrics = exporter.metrics();
    assert!(is_down(&metrics, "q"));
    assert!(metrics.value("queue_exporter_poll_errors_total{kind=\"login\"}").unwrap() >= 1.0);
    std::fs::write(&file, format!("redis://:first@127.0.0.1:{}\n", redis.port)).unwrap();
    exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == Some(0.0));
}

#[test]
fn elements_of_20_mb_leave_the_length_and_cost_little() {
    let redis = Redis::start();
    let huge = vec![b'x'; 20_000_000];
    for _ in 0..2 {
        redis.run(&[b"LPUSH".as_slice(), b"q", &huge]);
    }
    redis.say("LPUSH other 1");
    let exporter = Exporter::start(&redis.url(), "list:q,list:other");
    let metrics = exporter.wait_polls(5.0);
    assert_eq!((metrics.of("length", "q"), metrics.of("length", "other")), (Some(2.0), Some(1.0)));
    assert_eq!(metrics.of("oldest_job_age_seconds", "q"), None);
}

#[test]
fn connections_do_not_pile_up_over_outages() {
    let redis = Redis::start();
    let exporter = Exporter::start(&redis.url(), "list:q");
    for _ in 0..20 {
        redis.say("CLIENT KILL TYPE normal SKIPME yes");
        let polls = exporter.metrics().polls();
        exporter
            .wait("the queue is read", |metrics| metrics.polls() > polls + 1.0 && metrics.of("up", "q") == Some(1.0));
    }
    let open = || match redis.say("CLIENT LIST TYPE normal") {
        redis::Value::BulkString(list) => String::from_utf8(list).unwrap().lines().count(),
        redis::Value::VerbatimString { text, .. } => text.lines().count(),
        other => panic!("{other:?}"),
    };
    // The exporter's and the one that asks; what was killed may take a moment to go.
    wait_for("two connections are left", || (open() <= 2).then_some(()));
}

#[test]
fn sigterm_ends_it_with_0_even_while_redis_is_silent() {
    let redis = Redis::start();
    let exporter = Exporter::start(&redis.url(), "list:q");
    redis.signal("STOP");
    assert_eq!(exporter.stop("TERM"), Some(0));
    redis.signal("CONT");
    assert_eq!(Exporter::start(&redis.url(), "list:q").stop("INT"), Some(0));
}

#[test]
fn a_redis_at_its_limits_is_read_for_as_long_as_it_answers() {
    let redis = Redis::start();
    redis.say("LPUSH q 1 2 3");
    let exporter = Exporter::start(&redis.url(), "list:q");
    // Out of memory: writes are refused, reads are not.
    redis.say("CONFIG SET maxmemory 1");
    assert!(redis.try_run(&["LPUSH", "q", "4"]).is_err());
    assert_eq!(exporter.wait_polls(3.0).of("length", "q"), Some(3.0));
    redis.say("CONFIG SET maxmemory 0");
    // A replica whose master is away, as during a failover: it answers reads.
    redis.say("REPLICAOF 127.0.0.1 1");
    assert!(redis.try_run(&["LPUSH", "q", "4"]).is_err());
    assert_eq!(exporter.wait_polls(3.0).of("length", "q"), Some(3.0));
    redis.say("REPLICAOF NO ONE");
    // It can't save to its disk: writes are refused, and PING too.
    let folder: Vec<String> =
        redis::cmd("CONFIG").arg(&["GET", "dir"]).query(&mut redis.connect()).expect("the folder of Redis");
    std::fs::create_dir(format!("{}/dump.rdb", folder[1])).unwrap();
    redis.say("CONFIG SET appendonly no");
    redis.run(&["CONFIG", "SET", "save", "3600 1"]);
    redis.say("BGSAVE");
    wait_for("writes are refused", || redis.try_run(&["LPUSH", "q", "4"]).err().map(|_| ()));
    let length: Option<f64> = redis::cmd("LLEN").arg("q").query(&mut redis.connect()).ok();
    assert_eq!(exporter.wait_polls(3.0).of("length", "q"), length);
    redis.say("CONFIG SET stop-writes-on-bgsave-error no");
    // No connection is left for one that was cut off; then there is.
    let mut held = redis.connect();
    let mut say =
        |line: &str| support::command(&line.split(' ').collect::<Vec<_>>()).query::<redis::Value>(&mut held).unwrap();
    say("CONFIG SET maxclients 1");
    say("CLIENT KILL TYPE normal SKIPME yes");
    exporter.wait("the reading dies", |metrics| is_down(metrics, "q"));
    say("CONFIG SET maxclients 10000");
    exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == length);
}

/// It refuses the SELECT of a login too.
#[test]
fn a_redis_busy_with_a_script_has_not_refused_the_login() {
    let redis = Redis::start();
    redis.say("CONFIG SET lua-time-limit 20");
    let mut endless = redis.connect();
    let script = std::thread::spawn(move || {
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<redis::Value>(&mut endless).ok()
    });
    let is_busy = || redis.try_run(&["SELECT", "1"]).is_err_and(|error| error.code() == Some("BUSY"));
    support::wait_for("the script is too long", || is_busy().then_some(()));
    let exporter = Exporter::start(&format!("{}/1", redis.url()), "list:q");
    let count = |metrics: &support::Metrics, kind| {
        metrics.value(&format!("queue_exporter_poll_errors_total{{kind=\"{kind}\"}}"))
    };
    let metrics = exporter.wait("polls have failed", |metrics| {
        count(metrics, "no_answer").unwrap_or(0.0) + count(metrics, "login").unwrap_or(0.0) >= 2.0
    });
    assert_eq!(count(&metrics, "login"), Some(0.0));
    redis.say("SCRIPT KILL");
    script.join().unwrap();
    exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == Some(0.0));
}

#[test]
fn every_layout_is_read_from_a_redis_out_of_memory() {
    let redis = Redis::start();
    for name in ["bullmq", "asynq-0.26.0-busy", "celery", "dramatiq", "rq", "saq", "sidekiq", "huey"] {
        load_fixture(&redis, &format!("{name}.jsonl"));
    }
    let queue = |name: &str| if name == "arq" { "nowhere" } else { "emails" };
    let queues: Vec<String> =
        TABLE.iter().skip(3).map(|entry| format!("{0}:{1}?name={0}", entry.name, queue(entry.name))).collect();
    let exporter = Exporter::start(&redis.url(), &format!("list:l,stream:s,zset:z,{}", queues.join(",")));
    exporter.wait_polls(3.0);
    redis.say("CONFIG SET maxmemory 1");
    let metrics = exporter.wait_polls(5.0);
    for queue in ["l", "s", "z"].into_iter().chain(TABLE.iter().skip(3).map(|entry| entry.name)) {
        assert_eq!(metrics.of("up", queue), Some(1.0), "{queue}: {}", metrics.0);
    }
}

#[test]
fn a_key_that_changes_its_type_all_the_time_gives_true_numbers_or_none() {
    let redis = Redis::start();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = redis.connect();
            let mut pipe =
                |words: &[&str]| redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut connection).unwrap();
            while !stop.load(Ordering::Relaxed) {
                pipe(&["RPUSH", "q", "a", "b", "c"]);
                pipe(&["RENAME", "q", "aside"]);
                pipe(&["SET", "q", "text"]);
                pipe(&["DEL", "q"]);
                pipe(&["XADD", "q", "*", "field", "value"]);
                pipe(&["RENAME", "aside", "q"]);
                pipe(&["DEL", "q"]);
                pipe(&["ZADD", "q", "1", "member"]);
                pipe(&["DEL", "q"]);
            }
        });
        let exporter = Exporter::start(&redis.url(), "list:q,list:other");
        let (mut read, mut refused) = (0, 0);
        while read < 20 || refused < 20 {
            let metrics = exporter.wait_polls(1.0);
            match metrics.of("length", "q") {
                Some(length) => {
                    assert!(length == 0.0 || length == 3.0, "{length} jobs");
                    read += 1;
                }
                None => {
                    assert!(is_down(&metrics, "q"));
                    refused += 1;
                }
            }
            assert_eq!(metrics.of("length", "other"), Some(0.0));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn sigterm_ends_it_with_0_at_any_moment_of_a_poll() {
    let redis = Redis::start();
    let queues: Vec<String> = (0..2_000).map(|queue| format!("list:q{queue}")).collect();
    for moment in 0..10 {
        let exporter = Exporter::start(&redis.url(), &queues.join(","));
        let polls = exporter.metrics().polls();
        // Polls are 100 ms apart and take some of that.
        exporter.wait("a poll ends", |metrics| metrics.polls() > polls);
        std::thread::sleep(Duration::from_millis(moment * 12));
        assert_eq!(exporter.stop("TERM"), Some(0), "{moment}");
    }
}

#[test]
fn an_exporter_out_of_descriptors_answers_again_when_it_has_some() {
    let redis = Redis::start();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut exporter = std::process::Command::new("sh")
        .args(["-c", "ulimit -n 24; exec \"$0\"", env!("CARGO_BIN_EXE_queue-exporter")])
        .env_clear()
        .envs([("REDIS_URL", redis.url()), ("LISTEN_ADDR", address.to_string())])
        .envs([("QUEUES", "list:q"), ("POLL_INTERVAL", "100ms"), ("RUST_LOG", "error")])
        .spawn()
        .unwrap();
    let scrape = || get(address, "/metrics", "").map(|answer| answer.text());
    wait_for("it answers", || scrape().filter(|text| text.contains("redis_queue_length{")));
    let idle: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    let open = || std::fs::read_dir(format!("/proc/{}/fd", exporter.id())).unwrap().count();
    wait_for("no descriptor is left", || (open() >= 24).then_some(()));
    drop(idle);
    let text = wait_for("it answers again", scrape);
    assert!(text.contains("redis_queue_up{queue=\"q\",layout=\"list\"} 1"), "{text}");
    exporter.kill().unwrap();
    exporter.wait().unwrap();
}

/// This machine's clock is set an hour forward, two back, and right again while it polls (libfaketime; the monotonic clock goes on).
#[test]
fn a_clock_that_is_set_changes_no_age() {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(std::path::Path::new(&library).exists(), "{library} is needed: tests/setup.sh faketime");
    let redis = Redis::start();
    let now = queue_exporter::clock::unix_now();
    redis.say(&format!("LPUSH q {{\"at\":{:.3}}}", now - 100.0));
    redis.say(&format!("ZADD due {:.3} job", now - 50.0));
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    std::fs::write(&clock, "+0").unwrap();
    let url = redis.url();
    let exporter = Exporter::start_with(&[
        ("REDIS_URL", &url),
        ("QUEUES", "list:q?time=$.at,zset:due"),
        ("LD_PRELOAD", &library),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ]);
    for set in ["+0", "+3600s", "-3600s", "+0"] {
        // In one step, so that no half of it is read.
        let next = folder.path().join("next");
        std::fs::write(&next, set).unwrap();
        std::fs::rename(&next, &clock).unwrap();
        for _ in 0..5 {
            let metrics = exporter.wait_polls(1.0);
            let passed = queue_exporter::clock::unix_now() - now;
            for (queue, waited) in [("q", 100.0), ("due", 50.0)] {
                let age = metrics.of("oldest_job_age_seconds", queue).unwrap();
                assert!((age - waited - passed).abs() < 2.0, "{set}: {queue} waits {age} s, not {}", waited + passed);
            }
        }
    }
    // It was set for real.
    std::fs::write(&clock, "+3600s").unwrap();
    let last = |metrics: &support::Metrics| metrics.value("queue_exporter_last_success_timestamp_seconds");
    exporter.wait("the exporter's own clock is an hour ahead", |metrics| {
        last(metrics).is_some_and(|time| time > queue_exporter::clock::unix_now() + 3_000.0)
    });
}
