//! Pages, for real: Redis, the exporter, Prometheus with the rules and Alertmanager with its example route, and a receiver that
//! keeps what arrives. A minute of the rules is a second here. Each fault brings the one alert that names it, once, with its
//! numbers and links; and it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::chart::ROOT;
use support::quicker::quicker;
use support::{Redis, free_port, get};

/// What Alertmanager has sent: the path of the receiver, and each alert with its status.
type Sent = Arc<Mutex<Vec<(String, Value)>>>;

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[String], variables: &[(&str, &str)]) -> Running {
    let mut command = Command::new(program);
    command.args(arguments).envs(variables.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
    Running(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}; make test installs it")))
}

/// All of it together, about one queue named `mail`.
struct World {
    redis: Redis,
    exporter: Option<Running>,
    address: SocketAddr,
    sent: Sent,
    _folder: tempfile::TempDir,
    _running: Vec<Running>,
}

impl World {
    fn start(objective: &str) -> Self {
        Self::of("list:mail?in_flight=taken&processed=done", objective)
    }

    fn of(queue: &str, objective: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let (sent, receiver) = receive();
        let (prometheus, alertmanager) = (free_port(), free_port());
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        std::fs::create_dir(path("templates")).unwrap();
        let route = std::fs::read_to_string(format!("{ROOT}/alerts/alertmanager.yaml")).unwrap();
        let route = quicker(&route.replace("127.0.0.1:9099", &receiver.to_string()), 60);
        std::fs::write(path("alertmanager.yaml"), route).unwrap();
        for file in ["recording", "queues", "exporter"] {
            let rules = std::fs::read_to_string(format!("{ROOT}/alerts/{file}.rules.yaml")).unwrap();
            std::fs::write(path(&format!("{file}.rules.yaml")), quicker(&rules, 60)).unwrap();
        }
        let config = format!(
            "global: {{scrape_interval: 300ms, scrape_timeout: 300ms, evaluation_interval: 300ms}}\n\
             rule_files: ['{}/*.rules.yaml']\n\
             alerting: {{alertmanagers: [{{static_configs: [{{targets: ['127.0.0.1:{alertmanager}']}}]}}]}}\n\
             scrape_configs: [{{job_name: queue-exporter, static_configs: [{{targets: ['{address}'], labels: {{namespace: jobs}}}}]}}]\n",
            folder.path().display()
        );
        std::fs::write(path("prometheus.yaml"), config).unwrap();
        let queues = format!("queues: [{{queue: '{queue}', objective_age: {objective}}}]\n");
        std::fs::write(path("queues.yaml"), queues).unwrap();
        let running = vec![
            start(
                "prometheus-alertmanager",
                &[
                    format!("--config.file={}", path("alertmanager.yaml").display()),
                    format!("--storage.path={}", path("alertmanager").display()),
                    format!("--web.listen-address=127.0.0.1:{alertmanager}"),
                    "--cluster.listen-address=".into(),
                ],
                &[],
            ),
            start(
                "prometheus",
                &[
                    format!("--config.file={}", path("prometheus.yaml").display()),
                    format!("--storage.tsdb.path={}", path("prometheus").display()),
                    format!("--web.listen-address=127.0.0.1:{prometheus}"),
                    // an alert is sent again so soon that Alertmanager does not think it over
                    "--rules.alert.resend-delay=500ms".into(),
                ],
                &[],
            ),
        ];
        let redis = Redis::start();
        let mut world = Self { redis, exporter: None, address, sent, _folder: folder, _running: running };
        world.start_exporter();
        support::wait_for("Alertmanager and Prometheus are ready", || {
            let ready =
                |port| get(SocketAddr::from(([127, 0, 0, 1], port)), "/-/ready", "").filter(|it| it.status == 200);
            ready(prometheus).and(ready(alertmanager)).map(|_| ())
        });
        // Prometheus takes 5 s to find its Alertmanager.
        let prometheus = SocketAddr::from(([127, 0, 0, 1], prometheus));
        support::wait_for("Prometheus has its Alertmanager", || {
            let answer = get(prometheus, "/api/v1/alertmanagers", "")?.text();
            answer.contains(&format!("127.0.0.1:{alertmanager}")).then_some(())
        });
        world
    }

    fn start_exporter(&mut self) {
        let file = self._folder.path().join("queues.yaml").display().to_string();
        let variables = [
            ("REDIS_URL", self.redis.url()),
            ("QUEUES_FILE", file),
            ("LISTEN_ADDR", self.address.to_string()),
            ("POLL_INTERVAL", "100ms".into()),
            ("STALE_AFTER", "500ms".into()),
            ("RATE_WINDOW", "2s".into()),
        ];
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.exporter = Some(start(env!("CARGO_BIN_EXE_queue-exporter"), &[], &variables));
        let address = self.address;
        support::wait_for("the exporter is ready", || get(address, "/readyz", "").filter(|it| it.status == 200));
    }

    /// The names of the alerts that were sent to fire.
    fn fired(&self) -> BTreeSet<String> {
        let sent = self.sent.lock().unwrap();
        let firing = sent.iter().filter(|(_, alert)| alert["status"] == "firing");
        firing.map(|(_, alert)| alert["labels"]["alertname"].as_str().unwrap().to_string()).collect()
    }

    /// Waits for an alert at its receiver, with what a page needs.
    fn arrives(&self, name: &str, receiver: &str, numbers: &str) {
        let since = Instant::now();
        let alert = self.wait(name, "firing", 60);
        println!("{name} arrived after {:.1} minutes of the rules", since.elapsed().as_secs_f64());
        assert_eq!(alert.0, receiver, "{name}");
        let annotations = &alert.1["annotations"];
        let description = annotations["description"].as_str().unwrap();
        assert!(description.contains(numbers), "{name}: {description}");
        assert!(!description.contains("<no value>") && !description.contains("error"), "{name}: {description}");
        assert!(annotations["runbook_url"].as_str().unwrap().ends_with(&format!("{name}.md")));
        assert!(annotations["dashboard_url"].as_str().unwrap().contains("var-namespace=jobs"));
        assert_eq!(self.fired(), BTreeSet::from([name.to_string()]), "one cause, one alert");
    }

    fn ends(&self, name: &str) {
        self.wait(name, "resolved", 60);
        assert_eq!(self.fired(), BTreeSet::from([name.to_string()]), "one cause, one alert");
    }

    fn wait(&self, name: &str, status: &str, seconds: u64) -> (String, Value) {
        let end = Instant::now() + Duration::from_secs(seconds);
        loop {
            let found = self
                .sent
                .lock()
                .unwrap()
                .iter()
                .find(|(_, alert)| alert["labels"]["alertname"] == name && alert["status"] == status)
                .cloned();
            if let Some(found) = found {
                return found;
            }
            assert!(Instant::now() < end, "{name} was not {status}; there were {:?}", self.fired());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A receiver of webhooks on a port of its own.
fn receive() -> (Sent, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Sent::default();
    let shared = sent.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            std::thread::spawn(move || take(&stream, &shared));
        }
    });
    (sent, address)
}

fn take(stream: &TcpStream, sent: &Sent) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
        while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
            if let Some(rest) = line.strip_prefix("POST ") {
                path = rest.split(' ').next().unwrap().trim_start_matches('/').to_string();
            }
            if let Some(rest) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = rest.trim().parse().unwrap();
            }
            line.clear();
        }
        if path.is_empty() {
            return;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let alerts = body["alerts"].as_array().unwrap().iter().map(|alert| (path.clone(), alert.clone()));
        sent.lock().unwrap().extend(alerts);
        let mut writer = stream;
        let _ = writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

#[test]
fn minutes_become_seconds() {
    assert_eq!(
        quicker("[10m] for: 5m ratio5m increase10m offset 1h 3d 0.144 30s x2", 60),
        "[10000ms] for: 5000ms ratio5m increase10m offset 60000ms 4320000ms 0.144 500ms x2"
    );
}

#[test]
fn an_exporter_that_is_gone_is_one_page() {
    let mut world = World::start("10m");
    world.redis.say("LPUSH mail a b c");
    world.exporter = None;
    world.arrives("ExporterDown", "page", "Queues are not seen");
    world.start_exporter();
    world.redis.say("DEL mail");
    world.ends("ExporterDown");
}

#[test]
fn a_redis_that_is_gone_is_one_page() {
    let world = World::start("10m");
    world.redis.signal("STOP");
    world.arrives("RedisUnreachable", "page", "No queue is read");
    world.redis.signal("CONT");
    world.ends("RedisUnreachable");
}

#[test]
fn a_queue_of_the_wrong_type_is_a_ticket() {
    let world = World::start("10m");
    world.redis.say("SET mail no-list");
    world.arrives("QueueUnreadable", "ticket", "another type");
    world.redis.say("DEL mail");
    world.ends("QueueUnreadable");
}

#[test]
fn jobs_that_nobody_takes_are_one_page() {
    let world = World::start("10m");
    world.redis.say("SET done 5");
    world.redis.say("LPUSH mail a b c d e f g");
    world.arrives("QueueStalled", "page", "7 jobs have waited");
    world.redis.say("DEL mail");
    world.redis.say("SET done 12");
    world.ends("QueueStalled");
}

/// A process of Sidekiq that ends as it does on SIGTERM: it takes itself off the register. Its keys are written by the test.
#[test]
fn workers_that_are_gone_are_one_page() {
    let world = World::of("sidekiq:mail", "10m");
    let mut redis = world.redis.connect();
    let beat = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let info = r#"{"hostname":"h","pid":1,"concurrency":5,"queues":["mail"],"identity":"h:1:a"}"#;
    redis::cmd("SADD").arg(&["processes", "h:1:a"]).exec(&mut redis).unwrap();
    redis::cmd("HSET")
        .arg(&["h:1:a", "info", info, "busy", "0", "quiet", "false", "beat", &beat.to_string()])
        .exec(&mut redis)
        .unwrap();
    let job = |number: u32| format!(r#"{{"class":"Mail","jid":"{number}","queue":"mail","enqueued_at":{beat}}}"#);
    redis::cmd("LPUSH").arg("queue:mail").arg(job(1)).arg(job(2)).arg(job(3)).exec(&mut redis).unwrap();
    support::wait_for("its worker is seen", || {
        let text = get(world.address, "/metrics", "")?.text();
        text.contains("redis_queue_consumers{queue=\"mail\",layout=\"sidekiq\"} 1\n").then_some(())
    });
    redis::cmd("SREM").arg(&["processes", "h:1:a"]).exec(&mut redis).unwrap();
    redis::cmd("DEL").arg("h:1:a").exec(&mut redis).unwrap();
    world.arrives("QueueNoConsumers", "page", "3 jobs wait");
    world.redis.say("DEL queue:mail");
    world.ends("QueueNoConsumers");
}

/// Done at a steady pace, and always late: the page is on the age, with its numbers.
#[test]
fn late_jobs_are_one_page() {
    let world = World::start("1s");
    let stop = work(&world, 3);
    world.arrives("QueueLate", "page", "the objective is 1s");
    drop(stop);
    let stop = work(&world, 0);
    world.ends("QueueLate");
    drop(stop);
}

/// Bursts that are drained within their objective, for as long as an hour of the rules.
#[test]
fn healthy_load_brings_no_alert() {
    let world = World::start("10m");
    let _stop = work(&world, 0);
    let end = Instant::now() + Duration::from_secs(60);
    let mut redis = world.redis.connect();
    let mut burst = 0;
    while Instant::now() < end {
        burst = burst % 40 + 13;
        for job in 0..burst {
            redis::cmd("LPUSH")
                .arg("mail")
                .arg(format!("{burst}-{job}-{:?}", Instant::now()))
                .exec(&mut redis)
                .unwrap();
        }
        // the pace of the producer
        std::thread::sleep(Duration::from_millis(500 + 37 * burst));
    }
    assert_eq!(world.fired(), BTreeSet::new());
}

/// A worker that keeps `left` jobs waiting, and counts what it does; until what this gives is dropped.
fn work(world: &World, left: u64) -> std::sync::mpsc::Sender<()> {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let mut redis = world.redis.connect();
    std::thread::spawn(move || {
        let mut number = 0;
        // the pace of the worker: a job every 20 ms
        while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_millis(20)) {
            let waiting: u64 = redis::cmd("LLEN").arg("mail").query(&mut redis).unwrap();
            if left > 0 && waiting <= left {
                // the oldest stays: what is done is newer
                number += 1;
                redis::cmd("LPUSH").arg("mail").arg(number).exec(&mut redis).unwrap();
                if waiting == left {
                    redis::cmd("LPOP").arg("mail").exec(&mut redis).unwrap();
                    redis::cmd("INCR").arg("done").exec(&mut redis).unwrap();
                }
            } else if waiting > 0 {
                redis::cmd("RPOP").arg("mail").exec(&mut redis).unwrap();
                redis::cmd("INCR").arg("done").exec(&mut redis).unwrap();
            }
        }
    });
    stop
}
