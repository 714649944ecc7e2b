//! A real Redis on a free port, the exporter's binary against it, and a plain HTTP client. Both end with the test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod authority;
pub mod chart;
pub mod churn;
pub mod grpc;
pub mod process;
pub mod prometheus;
pub mod quicker;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A port that was free a moment ago. None of those that the kernel gives to whoever connects: a server that is started again
/// needs the same one.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const LAST: u32 = 32_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        // Tests run beside one another, as threads and as processes.
        let place = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = (FIRST + place % (LAST - FIRST)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until `condition` gives something; panics with `what` after 20 s.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The user of the README's ACL SETUSER line.
pub const ACL: &str = "ACL SETUSER exporter on >secret ~* resetchannels &__keyspace@* -@all +ping +select +cluster|slots +multi \
                   +exec +llen +lrange +lpos +zcard +zcount +zrange +zrangebyscore +get +xlen +xinfo|groups +xinfo|stream +xrange +xpending +type +subscribe \
                   +getrange +exists +hlen +hget +hmget +hstrlen +hvals +scard +sscan +scan +time";

/// A redis-server of the test's own.
pub struct Redis {
    child: Child,
    pub port: u16,
    options: Vec<String>,
    directory: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> Self {
        Self::start_on(free_port(), &[])
    }

    pub fn start_on(port: u16, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        let child = serve(port, &options, directory.path());
        let redis = Self { child, port, options, directory };
        redis.wait();
        redis
    }

    fn wait(&self) {
        wait_for("redis-server answers", || {
            let mut connection = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
            match redis::cmd("PING").query::<String>(&mut connection) {
                Ok(_) => Some(()),
                Err(error) => error.to_string().contains("NOAUTH").then_some(()),
            }
        });
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again where its data is, if its options have it keep any.
    pub fn restart(&mut self) {
        self.child = serve(self.port, &self.options, self.directory.path());
        self.wait();
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn connect(&self) -> redis::Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Runs one command, its words given as bytes.
    pub fn run<T: AsRef<[u8]>>(&self, words: &[T]) -> redis::Value {
        self.try_run(words).unwrap()
    }

    pub fn try_run<T: AsRef<[u8]>>(&self, words: &[T]) -> redis::RedisResult<redis::Value> {
        command(words).query(&mut redis::Client::open(self.url())?.get_connection()?)
    }

    pub fn say(&self, line: &str) -> redis::Value {
        self.run(&line.split(' ').collect::<Vec<_>>())
    }

    pub fn signal(&self, signal: &str) {
        kill(self.child.id(), signal);
    }

    /// Commands processed so far.
    pub fn commands(&self) -> u64 {
        let info: String = redis::cmd("INFO").arg("stats").query(&mut self.connect()).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")).unwrap();
        line.trim().parse().unwrap()
    }
}

fn serve(port: u16, options: &[String], directory: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--maxclients", "10000"])
        .args(options)
        .current_dir(directory)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: tests/setup.sh redis-server")
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn command<T: AsRef<[u8]>>(words: &[T]) -> redis::Cmd {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word.as_ref());
    }
    command
}

pub fn kill(pid: u32, signal: &str) {
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap().success());
}

/// The exporter's binary, polling fast.
pub struct Exporter {
    child: Child,
    pub address: SocketAddr,
}

impl Exporter {
    pub fn start(redis_url: &str, queues: &str) -> Self {
        Self::start_with(&[("REDIS_URL", redis_url), ("QUEUES", queues)])
    }

    pub fn start_with(variables: &[(&str, &str)]) -> Self {
        Self::start_logging(variables, Stdio::inherit())
    }

    /// The same with its log in a file.
    pub fn start_logged(variables: &[(&str, &str)], log: &Path) -> Self {
        Self::start_logging(variables, std::fs::File::create(log).unwrap().into())
    }

    fn start_logging(variables: &[(&str, &str)], log: Stdio) -> Self {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let child = Command::new(env!("CARGO_BIN_EXE_queue-exporter"))
            .env_clear()
            .env("LISTEN_ADDR", address.to_string())
            .env("POLL_INTERVAL", "100ms")
            .env("STALE_AFTER", "1s")
            .env("RATE_WINDOW", "1s")
            .envs(variables.iter().copied())
            .stderr(log)
            .spawn()
            .unwrap();
        let exporter = Self { child, address };
        wait_for("the exporter is ready", || (exporter.get("/readyz")?.status == 200).then_some(()));
        exporter
    }

    pub fn get(&self, path: &str) -> Option<Answer> {
        get(self.address, path, "")
    }

    pub fn metrics(&self) -> Metrics {
        Metrics(self.get("/metrics").expect("/metrics answers").text())
    }

    /// Waits for a scrape that shows what is wanted.
    pub fn wait(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        wait_for(what, || Some(self.metrics()).filter(|metrics| wanted(metrics)))
    }

    /// Waits until so many more polls have ended.
    pub fn wait_polls(&self, polls: f64) -> Metrics {
        let before = self.metrics().polls();
        self.wait("polls go on", |metrics| metrics.polls() >= before + polls)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it by a signal and returns its exit code.
    pub fn stop(mut self, signal: &str) -> Option<i32> {
        kill(self.child.id(), signal);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(self) -> String {
        String::from_utf8(self.body).expect("the body is UTF-8")
    }
}

pub fn get(address: SocketAddr, path: &str, headers: &str) -> Option<Answer> {
    request(address, &format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{headers}\r\n"))
}

pub fn request(address: SocketAddr, text: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head: head.to_lowercase(), body: bytes.split_off(end + 4) })
}

/// A scrape.
pub struct Metrics(pub String);

impl Metrics {
    /// The value of a queue's series, or `None` where it is absent.
    pub fn of(&self, name: &str, queue: &str) -> Option<f64> {
        let start = format!("redis_queue_{name}{{queue=\"{queue}\",");
        let line = self.0.lines().find(|line| line.starts_with(&start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The value of a series that has no queue.
    pub fn value(&self, series: &str) -> Option<f64> {
        let line = self.0.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    pub fn polls(&self) -> f64 {
        self.value("queue_exporter_poll_duration_seconds_count").unwrap_or(0.0)
    }

    /// How many readings of the queue are shown; its `up` and policy do not count.
    pub fn readings(&self, queue: &str) -> usize {
        let policy = ["_up{", "objective_age", "scale_", "_workers{"];
        let label = format!("{{queue=\"{queue}\",");
        self.0.lines().filter(|line| line.contains(&label) && !policy.iter().any(|part| line.contains(part))).count()
    }
}

/// Loads a recorded fixture: one JSON object a key, or one array a command. Bytes that are no UTF-8 are `{"b64": ...}`.
/// Keys do not expire, for the queue is read as it was at the time of the recording.
pub fn load_fixture(redis: &Redis, name: &str) {
    let path = format!("{}/tests/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut connection = redis.connect();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let document: serde_json::Value = serde_json::from_str(line).unwrap();
        for words in commands(&document) {
            command(&words).query::<redis::Value>(&mut connection).unwrap();
        }
    }
}

/// The commands that make what a line of a fixture holds.
fn commands(document: &serde_json::Value) -> Vec<Vec<Vec<u8>>> {
    let items = |value: &serde_json::Value| value.as_array().expect("an array").clone();
    if document.is_array() {
        return vec![items(document).iter().map(bytes).collect()];
    }
    let (key, value) = (bytes(&document["key"]), &document["value"]);
    let command = |name: &str, rest: Vec<Vec<u8>>| [vec![name.as_bytes().to_vec(), key.clone()], rest].concat();
    let flat = |value: &serde_json::Value| items(value).iter().map(bytes).collect();
    let pairs = |value: &serde_json::Value, swap: bool| {
        let pair = |pair: &serde_json::Value| {
            if swap { [bytes(&pair[1]), bytes(&pair[0])] } else { [bytes(&pair[0]), bytes(&pair[1])] }
        };
        items(value).iter().flat_map(pair).collect::<Vec<_>>()
    };
    let made = match document["type"].as_str() {
        Some("stream") => {
            let entry = |entry: &serde_json::Value| command("XADD", [vec![bytes(&entry[0])], flat(&entry[1])].concat());
            return items(value).iter().map(entry).collect();
        }
        Some("list") => command("RPUSH", flat(value)),
        Some("set") => command("SADD", flat(value)),
        Some("zset") => command("ZADD", pairs(value, true)),
        Some("hash") => command("HSET", pairs(value, false)),
        Some("string") => command("SET", vec![bytes(value)]),
        other => panic!("a fixture of another kind: {other:?}"),
    };
    vec![made]
}

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    use base64::Engine;
    match value {
        serde_json::Value::String(text) => text.as_bytes().to_vec(),
        serde_json::Value::Object(_) => {
            base64::engine::general_purpose::STANDARD.decode(value["b64"].as_str().unwrap()).unwrap()
        }
        other => other.to_string().into_bytes(),
    }
}
