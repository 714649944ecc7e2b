//! The command line: faults of the configuration, `check`, help.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::{Command, Output};
use support::Redis;

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queue-exporter"));
    command.args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

fn faults(variables: &[(&str, &str)]) -> String {
    let output = run(&[], variables);
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn all_faults_are_told_at_once_and_no_secret_with_them() {
    let told = faults(&[
        ("REDIS_URL", "http://user:hunter2@host"),
        ("QUEUES", "list:a,lost:b,list:c?wrong=1&oldest=middle,d,list:a,list:e?x"),
        ("LISTEN_ADDR", "here"),
        ("POLL_INTERVAL", "10"),
        ("RATE_WINDOW", "-3s"),
        ("MAX_QUEUES", "0"),
        ("LOG_FORMAT", "xml"),
        ("GRPC_ADDR", "9798"),
        ("GRPC_CERT_FILE", "/nowhere"),
        ("WEB_CONFIG_FILE", "/nowhere"),
    ]);
    for part in [
        "REDIS_URL is no URL of Redis",
        "unknown layout \"lost\"",
        "unknown option wrong",
        "option oldest is \"middle\"; it must be one of tail, head",
        "queue \"d\": no layout",
        "two queues are named \"a\"",
        "option \"x\" has no value",
        "LISTEN_ADDR is \"here\"",
        "POLL_INTERVAL is \"10\"",
        "RATE_WINDOW is \"-3s\"",
        "MAX_QUEUES is \"0\"",
        "LOG_FORMAT is \"xml\"",
        "GRPC_ADDR is \"9798\"",
        "GRPC_CERT_FILE and GRPC_KEY_FILE go together",
        "WEB_CONFIG_FILE: can't read /nowhere",
    ] {
        assert!(told.contains(part), "{part} is not told:\n{told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
}

#[test]
fn files_of_grpc_belong_together_and_are_read() {
    let with = |more: &[(&str, &str)]| faults(&[&[("QUEUES", "list:a")], more].concat());
    assert!(with(&[("GRPC_CLIENT_CA_FILE", "f")]).contains("needs GRPC_CERT_FILE and GRPC_KEY_FILE"));
    let pair = [("GRPC_CERT_FILE", "/nowhere"), ("GRPC_KEY_FILE", "/nowhere")];
    assert!(with(&pair).contains("GRPC_CERT_FILE is set, but not GRPC_ADDR"));
    let told = with(&[&pair[..], &[("GRPC_ADDR", "127.0.0.1:0")]].concat());
    assert!(told.contains("GRPC_CERT_FILE: can't read /nowhere"), "{told}");
}

#[test]
fn queues_come_from_one_place() {
    assert!(faults(&[]).contains("neither QUEUES nor QUEUES_FILE is set"));
    assert!(faults(&[("QUEUES", "list:a"), ("QUEUES_FILE", "f")]).contains("both set; keep one"));
    assert!(faults(&[("QUEUES_FILE", "/nowhere")]).contains("QUEUES_FILE: can't read /nowhere"));
    assert!(faults(&[("QUEUES", " , ")]).contains("QUEUES names no queue"));
}

#[test]
fn a_file_holds_policies_and_its_faults_are_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("queues.yaml");
    std::fs::write(
        &path,
        "queues:\n- queue: list:a\n  objective_age: 30\n  min_workers: 3\n  max_workers: 2\n  \
         job_seconds: 0\n  worker_slots: 0\n  catch_up: soon\n- queue: x\n",
    )
    .unwrap();
    let told = faults(&[("QUEUES_FILE", path.to_str().unwrap())]);
    for part in [
        "objective_age is \"30\"",
        "min_workers is over max_workers",
        "job_seconds is 0; it must be a number over 0",
        "worker_slots is 0",
        "catch_up is \"soon\"; it must be a duration",
        "queue \"x\": no layout",
    ] {
        assert!(told.contains(part), "{part} is not told:\n{told}");
    }
    let redis = Redis::start();
    let policy = "queues:\n- queue: list:ocr\n  objective_age: 5m\n  scale_up_depth: 50\n  scale_down_depth: 10\n  min_workers: 3\n  max_workers: 20\n";
    std::fs::write(&path, policy).unwrap();
    let exporter =
        support::Exporter::start_with(&[("REDIS_URL", &redis.url()), ("QUEUES_FILE", path.to_str().unwrap())]);
    let metrics = exporter.metrics();
    let names = ["objective_age_seconds", "scale_up_depth", "scale_down_depth", "min_workers", "max_workers"];
    assert_eq!(names.map(|name| metrics.of(name, "ocr")), [300.0, 50.0, 10.0, 3.0, 20.0].map(Some));
    redis.signal("STOP");
    let down = exporter.wait("the reading dies", |metrics| metrics.of("up", "ocr") == Some(0.0));
    assert_eq!((down.of("length", "ocr"), down.of("max_workers", "ocr")), (None, Some(20.0)));
    redis.signal("CONT");
}

#[test]
fn check_says_what_is_wrong_and_how_to_mend_it() {
    let redis = Redis::start();
    redis.say("LPUSH good 1 2 3");
    redis.say("ZADD set 5 a");
    let url = redis.url();
    let queues = "list:good,list:missing,list:set,zset:set?name=scores,stream:set?name=stream";
    let output = run(&["check"], &[("REDIS_URL", &url), ("QUEUES", queues)]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(69), "{text}");
    for part in
        ["no such key", "the key is a zset, not what layout list reads", "set unit=none", "good     list         3"]
    {
        assert!(text.contains(part), "{part} is not told:\n{text}");
    }
    let output = run(&["check", "--output", "json"], &[("REDIS_URL", &url), ("QUEUES", "list:good")]);
    assert_eq!(output.status.code(), Some(0));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&found[0]["queue"], &found[0]["length"], &found[0]["readable"]),
        (&"good".into(), &3.into(), &true.into())
    );
}

#[test]
fn check_sees_ends_that_are_the_wrong_way_round() {
    let redis = Redis::start();
    let jobs: Vec<String> = (0..20_000).map(|job| job.to_string()).collect();
    redis.run(&["RPUSH", "q"].into_iter().chain(jobs.iter().map(String::as_str)).collect::<Vec<_>>());
    let url = redis.url();
    let check = std::thread::spawn(move || run(&["check"], &[("REDIS_URL", &url), ("QUEUES", "list:q?oldest=tail")]));
    let mut job = 20_000;
    while !check.is_finished() {
        redis.say(&format!("RPUSH q {job}"));
        redis.say("LPOP q");
        job += 1;
    }
    let text = String::from_utf8(check.join().unwrap().stdout).unwrap();
    assert!(text.contains("the ends are the wrong way round"), "{text}");
}

#[test]
fn help_and_version_are_there_and_other_words_are_refused() {
    assert!(String::from_utf8(run(&["--help"], &[]).stdout).unwrap().contains("QUEUES_FILE"));
    assert!(String::from_utf8(run(&["--version"], &[]).stdout).unwrap().starts_with("queue-exporter "));
    for words in [&["chekc"][..], &["serve", "--output", "json"], &["check", "--output", "xml"]] {
        assert_eq!(run(words, &[]).status.code(), Some(64), "{words:?}");
    }
}
