//! Faults, one after the other, of the network between the exporter and Redis (by toxiproxy) and of Redis itself: what `/metrics` says
//! meanwhile is held against a model of what was true, and it is true again when the fault is gone. Prints two tables, and writes them to
//! `target/faults-network.md` and `target/faults-redis.md`; `docs/faults.md` shows them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::chart::ROOT;
use support::{Exporter, Metrics, Redis, free_port, get, request, wait_for};

/// How long each fault lasts: several times what a reading may live.
const FAULT: Duration = Duration::from_secs(4);
/// `STALE_AFTER` of the tests' exporter, and the time that a poll may take (four fifths of it): a reading is shown for no longer than the
/// one after its poll, which began no longer than the other before.
const LIFE: Duration = Duration::from_millis(1_000 + 800);

/// What is done to the network, as (kind, direction, share of connections, attributes).
type Toxic = (&'static str, &'static str, f64, Value);

/// A fault, and how it is mended.
struct Fault {
    name: &'static str,
    strike: Box<dyn Fn(&mut World)>,
    mend: Box<dyn Fn(&mut World)>,
}

fn network(name: &'static str, toxics: Vec<Toxic>) -> Fault {
    Fault {
        name,
        strike: Box::new(move |world| world.proxy.apply(&toxics)),
        mend: Box::new(|world| world.proxy.heal()),
    }
}

fn redis(name: &'static str, strike: fn(&mut World), mend: fn(&mut World)) -> Fault {
    Fault { name, strike: Box::new(strike), mend: Box::new(mend) }
}

fn of_the_network() -> Vec<Fault> {
    vec![
        network("latency of 100 ms", vec![("latency", "downstream", 1.0, json!({"latency": 100}))]),
        network(
            "latency of 300 ms, give or take 300",
            vec![("latency", "downstream", 1.0, json!({"latency": 300, "jitter": 300}))],
        ),
        network("latency of 2 s", vec![("latency", "upstream", 1.0, json!({"latency": 2_000}))]),
        network("1 KB a second", vec![("bandwidth", "downstream", 1.0, json!({"rate": 1}))]),
        network(
            "a byte every 5 ms",
            vec![("slicer", "downstream", 1.0, json!({"average_size": 1, "size_variation": 0, "delay": 5_000}))],
        ),
        network("nothing comes back, half open", vec![("timeout", "downstream", 1.0, json!({"timeout": 0}))]),
        network("nothing gets there, half open", vec![("timeout", "upstream", 1.0, json!({"timeout": 0}))]),
        network("reset after 50 ms", vec![("reset_peer", "downstream", 1.0, json!({"timeout": 50}))]),
        network("every second connection is reset", vec![("reset_peer", "upstream", 0.5, json!({"timeout": 0}))]),
        network("cut after 100 bytes", vec![("limit_data", "downstream", 1.0, json!({"bytes": 100}))]),
        network("cut after 5,000 bytes", vec![("limit_data", "downstream", 1.0, json!({"bytes": 5_000}))]),
        network("no connection", vec![]),
    ]
}

fn of_redis() -> Vec<Fault> {
    vec![
        redis("stopped (SIGSTOP)", |world| world.redis.signal("STOP"), |world| world.redis.signal("CONT")),
        redis(
            "killed (SIGKILL), and back with its data",
            |world| world.redis.kill(),
            |world| {
                world.redis.restart();
                world.admin = world.redis.connect();
            },
        ),
        // It ends by itself, at the next of Redis's own ticks; then this is answered.
        redis("all clients are paused", |world| world.say("CLIENT PAUSE 4000 ALL"), |world| world.say("PING")),
        redis(
            "a script that does not end (BUSY)",
            |world| {
                world.say("CONFIG SET lua-time-limit 50");
                let mut endless = world.redis.connect();
                std::thread::spawn(move || {
                    redis::cmd("EVAL").arg("while true do end").arg(0).query::<redis::Value>(&mut endless).ok()
                });
            },
            |world| world.say("SCRIPT KILL"),
        ),
        redis(
            "out of memory",
            |world| world.say("CONFIG SET maxmemory 1"),
            |world| world.say("CONFIG SET maxmemory 0"),
        ),
        redis(
            "a replica whose master is away (READONLY)",
            |world| world.say("REPLICAOF 127.0.0.1 1"),
            |world| world.say("REPLICAOF NO ONE"),
        ),
        redis(
            "the same, and may not tell what is old (MASTERDOWN)",
            |world| {
                world.say("CONFIG SET replica-serve-stale-data no");
                world.say("REPLICAOF 127.0.0.1 1");
            },
            |world| world.say("REPLICAOF NO ONE"),
        ),
        redis(
            "can't save to its disk (MISCONF)",
            |world| {
                let folder: Vec<String> = redis::cmd("CONFIG").arg(&["GET", "dir"]).query(&mut world.admin).unwrap();
                std::fs::create_dir(format!("{}/dump.rdb", folder[1])).unwrap();
                redis::cmd("CONFIG").arg(&["SET", "save", "3600 1"]).exec(&mut world.admin).unwrap();
                world.say("BGSAVE");
            },
            |world| world.say("CONFIG SET stop-writes-on-bgsave-error no"),
        ),
        redis(
            "no more clients",
            |world| {
                world.say("CONFIG SET maxclients 1");
                world.say("CLIENT KILL TYPE normal SKIPME yes");
            },
            |world| world.say("CONFIG SET maxclients 1000"),
        ),
        redis(
            "another password",
            |world| {
                world.say("CONFIG SET requirepass other");
                world.say("CLIENT KILL TYPE normal SKIPME yes");
            },
            |world| world.say("ACL SETUSER default nopass"),
        ),
        redis(
            "may not ask for lengths (NOPERM)",
            |world| world.say("ACL SETUSER default -llen"),
            |world| world.say("ACL SETUSER default +llen"),
        ),
        redis(
            "the key is of another type (WRONGTYPE)",
            |world| {
                let mut swap = redis::pipe();
                swap.atomic().rename("l", "aside").ignore().set("l", "x").ignore();
                swap.exec(&mut world.admin).unwrap();
            },
            |world| {
                let mut swap = redis::pipe();
                swap.atomic().del("l").ignore().rename("aside", "l").ignore();
                swap.exec(&mut world.admin).unwrap();
            },
        ),
    ]
}

/// What a fault may strike.
struct World {
    redis: Redis,
    proxy: Proxy,
    /// Stays when others are shut out.
    admin: redis::Connection,
}

impl World {
    fn say(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        support::command(&words).exec(&mut self.admin).unwrap();
    }
}

struct Proxy {
    server: Child,
    api: SocketAddr,
    port: u16,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}

impl Proxy {
    fn start(redis: &Redis) -> Self {
        let (api, port) = (free_port(), free_port());
        let server = Command::new(format!("{ROOT}/.cache/chart/bin/toxiproxy"))
            .args(["-host", "127.0.0.1", "-port", &api.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("make test builds toxiproxy, by tests/tools/setup.sh .cache/chart");
        let proxy = Self { server, api: ([127, 0, 0, 1], api).into(), port };
        wait_for("toxiproxy answers", || get(proxy.api, "/version", ""));
        let upstream = format!("127.0.0.1:{}", redis.port);
        let about =
            json!({"name": "redis", "listen": format!("127.0.0.1:{port}"), "upstream": upstream, "enabled": true});
        proxy.post("/proxies", &about, 201);
        proxy
    }

    fn post(&self, path: &str, body: &Value, status: u16) {
        let body = body.to_string();
        let length = body.len();
        let answer = request(
            self.api,
            &format!(
                "POST {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            ),
        )
        .unwrap();
        let got = answer.status;
        assert_eq!(got, status, "{path}: {}", answer.text());
    }

    fn apply(&self, toxics: &[Toxic]) {
        if toxics.is_empty() {
            self.post("/proxies/redis", &json!({"enabled": false}), 200);
        }
        for (kind, stream, toxicity, attributes) in toxics {
            let toxic = json!({"type": kind, "stream": stream, "toxicity": toxicity, "attributes": attributes});
            self.post("/proxies/redis/toxics", &toxic, 200);
        }
    }

    fn heal(&self) {
        self.post("/reset", &json!({}), 204);
    }
}

/// Jobs put in, each with the moment when Redis had it; nobody takes them.
#[derive(Clone, Default)]
struct Truth {
    put: Arc<Mutex<Vec<Instant>>>,
    /// Those of which nobody knows whether Redis had them: it was gone before it answered.
    perhaps: Arc<AtomicU32>,
}

impl Truth {
    /// How many there were for sure at a moment.
    fn at(&self, moment: Instant) -> f64 {
        self.put.lock().unwrap().partition_point(|put| *put <= moment) as f64
    }

    /// How many there can have been: one may be on its way.
    fn at_most(&self, moment: Instant) -> f64 {
        self.at(moment) + 1.0 + f64::from(self.perhaps.load(Ordering::Relaxed))
    }

    /// Puts jobs in until it is told to stop.
    fn put(&self, url: &str, stop: &AtomicBool) {
        let mut connection = None;
        for job in 0.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            let Some(open) = &mut connection else {
                connection = redis::Client::open(url).unwrap().get_connection().ok();
                continue;
            };
            match redis::cmd("LPUSH").arg("l").arg(job).exec(open) {
                Ok(()) => self.put.lock().unwrap().push(Instant::now()),
                // It said no.
                Err(error) if error.code().is_some() => {}
                Err(_) => {
                    self.perhaps.fetch_add(1, Ordering::Relaxed);
                    connection = None;
                }
            }
        }
    }

    fn oldest(&self, moment: Instant) -> f64 {
        self.put.lock().unwrap().first().map_or(0.0, |put| moment.saturating_duration_since(*put).as_secs_f64())
    }

    /// What a scrape between two moments says that was not so.
    fn wrong(&self, metrics: &Metrics, before: Instant, after: Instant) -> Vec<String> {
        let mut wrong = Vec::new();
        let earliest = before.checked_sub(LIFE).unwrap();
        let mut within = |name: &str, value: Option<f64>, least: f64, most: f64| {
            if value.is_some_and(|value| value < least || value > most) {
                wrong.push(format!("{name} is {value:?}, not between {least} and {most}"));
            }
        };
        for name in ["length", "backlog"] {
            within(name, metrics.of(name, "l"), self.at(earliest), self.at_most(after));
        }
        within("arrivals_total", metrics.of("arrivals_total", "l"), 0.0, self.at_most(after));
        within("processed_total", metrics.of("processed_total", "l"), 0.0, 0.0);
        within("processing_rate", metrics.of("processing_rate", "l"), 0.0, 0.0);
        let error = metrics.of("oldest_job_age_error_seconds", "l").unwrap_or(0.0);
        let (least, most) = (self.oldest(earliest) - error, self.oldest(after) + error + 0.1);
        within("oldest_job_age_seconds", metrics.of("oldest_job_age_seconds", "l"), least, most);
        within("length of the empty one", metrics.of("length", "empty"), 0.0, 0.0);
        wrong
    }
}

#[test]
fn what_is_shown_over_a_bad_network_is_true_or_absent() {
    hold("network", of_the_network());
}

#[test]
fn what_is_shown_of_a_redis_in_trouble_is_true_or_absent() {
    hold("redis", of_redis());
}

fn hold(kind: &str, faults: Vec<Fault>) {
    let redis = Redis::start_on(free_port(), &["--appendonly", "yes", "--appendfsync", "always"]);
    let proxy = Proxy::start(&redis);
    let (truth, stop) = (Truth::default(), Arc::new(AtomicBool::new(false)));
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    let exporter = Exporter::start(&url, "list:l,list:empty");
    let putting = {
        let (truth, stop, url) = (truth.clone(), stop.clone(), redis.url());
        std::thread::spawn(move || truth.put(&url, &stop))
    };
    let mut world = World { admin: redis.connect(), redis, proxy };
    let is_true =
        |metrics: &Metrics| metrics.of("length", "l").is_some_and(|length| length >= truth.at(Instant::now()) - 20.0);
    let head = "fault | scrapes | of them with readings | slowest answer, ms | true again after, polls | wrong numbers";
    let mut table = format!("| {head} |\n|---|---|---|---|---|---|\n");
    let (mut wrong, mut late) = (Vec::new(), Vec::new());
    for fault in faults {
        exporter.wait("it is well", is_true);
        (fault.strike)(&mut world);
        let (start, mut scrapes, mut shown, mut slowest) = (Instant::now(), 0, 0, Duration::ZERO);
        let mut look = || {
            let before = Instant::now();
            let metrics = exporter.metrics();
            let after = Instant::now();
            let found = truth.wrong(&metrics, before, after);
            let count = found.len();
            wrong.extend(found.into_iter().map(|text| format!("{}: {text}", fault.name)));
            (metrics, after - before, count)
        };
        let mut lies = 0;
        while start.elapsed() < FAULT {
            let (metrics, took, count) = look();
            scrapes += 1;
            shown += u32::from(metrics.of("length", "l").is_some());
            slowest = slowest.max(took);
            lies += count;
            std::thread::sleep(Duration::from_millis(30));
        }
        (fault.mend)(&mut world);
        let polls = exporter.metrics().polls();
        let mut read_after = None;
        let again = wait_for("it is true again", || {
            let (metrics, _, count) = look();
            lies += count;
            if metrics.of("up", "l") == Some(1.0) {
                read_after.get_or_insert(metrics.polls() - polls);
            }
            is_true(&metrics).then(|| metrics.polls() - polls)
        });
        // The first may have begun before the end of the fault.
        late.extend(read_after.filter(|polls| *polls > 2.0).map(|polls| format!("{}: {polls} polls", fault.name)));
        let slowest = slowest.as_secs_f64() * 1_000.0;
        let _ = writeln!(table, "| {} | {scrapes} | {shown} | {slowest:.0} | {again} | {lies} |", fault.name);
    }
    stop.store(true, Ordering::Relaxed);
    putting.join().unwrap();
    println!("{table}");
    std::fs::write(format!("{ROOT}/target/faults-{kind}.md"), &table).unwrap();
    assert_eq!(late, Vec::<String>::new(), "read again after more than two polls");
    assert!(wrong.is_empty(), "{} wrong numbers:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
