//! Redis as it is run in earnest: behind TLS, behind Sentinel, as a Cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::{Child, Command, Stdio};
use support::authority::Authority;
use support::{ACL, Exporter, Metrics, Redis, free_port, kill, wait_for};

#[test]
fn tls_with_a_client_certificate_that_is_trusted_and_not_otherwise() {
    let authority = Authority::new();
    authority.sign("server", "127.0.0.1");
    authority.sign("client", "exporter");
    let tls_port = free_port();
    let redis = authority.start_redis(tls_port, free_port());
    redis.say("LPUSH q 1 2 3");
    let url = format!("rediss://127.0.0.1:{tls_port}");
    let [ca, cert, key] = ["ca.crt", "client.crt", "client.key"].map(|name| authority.text(name));
    let base = [("REDIS_URL", url.as_str()), ("QUEUES", "list:q")];
    let good = [&base[..], &[("REDIS_CA_FILE", &ca), ("REDIS_CERT_FILE", &cert), ("REDIS_KEY_FILE", &key)]].concat();
    let exporter = Exporter::start_with(&good);
    exporter.wait("the queue is read over TLS", |metrics| metrics.of("length", "q") == Some(3.0));
    let without = [&base[..], &[("REDIS_CA_FILE", ca.as_str())]].concat();
    for (bad, why) in [(&base[..], "put that into REDIS_CA_FILE"), (&without, "set REDIS_CERT_FILE and REDIS_KEY_FILE")]
    {
        let log = tempfile::NamedTempFile::new().unwrap();
        let stranger = Exporter::start_logged(bad, log.path());
        let metrics = stranger.wait_polls(2.0);
        assert_eq!((metrics.of("up", "q"), metrics.readings("q")), (Some(0.0), 0));
        let told = std::fs::read_to_string(log.path()).unwrap();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_server_of_another_name_is_not_believed_until_its_certificate_is_mended() {
    is_believed_once_mended(
        |authority| authority.sign("server", "elsewhere.example"),
        "not valid for the host name in REDIS_URL",
    );
}

#[test]
fn a_certificate_that_has_expired_is_not_believed_until_it_is_renewed() {
    is_believed_once_mended(|authority| authority.sign_until("server", "127.0.0.1", 2020), "certificate has expired");
}

fn is_believed_once_mended(sign: impl Fn(&Authority), why: &str) {
    let authority = Authority::new();
    sign(&authority);
    authority.sign("client", "exporter");
    let (tls_port, port) = (free_port(), free_port());
    let redis = authority.start_redis(tls_port, port);
    redis.say("LPUSH q 1");
    redis.say("CONFIG SET tls-auth-clients no");
    let url = format!("rediss://127.0.0.1:{tls_port}");
    let ca = authority.text("ca.crt");
    let log = tempfile::NamedTempFile::new().unwrap();
    let variables = [("REDIS_URL", url.as_str()), ("QUEUES", "list:q"), ("REDIS_CA_FILE", &ca)];
    let exporter = Exporter::start_logged(&variables, log.path());
    assert_eq!(exporter.wait_polls(2.0).of("up", "q"), Some(0.0));
    let told = std::fs::read_to_string(log.path()).unwrap();
    assert!(told.contains(why), "{told}");
    authority.sign("server", "127.0.0.1");
    redis.say(&format!("CONFIG SET tls-cert-file {}", authority.text("server.crt")));
    redis.say(&format!(
        "CONFIG SET tls-key-file {} tls-cert-file {}",
        authority.text("server.key"),
        authority.text("server.crt")
    ));
    exporter.wait("the mended certificate is believed", |metrics| metrics.of("length", "q") == Some(1.0));
}

/// A process that is killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_failover_by_sentinel_is_followed() {
    let first = Redis::start();
    let second = Redis::start();
    second.say(&format!("REPLICAOF 127.0.0.1 {}", first.port));
    first.say("LPUSH q 1 2");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sentinel.conf");
    let port = free_port();
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 3000\n",
        first.port
    );
    std::fs::write(&file, text).unwrap();
    let sentinel = Command::new("redis-server").arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().unwrap();
    let _sentinel = Process(sentinel);
    let ask = || {
        let mut connection = redis::Client::open(format!("redis://127.0.0.1:{port}")).ok()?.get_connection().ok()?;
        let seen: Vec<std::collections::HashMap<String, String>> =
            redis::cmd("SENTINEL").arg("replicas").arg("main").query(&mut connection).ok()?;
        seen.iter().any(|replica| replica.get("master-link-status").is_some_and(|status| status == "ok")).then_some(())
    };
    wait_for("the sentinel knows the replica", ask);
    // The first of the Sentinels says nothing, ever.
    let silent = Redis::start();
    silent.signal("STOP");
    let url = format!("redis-sentinel://127.0.0.1:{}?sentinelServiceName=main&node=127.0.0.1:{port}", silent.port);
    let exporter = Exporter::start(&url, "list:q");
    exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == Some(2.0));
    // A Sentinel closes connections as it comes to know a server.
    let has_all = || (second.try_run(&["LLEN", "q"]).ok()? == redis::Value::Int(2)).then_some(());
    wait_for("the replica has it all", has_all);
    drop(first);
    wait_for("the replica is promoted", || second.try_run(&["LPUSH", "q", "3"]).ok());
    exporter.wait("the new master is read", |metrics| metrics.of("length", "q") == Some(3.0));
}

/// Three masters that share the slots.
fn start_cluster() -> Vec<Redis> {
    let options =
        ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no"];
    // The bus listens on the port plus 10,000, or where it is told.
    let start =
        || Redis::start_on(free_port(), &[&options[..], &["--cluster-port", &free_port().to_string()]].concat());
    let nodes: Vec<Redis> = std::iter::repeat_with(start).take(3).collect();
    let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
    let made = Command::new("redis-cli").args(["--cluster", "create"]).args(addresses).arg("--cluster-yes").output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    wait_for("all nodes know the slots", || {
        let ok = |node: &Redis| match node.say("CLUSTER INFO") {
            redis::Value::BulkString(text) => String::from_utf8_lossy(&text).contains("cluster_state:ok"),
            redis::Value::VerbatimString { text, .. } => text.contains("cluster_state:ok"),
            _ => false,
        };
        nodes.iter().all(ok).then_some(())
    });
    nodes
}

/// Runs a command on whichever node has its key.
fn on_cluster(nodes: &[Redis], line: &str) -> usize {
    let taken = nodes.iter().position(|node| node.try_run(&line.split(' ').collect::<Vec<_>>()).is_ok());
    taken.unwrap_or_else(|| panic!("no node takes {line}"))
}

#[test]
fn a_cluster_is_read_node_by_node_and_a_silent_node_hurts_no_other() {
    let nodes = start_cluster();
    let names: Vec<String> = (0..60).map(|number| format!("q{number}")).collect();
    let homes: Vec<usize> = names.iter().map(|name| on_cluster(&nodes, &format!("LPUSH {name} 1 2"))).collect();
    on_cluster(&nodes, "XADD {s}tream * f v");
    on_cluster(&nodes, "XGROUP CREATE {s}tream workers 0");
    // A queue whose keys are on different nodes.
    let home = on_cluster(&nodes, "LPUSH split 1");
    let away = (0..).map(|number| format!("doing{number}"));
    let away = away.into_iter().find(|key| on_cluster(&nodes, &format!("LPUSH {key} 1 2 3")) != home).unwrap();
    let mut queues: Vec<String> = names.iter().map(|name| format!("list:{name}")).collect();
    queues.push("stream:{s}tream".into());
    queues.push(format!("list:split?in_flight={away}"));
    // Libraries whose keys are of one slot, and such whose keys are anywhere.
    on_cluster(&nodes, "LPUSH asynq:{mail}:pending 1 2");
    on_cluster(&nodes, "SADD asynq:queues mail");
    on_cluster(&nodes, "LPUSH {app}:mail:wait 1 2 3");
    on_cluster(&nodes, "RPUSH rq:queue:mail 1 2 3 4");
    on_cluster(&nodes, "ZADD rq:wip:mail 4000000000 a");
    on_cluster(&nodes, "ZADD rq:scheduled:mail 4000000000 b");
    on_cluster(&nodes, "HSET rq:job:1 enqueued_at 2026-11-25T09:46:00.000000Z");
    on_cluster(&nodes, "LPUSH queue:mail {}");
    queues.extend(["asynq:*?exclude=x", "bullmq:mail?prefix={app}&name=bullmq", "rq:mail?name=rq"].map(String::from));
    queues.extend(["sidekiq:mail?name=sidekiq", "saq:*"].map(String::from));
    nodes.iter().for_each(|node| drop(node.say(ACL)));
    let [first, second] = [0, 1].map(|node| format!("127.0.0.1:{}", nodes[node].port));
    let url = format!("redis-cluster://exporter:secret@{first}?node={second}");
    let exporter = Exporter::start(&url, &queues.join(","));
    let metrics = exporter.wait("all nodes are read", |metrics| {
        names.iter().all(|name| metrics.of("length", name) == Some(2.0))
            && metrics.of("length", "{s}tream") == Some(1.0)
    });
    assert_eq!((metrics.of("length", "split"), metrics.of("in_flight", "split")), (Some(1.0), Some(3.0)));
    let metrics = exporter.wait("the found queue is read", |metrics| metrics.of("length", "mail") == Some(2.0));
    let lengths = ["bullmq", "rq", "sidekiq"].map(|queue| metrics.of("length", queue));
    assert_eq!(lengths, [Some(3.0), Some(4.0), Some(1.0)]);
    assert_eq!((metrics.of("in_flight", "rq"), metrics.of("delayed", "rq")), (Some(1.0), Some(1.0)));
    assert!(metrics.of("oldest_job_age_seconds", "rq").is_some());
    let refused = metrics.value("queue_exporter_poll_errors_total{kind=\"mismatch\"}");
    assert!(refused.is_some_and(|count| count > 0.0), "queues can't be found by their keys in a Cluster");
    let wait_split = |exporter: &Exporter, what: &str, silent: usize| {
        exporter.wait(what, |metrics| {
            names.iter().zip(&homes).all(|(name, home)| match *home == silent {
                true => metrics.of("up", name) == Some(0.0) && metrics.readings(name) == 0,
                false => metrics.of("length", name) == Some(2.0),
            })
        })
    };
    // The first one is that of the URL, and has slot 0.
    for silent in [2, 0] {
        nodes[silent].signal("STOP");
        wait_split(&exporter, "the other nodes are read on", silent);
        let started_since = Exporter::start(&url, &queues.join(","));
        wait_split(&started_since, "one that starts now reads them, too", silent);
        nodes[silent].signal("CONT");
        wait_split(&exporter, "the silent node is read again", usize::MAX);
        wait_split(&started_since, "by both", usize::MAX);
    }
    let refused = |node: &Redis| node.say("ACL LOG") != redis::Value::Array(Vec::new());
    assert!(!nodes.iter().any(refused), "the README's user may not do all that is needed");
}

/// More than are read in the time that one node may keep silent, if each part of a look waited for it.
#[test]
fn a_silent_node_is_waited_for_once_a_look() {
    let nodes = start_cluster();
    let names: Vec<String> = (0..4_000).map(|number| format!("q{number}")).collect();
    let queues: Vec<String> = names.iter().map(|name| format!("list:{name}")).collect();
    let url = format!("redis-cluster://127.0.0.1:{}", nodes[0].port);
    let exporter = Exporter::start_with(&[("REDIS_URL", &url), ("QUEUES", &queues.join(",")), ("MAX_QUEUES", "5000")]);
    let is_up = |line: &&str| line.starts_with("redis_queue_up{") && line.ends_with(" 1");
    let up = |metrics: &Metrics| metrics.0.lines().filter(is_up).count();
    exporter.wait("all are read", |metrics| up(metrics) == names.len());
    let (first, last) = match nodes[1].say("CLUSTER SLOTS") {
        redis::Value::Array(ranges) => ranges.iter().find_map(|range| own(range, nodes[1].port)).unwrap(),
        other => panic!("{other:?}"),
    };
    let mut connection = nodes[0].connect();
    let mut is_there = |name: &&String| {
        let slot: i64 = redis::cmd("CLUSTER").arg("KEYSLOT").arg(name).query(&mut connection).unwrap();
        (first..=last).contains(&slot)
    };
    let silent = names.iter().filter(|name| is_there(name)).count();
    assert!(silent > 1_000, "{silent}");
    nodes[1].signal("STOP");
    let metrics = exporter.wait("its queues are gone", |metrics| up(metrics) <= names.len() - silent);
    assert_eq!(up(&metrics), names.len() - silent);
    assert_eq!(up(&exporter.wait_polls(3.0)), names.len() - silent);
    nodes[1].signal("CONT");
}

/// The first and the last slot of a range of CLUSTER SLOTS, where its primary listens on this port.
fn own(range: &redis::Value, port: u16) -> Option<(i64, i64)> {
    let redis::Value::Array(range) = range else { return None };
    let [redis::Value::Int(first), redis::Value::Int(last), redis::Value::Array(node), ..] = range.as_slice() else {
        return None;
    };
    (node.get(1) == Some(&redis::Value::Int(port.into()))).then_some((*first, *last))
}

/// How often the nodes were asked for the map of slots.
fn looks_at_the_map(nodes: &[Redis]) -> u64 {
    let told = |node: &Redis| -> u64 {
        let text: String = redis::cmd("INFO").arg("commandstats").query(&mut node.connect()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("cmdstat_cluster|slots:calls="));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    };
    nodes.iter().map(told).sum()
}

#[test]
fn the_map_of_slots_is_not_looked_at_again_while_all_is_well() {
    let nodes = start_cluster();
    on_cluster(&nodes, "LPUSH one 1");
    let url = format!("redis-cluster://127.0.0.1:{}", nodes[0].port);
    let exporter = Exporter::start(&url, "list:one");
    exporter.wait("the queue is read", |metrics| metrics.of("length", "one") == Some(1.0));
    let before = looks_at_the_map(&nodes);
    assert!(before > 0, "it was looked at to begin with");
    exporter.wait_polls(5.0);
    assert_eq!(looks_at_the_map(&nodes), before);
}

/// A slot goes to another node as redis-cli moves it: announced, key by key, settled. While its one key is on the way readings are true or
/// absent, and the queues of other slots are untouched.
#[test]
fn a_slot_that_moves_is_followed() {
    let nodes = start_cluster();
    let from = on_cluster(&nodes, "LPUSH moving 1 2 3");
    let to = (from + 1) % nodes.len();
    // Of other slots, on the same nodes.
    let others: Vec<String> = (0..40).map(|number| format!("q{number}")).collect();
    for name in &others {
        on_cluster(&nodes, &format!("LPUSH {name} 1 2"));
    }
    let queues: Vec<String> = others.iter().map(|name| format!("list:{name}")).collect();
    let url = format!("redis-cluster://127.0.0.1:{}", nodes[0].port);
    let exporter = Exporter::start(&url, &format!("list:moving,{}", queues.join(",")));
    exporter.wait("all is read", |metrics| metrics.of("length", "moving") == Some(3.0));
    let id = |node: &Redis| match node.say("CLUSTER MYID") {
        redis::Value::BulkString(text) => String::from_utf8(text).unwrap(),
        other => panic!("{other:?}"),
    };
    let ids = [id(&nodes[from]), id(&nodes[to])];
    let slot = match nodes[0].say("CLUSTER KEYSLOT moving") {
        redis::Value::Int(slot) => slot,
        other => panic!("{other:?}"),
    };
    let check = || {
        let metrics = exporter.wait_polls(5.0);
        assert!(metrics.of("length", "moving").is_none_or(|length| length == 3.0), "{}", metrics.0);
        assert!(others.iter().all(|name| metrics.of("length", name) == Some(2.0)), "{}", metrics.0);
    };
    nodes[to].say(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[0]));
    nodes[from].say(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[1]));
    check();
    nodes[from].say(&format!("MIGRATE 127.0.0.1 {} moving 0 1000", nodes[to].port));
    check();
    for node in [to, from] {
        nodes[node].say(&format!("CLUSTER SETSLOT {slot} NODE {}", ids[1]));
    }
    exporter.wait("it is read at its new place", |metrics| metrics.of("length", "moving") == Some(3.0));
    check();
    nodes[to].say("LPUSH moving 4");
    exporter.wait("it is followed there", |metrics| metrics.of("length", "moving") == Some(4.0));
}

#[test]
fn a_loading_redis_is_not_read_as_empty() {
    let port = free_port();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_string();
    let first = Redis::start_on(port, &["--dir", &path, "--enable-debug-command", "local"]);
    first.say("DEBUG POPULATE 200000 filler 100");
    first.say("LPUSH q 1 2 3");
    first.say("SAVE");
    let exporter = Exporter::start(&first.url(), "list:q");
    exporter.wait("the queue is read", |metrics| metrics.of("length", "q") == Some(3.0));
    drop(first);
    let options = [
        "--port",
        &port.to_string(),
        "--dir",
        &path,
        "--key-load-delay",
        "50",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let loading = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn().unwrap();
    let loading = Process(loading);
    exporter.wait("a loading Redis is no reading", |metrics| {
        metrics.of("up", "q") == Some(0.0)
            && metrics.readings("q") == 0
            && metrics.value("queue_exporter_poll_errors_total{kind=\"unavailable\"}").is_some_and(|count| count > 0.0)
    });
    kill(loading.0.id(), "KILL");
    let second = Redis::start_on(port, &["--dir", &path]);
    exporter.wait("the loaded queue is read", |metrics| metrics.of("length", "q") == Some(3.0));
    drop(second);
}
