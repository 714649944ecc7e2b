//! What the benchmarks share: a Redis of their own, processes that are watched, scrapes, figures.
#![allow(dead_code)] // each benchmark uses a part

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{env, fs};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

pub const POLLS: &str = "queue_exporter_poll_duration_seconds_count ";
pub const POLL_SECONDS: &str = "queue_exporter_poll_duration_seconds_sum ";
/// Far longer than any answer seen (the peer takes 2 s for 10,000 queues): a hang ends in a message.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Times {
    pub p50: f64,
    pub p99: f64,
    pub n: f64,
}

impl Times {
    /// In ms, by nearest rank: of fewer than 100 values, the 99th percentile is the largest.
    pub fn of(times: &[Duration]) -> Self {
        let mut ms: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let at = |part: usize| ms.get((ms.len() * part).div_ceil(100).saturating_sub(1));
        let [p50, p99] = [50, 99].map(|part| at(part).copied().unwrap_or(f64::NAN));
        let n = ms.len() as f64;
        Self { p50, p99, n }
    }
}

/// Does it 3 times at least, and on until the time is up or it was done 200 times.
pub fn repeat(seconds: u32, mut task: impl FnMut() -> Outcome<Duration>) -> Outcome<Vec<Duration>> {
    let (begin, limit) = (Instant::now(), Duration::from_secs(seconds.into()));
    let mut times = Vec::new();
    while times.len() < 3 || (begin.elapsed() < limit && times.len() < 200) {
        times.push(task()?);
    }
    Ok(times)
}

/// Does it once at the end of each second.
pub fn paced(seconds: u32, mut task: impl FnMut() -> Outcome<Duration>) -> Outcome<Vec<Duration>> {
    let begin = Instant::now();
    let mut at = |second: u32| {
        sleep(Duration::from_secs(second.into()).saturating_sub(begin.elapsed()));
        task()
    };
    (1..=seconds).map(&mut at).collect()
}

/// What Redis had to do.
pub struct Load {
    pub cpu_ms: f64,
    pub commands: f64,
    /// How often it woke up to read from a socket: for small requests the number of round trips.
    pub reads: f64,
}

impl Load {
    pub fn per(self, times: f64) -> Self {
        Self { cpu_ms: self.cpu_ms / times, commands: self.commands / times, reads: self.reads / times }
    }
}

/// One Redis with its queues. The fields are dropped in this order: Redis, then its directory.
pub struct Bed {
    pub redis: Process,
    pub dir: ScratchDir,
    pub port: u16,
    pub url: String,
    pub admin: redis::Connection,
    pub idle_ms: f64,
    /// Keeps the machine awake: what runs once a second on one that sleeps takes two or three times as much CPU time.
    _awake: Vec<Process>,
}

impl Bed {
    pub fn new() -> Outcome<Self> {
        let dir = ScratchDir::new()?;
        let port = free_address()?.port();
        let mut server = command("redis-server");
        server.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        server.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&dir.0);
        // its own ticks, 10 a second, would cost more than a poll of a few queues
        server.args(["--hz", "1", "--dynamic-hz", "no"]);
        let mut redis = Process::spawn(&mut server)?;
        let url = format!("redis://127.0.0.1:{port}");
        let client = redis::Client::open(url.as_str())?;
        let admin = redis.wait_for(|| client.get_connection().ok())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = || Process::spawn(command("nice").args(["-n", "19", "sh", "-c", "while :; do :; done"]));
        let awake = (0..cores).map(|_| spin()).collect::<Outcome<Vec<_>>>()?;
        Ok(Self { redis, dir, port, url, admin, idle_ms: 0.0, _awake: awake })
    }

    pub fn measure_idle(&mut self, seconds: u32) -> Outcome<()> {
        let length = Duration::from_secs(seconds.into());
        let ((), load) = self.observe(|| {
            sleep(length);
            Ok(())
        })?;
        self.idle_ms = load.cpu_ms / length.as_secs_f64();
        Ok(())
    }

    /// Does the work and tells the load that Redis had from it, less its idle CPU and our own INFO.
    pub fn observe<T>(&mut self, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Load)> {
        let settle = || sleep(Duration::from_millis(5)); // until Redis sleeps again
        let (commands, reads) = self.stats()?;
        settle();
        let (begin, cpu) = (Instant::now(), self.redis.cpu_ms()?);
        let result = work()?;
        settle();
        let idle = self.idle_ms * begin.elapsed().as_secs_f64();
        let cpu_ms = (self.redis.cpu_ms()? - cpu - idle).max(0.0);
        let (commands_after, reads_after) = self.stats()?;
        let load = Load { cpu_ms, commands: commands_after - commands - 1.0, reads: reads_after - reads - 1.0 };
        Ok((result, load))
    }

    pub fn stats(&mut self) -> Outcome<(f64, f64)> {
        let text: Vec<u8> = redis::cmd("INFO").arg("stats").query(&mut self.admin)?;
        let commands = sample(&text, "total_commands_processed:")?;
        Ok((commands, sample(&text, "total_reads_processed:")?))
    }
}

/// The number after `name` at the start of a line, in a scrape or in Redis' INFO.
pub fn sample(text: &[u8], name: &str) -> Outcome<f64> {
    let text = String::from_utf8_lossy(text);
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.ok_or_else(|| format!("an answer lacks {name}"))?;
    Ok(value.trim().parse()?)
}

/// One GET of /metrics on a new connection, to the end of the body. By HTTP/1.0, so that the body
/// comes neither in chunks nor on a kept connection; without gzip.
pub fn scrape(address: SocketAddr, body: &mut Vec<u8>) -> Outcome<Duration> {
    scrape_with(address, "", body)
}

/// The same with headers of the caller's, each with its end of line.
pub fn scrape_with(address: SocketAddr, headers: &str, body: &mut Vec<u8>) -> Outcome<Duration> {
    body.clear();
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: localhost\r\n{headers}\r\n").as_bytes())?;
    stream.read_to_end(body)?;
    let time = begin.elapsed();
    if body.get(8..13) != Some(b" 200 ") {
        let head = String::from_utf8_lossy(body.get(..40).unwrap_or(body));
        return Err(format!("a scrape was answered with {head:?}").into());
    }
    Ok(time)
}

/// The CPU time of the calling thread.
pub fn thread_cpu_ms() -> Outcome<f64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split(' ').next().ok_or("no time in schedstat")?.parse()?;
    Ok(nanoseconds / 1e6)
}

pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Starts an exporter so many times and keeps the last one running. The time is the
/// median from spawn to the first good scrape.
pub fn start(
    command: &mut Command,
    address: SocketAddr,
    starts: usize,
    is_good: fn(&[u8]) -> bool,
) -> Outcome<(Process, f64)> {
    let (mut times, mut body) = (Vec::new(), Vec::new());
    loop {
        let begin = Instant::now();
        let mut process = Process::spawn(command)?;
        process.wait_for(|| {
            scrape(address, &mut body).ok()?;
            is_good(&body).then_some(())
        })?;
        times.push(begin.elapsed());
        if times.len() >= starts {
            return Ok((process, Times::of(&times).p50));
        }
    }
}

/// A command that takes no settings from our own environment.
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(env::var("PATH").map(|path| ("PATH", path)));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A directory of ours, removed at the end.
pub struct ScratchDir(pub PathBuf);

impl ScratchDir {
    pub fn new() -> io::Result<Self> {
        let name = format!("queue-exporter-bench-{}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child that does not outlive us, whatever fails.
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    pub fn spawn(command: &mut Command) -> Outcome<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        match command.spawn() {
            Ok(child) => Ok(Self { child, name }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("no {name} here: install that package, or build that binary").into())
            }
            Err(error) => Err(format!("can't start {name}: {error}").into()),
        }
    }

    /// Asks every millisecond until there is an answer.
    pub fn wait_for<T>(&mut self, mut ask: impl FnMut() -> Option<T>) -> Outcome<T> {
        let begin = Instant::now();
        loop {
            if let Some(answer) = ask() {
                return Ok(answer);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{} ended at once, with {status}", self.name).into());
            }
            if begin.elapsed() > PATIENCE {
                return Err(format!("{} is not ready after {PATIENCE:?}", self.name).into());
            }
            sleep(Duration::from_millis(1));
        }
    }

    /// The CPU time of its threads, from schedstat: /proc/PID/stat counts in ticks of 10 ms, which is
    /// more than most of what is measured here.
    pub fn cpu_ms(&self) -> Outcome<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // a thread may end between the two reads
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0);
        }
        Ok(nanoseconds / 1e6)
    }

    /// The same in ticks of 10 ms, with threads that have ended: some servers start one for each scrape.
    pub fn cpu_with_ended_threads_ms(&self) -> Outcome<f64> {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = text.rsplit(')').next().ok_or("no fields in /proc/PID/stat")?.split_whitespace();
        // utime and stime, the 14th and 15th of proc(5), two of which stand before the bracket
        let ticks: f64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
        Ok(ticks * 10.0)
    }

    pub fn peak_mb(&self) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        Ok(sample(status.replace(" kB", "").as_bytes(), "VmHWM:")? / 1024.0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
