//! The HTTP side: routes, odd names, many and slow clients.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use flate2::read::GzDecoder;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use support::{Exporter, Redis, get, request};

#[test]
fn every_route_answers_as_it_should() {
    let redis = Redis::start();
    let exporter = Exporter::start(&redis.url(), "list:q");
    let metrics = exporter.get("/metrics").unwrap();
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/", 200), ("/nothing", 404)] {
        assert_eq!(exporter.get(path).unwrap().status, status, "{path}");
    }
    let page = exporter.get("/").unwrap();
    assert!(page.head.contains("content-security-policy: default-src 'none'"), "{}", page.head);
    assert!(page.text().contains("<th scope=row>q<td>list"));
    let post = request(
        exporter.address,
        "POST /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(post.unwrap().status, 405);
    let packed = get(exporter.address, "/metrics", "Accept-Encoding: gzip\r\n").unwrap();
    assert!(packed.head.contains("content-encoding: gzip"));
    let mut text = String::new();
    GzDecoder::new(&packed.body[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("redis_queue_length{queue=\"q\",layout=\"list\"} 0\n"));
    let plain = get(exporter.address, "/metrics", "Accept-Encoding: gzip;q=0\r\n").unwrap();
    assert!(!plain.head.contains("content-encoding"));
}

#[test]
fn odd_names_are_valid_text_and_stay_apart() {
    let redis = Redis::start();
    let names: [&[u8]; 8] = [
        b"quote\"",
        b"new\nline",
        b"back\\slash",
        "emoji 🦀".as_bytes(),
        b"\xff\xfe",
        b"\\xff\\xfe",
        b"\x06\x16",
        b"<b>&",
    ];
    let mut queues = Vec::new();
    for (jobs, name) in names.iter().enumerate() {
        for job in 0..=jobs {
            redis.run(&[b"LPUSH".as_slice(), name, format!("{job}").as_bytes()]);
        }
        queues.push(format!("list:{}", name.iter().map(|byte| format!("%{byte:02X}")).collect::<String>()));
    }
    let exporter = Exporter::start(&redis.url(), &queues.join(","));
    let text = exporter.metrics().0;
    let lengths: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("redis_queue_length{"))
        .map(|line| line.rsplit(' ').next().unwrap())
        .collect();
    assert_eq!(lengths, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    let labels: std::collections::HashSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("redis_queue_up{"))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    assert_eq!(labels.len(), names.len());
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: tests/setup.sh prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(exporter.get("/").unwrap().text().contains("&lt;b&gt;&amp;"));
}

#[test]
fn idle_and_slow_clients_keep_no_scrape_out() {
    let redis = Redis::start();
    let exporter = Exporter::start(&redis.url(), "list:q");
    let mut crowd = Vec::new();
    for number in 0..5_200 {
        let mut stream = TcpStream::connect(exporter.address).unwrap();
        if number >= 5_000 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
        }
        crowd.push(stream);
    }
    for _ in 0..3 {
        assert_eq!(exporter.metrics().of("up", "q"), Some(1.0));
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", exporter.pid())).unwrap().count();
    assert!(open < 600, "{open} descriptors are open");
}

#[test]
fn scrapes_cost_redis_nothing() {
    let redis = Redis::start();
    let exporter = Exporter::start_with(&[
        ("REDIS_URL", &redis.url()),
        ("QUEUES", "list:q"),
        ("POLL_INTERVAL", "1h"),
        ("RATE_WINDOW", "3h"),
        ("STALE_AFTER", "4h"),
    ]);
    let before = redis.commands();
    let scrapes: Vec<_> = (0..50)
        .map(|_| {
            let address = exporter.address;
            std::thread::spawn(move || get(address, "/metrics", "").unwrap().status)
        })
        .collect();
    assert!(scrapes.into_iter().all(|scrape| scrape.join().unwrap() == 200));
    // INFO itself, and the handshake of the connection that asks.
    assert!(redis.commands() - before <= 4);
}

#[test]
fn at_debug_the_log_tells_how_long_each_poll_exchange_and_request_took() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    for (level, told) in [("debug", true), ("info", false)] {
        let log = folder.path().join(level);
        let filter = format!("queue_exporter={level}");
        let variables = [("REDIS_URL", redis.url()), ("QUEUES", "list:a".into()), ("RUST_LOG", filter)];
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let exporter = Exporter::start_logged(&variables, &log);
        exporter.wait_polls(2.0);
        assert_eq!(exporter.stop("TERM"), Some(0));
        let lines = std::fs::read_to_string(&log).unwrap();
        for span in ["poll:", "poll:exchange{server=127.0.0.1:", "request{method=GET path=\"/metrics\"}:"] {
            let closed = |line: &str| line.contains(span) && line.contains("close time.busy=");
            assert_eq!(lines.lines().any(closed), told, "{span} at {level}: {lines}");
        }
    }
}
