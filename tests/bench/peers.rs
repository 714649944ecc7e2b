//! Benchmark: `queue-exporter` beside `prometheus-redis-exporter` (Debian's package) on the same
//! Redis and the same queues, and beside the floor: the very commands of one of our polls, sent as
//! one write on one kept connection.
//!
//! It starts its own Redis and measures one thing at a time, never two at once. The peer is scraped
//! back to back, which keeps its caches warm; ours is scraped once a second, the worst case for it,
//! and its polls are counted too.
//!
//! `cargo bench`, or `cargo bench --bench NAME -- --sizes 1,100 --quick`. Needs Linux, and Debian's
//! `redis-server` and `prometheus-redis-exporter`. Ends with 0 whenever it could measure, whether
//! the targets are met or not.

use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use std::{env, fs, iter};

type Outcome<T> = Result<T, Box<dyn Error>>;

const PEER: &str = "prometheus-redis-exporter";
const POLLS: &str = "queue_exporter_poll_duration_seconds_count ";
const POLL_SECONDS: &str = "queue_exporter_poll_duration_seconds_sum ";
/// Far longer than any answer seen (the peer takes 2 s for 10,000 queues): a hang ends in a message.
const PATIENCE: Duration = Duration::from_secs(60);
/// The peer takes their names from the environment, and the kernel 128 KiB as one variable.
const MOST_QUEUES: usize = 14_000;
/// Fits any socket buffer, so needs no writer thread, whose start would be most of the floor's time.
const SMALL_BATCH: usize = 16 * 1024;
/// Silence between two polls in MONITOR's output: they start 1 s apart and take far less than 0.7 s.
const POLL_GAP_SECONDS: f64 = 0.3;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome<()> {
    let plan = Plan::from_args(env::args().skip(1))?;
    if cfg!(debug_assertions) {
        println!("This is a debug build: its figures mean nothing.");
    }
    let mut rows = Vec::new();
    for &n in &plan.sizes {
        eprintln!("bench: measuring {n} queues");
        rows.push(measure(n, &plan)?);
    }
    print_tables(&rows);
    print_targets(&rows);
    Ok(())
}

/// How much to measure.
struct Plan {
    sizes: Vec<usize>,
    /// How long each figure is averaged over, about.
    seconds: u32,
    starts: usize,
}

impl Plan {
    fn from_args(mut args: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut plan = Self { sizes: vec![1, 100, 1000, 10_000], seconds: 10, starts: 5 };
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--quick" => (plan.seconds, plan.starts) = (3, 3),
                "--sizes" => plan.sizes = parse_sizes(&args.next().unwrap_or_default())?,
                "--bench" => {} // cargo adds it
                _ => return Err(format!("there are --sizes 1,100 and --quick, no {arg}").into()),
            }
        }
        Ok(plan)
    }
}

fn parse_sizes(text: &str) -> Outcome<Vec<usize>> {
    let sizes: Result<Vec<_>, _> = text.split(',').map(str::parse).collect();
    let is_possible = |sizes: &Vec<usize>| sizes.iter().all(|n| (1..=MOST_QUEUES).contains(n));
    let sizes = sizes.ok().filter(is_possible);
    sizes.ok_or_else(|| format!("--sizes takes numbers of 1 to {MOST_QUEUES}, as in 1,100").into())
}

/// All that was measured at one number of queues.
struct Row {
    n: usize,
    ours: Figures,
    peer: Figures,
    floor: Floor,
    /// As ours tells it, on average.
    poll_ms: f64,
    /// CPU of Redis in ms per second when nobody asks: taken off everywhere.
    idle_ms: f64,
}

/// Of one exporter. CPU is per scrape, and that of ours holds a poll too.
struct Figures {
    scrape: Times,
    /// Only scrapes that are the first after a poll, as Prometheus' are: the text is not made yet.
    /// Of the peer, all are.
    first: Times,
    cpu_ms: f64,
    redis: Load,
    peak_mb: f64,
    start_ms: f64,
}

struct Floor {
    batch: Times,
    /// One batch a second, like our polls: with caches as cold as theirs.
    paced: Load,
    /// Batch after batch.
    warm: Load,
}

struct Times {
    p50: f64,
    p99: f64,
    n: f64,
}

impl Times {
    /// In ms, by nearest rank: of fewer than 100 values, the 99th percentile is the largest.
    fn of(times: &[Duration]) -> Self {
        let mut ms: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        ms.sort_by(f64::total_cmp);
        let at = |part: usize| ms.get((ms.len() * part).div_ceil(100).saturating_sub(1));
        let [p50, p99] = [50, 99].map(|part| at(part).copied().unwrap_or(f64::NAN));
        let n = ms.len() as f64;
        Self { p50, p99, n }
    }
}

fn measure(n: usize, plan: &Plan) -> Outcome<Row> {
    let mut bed = Bed::new()?;
    bed.fill(n)?;
    bed.measure_idle(plan)?;
    let (ours, poll_ms, batch) = measure_ours(&mut bed, n, plan)?;
    let peer = measure_peer(&mut bed, n, plan)?;
    let floor = measure_floor(&mut bed, batch, plan)?;
    Ok(Row { n, ours, peer, floor, poll_ms, idle_ms: bed.idle_ms })
}

/// The figures, the mean length of a poll in ms, and the commands of one.
fn measure_ours(bed: &mut Bed, n: usize, plan: &Plan) -> Outcome<(Figures, f64, Batch)> {
    let queues = bed.dir.0.join("queues.yaml");
    fs::write(&queues, queues_file(n))?;
    let binary = env::var("EXPORTER_BIN").ok();
    let built = option_env!("CARGO_BIN_EXE_queue-exporter").unwrap_or("queue-exporter");
    let address = free_address()?;
    let mut command = command(binary.as_deref().unwrap_or(built));
    command
        .env("REDIS_URL", &bed.url)
        .env("QUEUES_FILE", &queues)
        .env("LISTEN_ADDR", address.to_string())
        .envs([("POLL_INTERVAL", "1s"), ("MAX_QUEUES", "20000")])
        .env("RUST_LOG", "warn");
    let (process, start_ms) = start(&mut command, address, plan, first_queue_is_up)?;

    // past the first polls, which may read more, and half-way between two, so that as many polls as
    // seconds are in what follows
    sleep(Duration::from_millis(3500));
    let mut body = Vec::new();
    scrape(address, &mut body)?;
    let ((first_scrapes, cpu_ms, polls, poll_seconds), redis) = bed.observe(|| {
        let (cpu, polls) = (process.cpu_ms()?, sample(&body, POLLS)?);
        let poll_seconds = sample(&body, POLL_SECONDS)?;
        let scrapes = paced(plan.seconds, || scrape(address, &mut body))?;
        let cpu = process.cpu_ms()? - cpu;
        let polls = sample(&body, POLLS)? - polls;
        Ok((scrapes, cpu, polls, sample(&body, POLL_SECONDS)? - poll_seconds))
    })?;
    if polls < 1.0 {
        return Err("queue-exporter did not poll while it was measured".into());
    }

    let mut scrapes = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(plan.seconds.into()) {
        scrapes.push(scrape(address, &mut body)?);
        // 0 to 39 ms in a mixed order: most find the text made already, some are first after a poll
        sleep(Duration::from_millis(scrapes.len() as u64 * 23 % 40));
    }
    let figures = Figures {
        scrape: Times::of(&scrapes),
        first: Times::of(&first_scrapes),
        cpu_ms: cpu_ms / polls,
        redis: redis.per(polls),
        peak_mb: process.peak_mb()?,
        start_ms,
    };
    Ok((figures, poll_seconds * 1e3 / polls, bed.capture_poll()?))
}

fn measure_peer(bed: &mut Bed, n: usize, plan: &Plan) -> Outcome<Figures> {
    let address = free_address()?;
    let mut command = command(PEER);
    command.args(["-redis.addr", &bed.url, "-web.listen-address"]);
    command.arg(address.to_string()).stderr(Stdio::null());
    name_keys(&mut command, n);
    let (process, start_ms) =
        start(&mut command, address, plan, |body| sample(body, "redis_up ").is_ok_and(|up| up == 1.0))?;
    let mut body = Vec::new();
    let ((scrapes, cpu_ms), redis) = bed.observe(|| {
        let cpu = process.cpu_ms()?;
        let scrapes = repeat(plan.seconds, || scrape(address, &mut body))?;
        Ok((scrapes, process.cpu_ms()? - cpu))
    })?;
    let count = scrapes.len() as f64;
    Ok(Figures {
        scrape: Times::of(&scrapes),
        first: Times::of(&scrapes),
        cpu_ms: cpu_ms / count,
        redis: redis.per(count),
        peak_mb: process.peak_mb()?,
        start_ms,
    })
}

fn measure_floor(bed: &mut Bed, batch: Batch, plan: &Plan) -> Outcome<Floor> {
    let mut pipeline = Pipeline::new(bed.port, batch)?;
    pipeline.run()?;
    let (times, warm) = bed.observe(|| repeat(plan.seconds, || pipeline.run()))?;
    let (slow, paced) = bed.observe(|| paced(plan.seconds, || pipeline.run()))?;
    Ok(Floor { batch: Times::of(&times), paced: paced.per(slow.len() as f64), warm: warm.per(times.len() as f64) })
}

/// Does it 3 times at least, and on until the time is up or it was done 200 times.
fn repeat(seconds: u32, mut task: impl FnMut() -> Outcome<Duration>) -> Outcome<Vec<Duration>> {
    let (begin, limit) = (Instant::now(), Duration::from_secs(seconds.into()));
    let mut times = Vec::new();
    while times.len() < 3 || (begin.elapsed() < limit && times.len() < 200) {
        times.push(task()?);
    }
    Ok(times)
}

/// Does it once at the end of each second.
fn paced(seconds: u32, mut task: impl FnMut() -> Outcome<Duration>) -> Outcome<Vec<Duration>> {
    let begin = Instant::now();
    let mut at = |second: u32| {
        sleep(Duration::from_secs(second.into()).saturating_sub(begin.elapsed()));
        task()
    };
    (1..=seconds).map(&mut at).collect()
}

/// What Redis had to do.
struct Load {
    cpu_ms: f64,
    commands: f64,
    /// How often it woke up to read from a socket: for small requests the number of round trips.
    reads: f64,
}

impl Load {
    fn per(self, times: f64) -> Self {
        Self { cpu_ms: self.cpu_ms / times, commands: self.commands / times, reads: self.reads / times }
    }
}

/// One Redis with its queues. The fields are dropped in this order: Redis, then its directory.
struct Bed {
    redis: Process,
    dir: ScratchDir,
    port: u16,
    url: String,
    admin: redis::Connection,
    idle_ms: f64,
}

impl Bed {
    fn new() -> Outcome<Self> {
        let dir = ScratchDir::new()?;
        let port = free_address()?.port();
        let mut command = command("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(&dir.0);
        // its own ticks, 10 a second, would cost more than a poll of a few queues
        command.args(["--hz", "1", "--dynamic-hz", "no"]);
        let mut redis = Process::spawn(&mut command)?;
        let url = format!("redis://127.0.0.1:{port}");
        let client = redis::Client::open(url.as_str())?;
        let admin = redis.wait_for(|| client.get_connection().ok())?;
        Ok(Self { redis, dir, port, url, admin, idle_ms: 0.0 })
    }

    /// Lists and streams of 5 entries of 200 bytes. Of each stream 2 entries are pending, 3 wait.
    fn fill(&mut self, n: usize) -> Outcome<()> {
        let (lists, streams) = split(n);
        let payload = |name: &str, entry: u32| format!("{:x<200}", format!("{name}-{entry}-"));
        for key in (0..lists).map(|i| format!("q:list:{i}")) {
            let payloads: Vec<_> = (0..5).map(|entry| payload(&key, entry)).collect();
            redis::cmd("LPUSH").arg(&key).arg(payloads).exec(&mut self.admin)?;
        }
        for key in (0..streams).map(|i| format!("q:stream:{i}")) {
            let mut pipe = redis::pipe();
            for entry in 0..5 {
                pipe.cmd("XADD").arg(&[&key, "*", "data", &payload(&key, entry)]);
            }
            pipe.cmd("XGROUP").arg(&["CREATE", &key, "workers", "0"]);
            pipe.cmd("XREADGROUP").arg(&["GROUP", "workers", "one", "COUNT", "2"]);
            pipe.arg(&["STREAMS", &key, ">"]);
            pipe.exec(&mut self.admin)?;
        }
        Ok(())
    }

    fn measure_idle(&mut self, plan: &Plan) -> Outcome<()> {
        let length = Duration::from_secs(plan.seconds.into());
        let ((), load) = self.observe(|| {
            sleep(length);
            Ok(())
        })?;
        self.idle_ms = load.cpu_ms / length.as_secs_f64();
        Ok(())
    }

    /// Does the work and tells the load that Redis had from it, less its idle CPU and our own INFO.
    fn observe<T>(&mut self, work: impl FnOnce() -> Outcome<T>) -> Outcome<(T, Load)> {
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

    fn stats(&mut self) -> Outcome<(f64, f64)> {
        let text: Vec<u8> = redis::cmd("INFO").arg("stats").query(&mut self.admin)?;
        let commands = sample(&text, "total_commands_processed:")?;
        Ok((commands, sample(&text, "total_reads_processed:")?))
    }

    /// The commands of one whole poll, as MONITOR shows them: those between two silences.
    fn capture_poll(&self) -> Outcome<Batch> {
        let mut monitor = redis::Client::open(self.url.as_str())?.get_connection()?;
        monitor.set_read_timeout(Some(PATIENCE))?;
        monitor.send_packed_command(&redis::cmd("MONITOR").get_packed_command())?;
        let (mut batch, mut is_whole) = (Batch::default(), false);
        let (begin, mut last) = (Instant::now(), f64::INFINITY);
        while begin.elapsed() < PATIENCE {
            let line: String = redis::from_redis_value(monitor.recv_response()?)?;
            let Some((at, words)) = parse_monitor(&line) else {
                continue; // the OK
            };
            if at - last > POLL_GAP_SECONDS {
                if is_whole {
                    return Ok(batch);
                }
                (batch, is_whole) = (Batch::default(), true);
            }
            last = at;
            batch.commands += 1;
            let (name, arguments) = words.split_first().ok_or("MONITOR shows no command")?;
            let command = redis::cmd(name).arg(arguments).get_packed_command();
            batch.bytes.extend_from_slice(&command);
        }
        Err("MONITOR shows no silence between the polls of queue-exporter".into())
    }
}

/// The time and the words of `1700000000.123456 [0 127.0.0.1:5555] "LLEN" "q:list:0"`. Nothing here
/// needs MONITOR's escapes: our keys, groups and payloads are plain.
fn parse_monitor(line: &str) -> Option<(f64, Vec<&str>)> {
    let (at, rest) = line.split_once(" [")?;
    let (_, words) = rest.split_once("] ")?;
    Some((at.parse().ok()?, words.split('"').skip(1).step_by(2).collect()))
}

/// Lists and streams among `n` queues: of one queue, a list.
fn split(n: usize) -> (usize, usize) {
    (n - n / 2, n / 2)
}

fn queues_file(n: usize) -> String {
    let (lists, streams) = split(n);
    let lists = (0..lists).map(|i| format!("- queue: list:q:list:{i}\n"));
    let streams = (0..streams).map(|i| format!("- queue: stream:q:stream:{i}?group=workers\n"));
    let head = iter::once("queues:\n".to_owned());
    head.chain(lists).chain(streams).collect()
}

/// Names every key to the peer, so that it need not search for them.
fn name_keys(command: &mut Command, n: usize) {
    let (lists, streams) = split(n);
    let names = |kind: &str, count: usize| {
        let names: Vec<_> = (0..count).map(|i| format!("db0=q:{kind}:{i}")).collect();
        names.join(",")
    };
    command.env("REDIS_EXPORTER_CHECK_SINGLE_KEYS", names("list", lists));
    command.env("REDIS_EXPORTER_CHECK_SINGLE_STREAMS", names("stream", streams));
}

fn first_queue_is_up(body: &[u8]) -> bool {
    String::from_utf8_lossy(body)
        .lines()
        .any(|line| line.starts_with("redis_queue_up{") && line.contains("queue=\"q:list:0\"") && line.ends_with(" 1"))
}

/// The number after `name` at the start of a line, in a scrape or in Redis' INFO.
fn sample(text: &[u8], name: &str) -> Outcome<f64> {
    let text = String::from_utf8_lossy(text);
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.ok_or_else(|| format!("an answer lacks {name}"))?;
    Ok(value.trim().parse()?)
}

/// One GET of /metrics on a new connection, to the end of the body. By HTTP/1.0, so that the body
/// comes neither in chunks nor on a kept connection; without gzip.
fn scrape(address: SocketAddr, body: &mut Vec<u8>) -> Outcome<Duration> {
    body.clear();
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    stream.read_to_end(body)?;
    let time = begin.elapsed();
    if body.get(8..13) != Some(b" 200 ") {
        let head = String::from_utf8_lossy(body.get(..40).unwrap_or(body));
        return Err(format!("a scrape was answered with {head:?}").into());
    }
    Ok(time)
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Starts an exporter as often as the plan says and keeps the last one running. The time is the
/// median from spawn to the first good scrape.
fn start(
    command: &mut Command,
    address: SocketAddr,
    plan: &Plan,
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
        if times.len() >= plan.starts {
            return Ok((process, Times::of(&times).p50));
        }
    }
}

/// A command that takes no settings from our own environment.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(env::var("PATH").map(|path| ("PATH", path)));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// A directory of ours, removed at the end.
struct ScratchDir(PathBuf);

impl ScratchDir {
    fn new() -> io::Result<Self> {
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
struct Process {
    child: Child,
    name: String,
}

impl Process {
    fn spawn(command: &mut Command) -> Outcome<Self> {
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
    fn wait_for<T>(&mut self, mut ask: impl FnMut() -> Option<T>) -> Outcome<T> {
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
    fn cpu_ms(&self) -> Outcome<f64> {
        let mut nanoseconds = 0.0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // a thread may end between the two reads
            let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanoseconds += text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0.0);
        }
        Ok(nanoseconds / 1e6)
    }

    fn peak_mb(&self) -> Outcome<f64> {
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

/// Commands as they go over the wire.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    commands: u64,
}

/// The floor: a batch in one write on one kept connection, its answers counted, not understood.
struct Pipeline {
    batch: Batch,
    writer: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Pipeline {
    fn new(port: u16, batch: Batch) -> Outcome<Self> {
        let writer = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        writer.set_nodelay(true)?;
        writer.set_read_timeout(Some(PATIENCE))?;
        let reader = BufReader::with_capacity(64 * 1024, writer.try_clone()?);
        Ok(Self { batch, writer, reader })
    }

    fn run(&mut self) -> Outcome<Duration> {
        let begin = Instant::now();
        let (bytes, commands) = (&self.batch.bytes, self.batch.commands);
        if bytes.len() < SMALL_BATCH {
            self.writer.write_all(bytes)?;
            skip_replies(&mut self.reader, commands)?;
        } else {
            // Redis stops to read from a client that does not read: one thread could wait for ever
            thread::scope(|scope| -> Outcome<()> {
                let write = scope.spawn(|| self.writer.write_all(bytes));
                skip_replies(&mut self.reader, commands)?;
                Ok(write.join().map_err(|_| "the writer died")??)
            })?;
        }
        Ok(begin.elapsed())
    }
}

/// Reads that many RESP2 replies. An array is a reply that announces more of them.
fn skip_replies(reader: &mut impl BufRead, mut pending: u64) -> Outcome<()> {
    let (mut line, mut bulk) = (String::new(), Vec::new());
    while pending > 0 {
        line.clear();
        reader.read_line(&mut line)?;
        let (kind, rest) = line.split_at_checked(1).ok_or("Redis closed the connection")?;
        pending -= 1;
        match kind {
            "*" => pending += rest.trim().parse::<i64>()?.max(0).unsigned_abs(),
            "$" => {
                let length = usize::try_from(rest.trim().parse::<i64>()? + 2)?;
                bulk.resize(if length < 2 { 0 } else { length }, 0); // -1 is nil
                reader.read_exact(&mut bulk)?;
            }
            "-" => return Err(format!("Redis refuses the floor's batch: {rest}").into()),
            _ => {}
        }
    }
    Ok(())
}

type Figure = fn(&Row) -> f64;
/// A heading and the figure under it.
type Column = (&'static str, Figure);

/// What the exporter is meant to reach: the figure, at these sizes (none: at all), and its most.
const TARGETS: [(&str, &[usize], Figure, f64); 6] = [
    ("CPU, ours/peer", &[1000], |r| r.ours.cpu_ms / r.peer.cpu_ms, 1.0 / 20.0),
    ("scrape p50, ours/peer", &[1000, 10_000], |r| r.ours.scrape.p50 / r.peer.scrape.p50, 1.0 / 50.0),
    ("CPU of Redis, ours/floor", &[], |r| r.ours.redis.cpu_ms / r.floor.paced.cpu_ms, 2.0),
    ("peak memory, MB", &[100], |r| r.ours.peak_mb, 12.0),
    ("peak memory, MB", &[10_000], |r| r.ours.peak_mb, 60.0),
    ("start-up, ms", &[1, 100, 1000], |r| r.ours.start_ms, 50.0),
];

fn print_tables(rows: &[Row]) {
    println!("ours = queue-exporter: polls Redis once a second, and is scraped once a second");
    println!("peer = {PEER}, every key named to it: scraped back to back");
    println!("floor = the commands of one of our polls in one write, once a second");
    let scrape: &[Column] = &[
        ("ours p50", |r| r.ours.scrape.p50),
        ("p99", |r| r.ours.scrape.p99),
        ("n", |r| r.ours.scrape.n),
        ("first p50", |r| r.ours.first.p50),
        ("peer p50", |r| r.peer.scrape.p50),
        ("p99", |r| r.peer.scrape.p99),
        ("n", |r| r.peer.scrape.n),
        ("peer/ours", |r| r.peer.scrape.p50 / r.ours.scrape.p50),
        ("peer/first", |r| r.peer.scrape.p50 / r.ours.first.p50),
    ];
    let cpu: &[Column] =
        &[("ours", |r| r.ours.cpu_ms), ("peer", |r| r.peer.cpu_ms), ("peer/ours", |r| r.peer.cpu_ms / r.ours.cpu_ms)];
    let redis: &[Column] = &[
        ("ours", |r| r.ours.redis.cpu_ms),
        ("peer", |r| r.peer.redis.cpu_ms),
        ("floor", |r| r.floor.paced.cpu_ms),
        ("warm floor", |r| r.floor.warm.cpu_ms),
        ("idle, a s", |r| r.idle_ms),
        ("peer/ours", |r| r.peer.redis.cpu_ms / r.ours.redis.cpu_ms),
        ("ours/floor", |r| r.ours.redis.cpu_ms / r.floor.paced.cpu_ms),
    ];
    let commands: &[Column] = &[
        ("ours", |r| r.ours.redis.commands),
        ("peer", |r| r.peer.redis.commands),
        ("floor", |r| r.floor.paced.commands),
        ("ours reads", |r| r.ours.redis.reads),
        ("peer reads", |r| r.peer.redis.reads),
        ("floor reads", |r| r.floor.paced.reads),
    ];
    let poll: &[Column] = &[
        ("ours mean", |r| r.poll_ms),
        ("warm floor p50", |r| r.floor.batch.p50),
        ("ours/floor", |r| r.poll_ms / r.floor.batch.p50),
    ];
    let memory: &[Column] = &[
        ("ours", |r| r.ours.peak_mb),
        ("peer", |r| r.peer.peak_mb),
        ("peer/ours", |r| r.peer.peak_mb / r.ours.peak_mb),
    ];
    let start: &[Column] = &[
        ("ours", |r| r.ours.start_ms),
        ("peer", |r| r.peer.start_ms),
        ("peer/ours", |r| r.peer.start_ms / r.ours.start_ms),
    ];
    for (title, columns) in [
        ("Scrape, ms (first: the first after a poll)", scrape),
        ("CPU per scrape, ms (ours: with a poll)", cpu),
        ("CPU of Redis per poll or scrape, ms (warm: back to back)", redis),
        ("Commands and reads of Redis per poll or scrape", commands),
        ("Length of a poll, ms", poll),
        ("Peak memory, MB", memory),
        ("Start-up to the first good scrape, ms", start),
    ] {
        println!("\n{title}");
        print_table(rows, columns);
    }
}

fn print_table(rows: &[Row], columns: &[Column]) {
    let first: Column = ("queues", |r| r.n as f64);
    let mut lines = vec![String::new(); rows.len() + 1];
    for (name, figure) in iter::once(&first).chain(columns) {
        let cells = rows.iter().map(|row| number(figure(row)));
        let cells: Vec<_> = iter::once(name.to_string()).chain(cells).collect();
        let width = cells.iter().map(String::len).max().unwrap_or(0) + 2;
        for (line, cell) in lines.iter_mut().zip(cells) {
            *line += &format!("{cell:>width$}");
        }
    }
    println!("{}", lines.join("\n"));
}

/// A whole number as it is, else three digits: no figure here is steadier than that.
fn number(value: f64) -> String {
    let decimals = match value {
        _ if value.fract() == 0.0 => 0,
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

fn print_targets(rows: &[Row]) {
    println!("\nTargets");
    for (what, sizes, figure, limit) in TARGETS {
        let is_meant = |row: &&Row| sizes.is_empty() || sizes.contains(&row.n);
        for row in rows.iter().filter(is_meant) {
            let (value, n) = (figure(row), row.n);
            let verdict = if value <= limit { "ok" } else { "MISSED" };
            let (value, limit) = (number(value), number(limit));
            println!("{verdict:>8}  {what} at {n} queues: {value} (at most {limit})");
        }
    }
}
