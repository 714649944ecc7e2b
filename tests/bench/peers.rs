//! Benchmark: `queue-exporter` beside `prometheus-redis-exporter` (Debian's package) on the same
//! Redis and the same queues, and beside the floor: the very commands of one of our polls, sent as
//! one write on one kept connection.
//!
//! It starts its own Redis and measures one thing at a time, never two at once. CPU is that of one
//! scrape a second of either, and the polls of ours are counted too. The peer's latency is that of
//! scrapes back to back, which keeps its caches warm.
//!
//! `cargo bench`, or `cargo bench --bench NAME -- --sizes 1,100 --quick`. Needs Linux, and Debian's
//! `redis-server` and `prometheus-redis-exporter`. Ends with 0 whenever it could measure, whether
//! the targets are met or not.

mod bed;
mod strain;

use bed::{
    Bed, Load, Outcome, PATIENCE, POLL_SECONDS, POLLS, Times, command, free_address, paced, repeat, sample, scrape,
    start, thread_cpu_ms,
};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};
use std::{env, fs, iter};
use strain::Strain;

const PEER: &str = "prometheus-redis-exporter";
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
    strain: Strain,
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
    /// Of the one who sends a batch once a second and counts the replies.
    cpu_ms: f64,
    /// One batch a second, like our polls: with caches as cold as theirs.
    paced: Load,
    /// Batch after batch.
    warm: Load,
}

fn measure(n: usize, plan: &Plan) -> Outcome<Row> {
    let mut bed = Bed::new()?;
    fill(&mut bed, n)?;
    bed.measure_idle(plan.seconds)?;
    let (ours, poll_ms, batch, strain) = measure_ours(&mut bed, n, plan)?;
    let peer = measure_peer(&mut bed, n, plan)?;
    let floor = measure_floor(&mut bed, batch, plan)?;
    Ok(Row { n, ours, peer, floor, strain, poll_ms, idle_ms: bed.idle_ms })
}

/// The figures, the mean length of a poll in ms, the commands of one, and what it is under strain.
fn measure_ours(bed: &mut Bed, n: usize, plan: &Plan) -> Outcome<(Figures, f64, Batch, Strain)> {
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
    let (process, start_ms) = start(&mut command, address, plan.starts, first_queue_is_up)?;

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
    let batch = capture_poll(bed)?;
    Ok((figures, poll_seconds * 1e3 / polls, batch, strain::measure(bed, &process, address, plan.seconds)?))
}

fn measure_peer(bed: &mut Bed, n: usize, plan: &Plan) -> Outcome<Figures> {
    let address = free_address()?;
    let mut command = command(PEER);
    command.args(["-redis.addr", &bed.url, "-web.listen-address"]);
    command.arg(address.to_string()).stderr(Stdio::null());
    name_keys(&mut command, n);
    let (process, start_ms) =
        start(&mut command, address, plan.starts, |body| sample(body, "redis_up ").is_ok_and(|up| up == 1.0))?;
    let mut body = Vec::new();
    // once a second, as ours is: with caches as cold, and the machine as drowsy
    let ((count, cpu_ms), redis) = bed.observe(|| {
        let cpu = process.cpu_ms()?;
        let scrapes = paced(plan.seconds, || scrape(address, &mut body))?;
        Ok((scrapes.len() as f64, process.cpu_ms()? - cpu))
    })?;
    let scrapes = repeat(plan.seconds, || scrape(address, &mut body))?;
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
    let (times, warm) = bed.observe(|| repeat(plan.seconds, || Ok(pipeline.run()?.0)))?;
    let mut cpu_ms = 0.0;
    let (slow, paced) = bed.observe(|| {
        paced(plan.seconds, || {
            let (time, cpu) = pipeline.run()?;
            cpu_ms += cpu;
            Ok(time)
        })
    })?;
    let count = slow.len() as f64;
    let warm = warm.per(times.len() as f64);
    Ok(Floor { batch: Times::of(&times), cpu_ms: cpu_ms / count, paced: paced.per(count), warm })
}

/// Lists and streams of 5 entries of 200 bytes. Of each stream 2 entries are pending, 3 wait.
fn fill(bed: &mut Bed, n: usize) -> Outcome<()> {
    let (lists, streams) = split(n);
    let payload = |name: &str, entry: u32| format!("{:x<200}", format!("{name}-{entry}-"));
    for key in (0..lists).map(|i| format!("q:list:{i}")) {
        let payloads: Vec<_> = (0..5).map(|entry| payload(&key, entry)).collect();
        redis::cmd("LPUSH").arg(&key).arg(payloads).exec(&mut bed.admin)?;
    }
    for key in (0..streams).map(|i| format!("q:stream:{i}")) {
        let mut pipe = redis::pipe();
        for entry in 0..5 {
            pipe.cmd("XADD").arg(&[&key, "*", "data", &payload(&key, entry)]);
        }
        pipe.cmd("XGROUP").arg(&["CREATE", &key, "workers", "0"]);
        pipe.cmd("XREADGROUP").arg(&["GROUP", "workers", "one", "COUNT", "2"]);
        pipe.arg(&["STREAMS", &key, ">"]);
        pipe.exec(&mut bed.admin)?;
    }
    Ok(())
}

/// The commands of one whole poll, as MONITOR shows them: those between two silences.
fn capture_poll(bed: &Bed) -> Outcome<Batch> {
    let mut monitor = redis::Client::open(bed.url.as_str())?.get_connection()?;
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

    /// One batch: how long it took, and the CPU of this side.
    fn run(&mut self) -> Outcome<(Duration, f64)> {
        let (begin, cpu) = (Instant::now(), thread_cpu_ms()?);
        let (bytes, commands) = (&self.batch.bytes, self.batch.commands);
        let mut writer_cpu = 0.0;
        if bytes.len() < SMALL_BATCH {
            self.writer.write_all(bytes)?;
            skip_replies(&mut self.reader, commands)?;
        } else {
            // Redis stops to read from a client that does not read: one thread could wait for ever
            thread::scope(|scope| -> Outcome<()> {
                let write = scope.spawn(|| {
                    self.writer.write_all(bytes)?;
                    thread_cpu_ms().map_err(|error| std::io::Error::other(error.to_string()))
                });
                skip_replies(&mut self.reader, commands)?;
                writer_cpu = write.join().map_err(|_| "the writer died")??;
                Ok(())
            })?;
        }
        Ok((begin.elapsed(), thread_cpu_ms()? - cpu + writer_cpu))
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
const TARGETS: [(&str, &[usize], Figure, f64); 11] = [
    ("CPU, ours/peer", &[1000], |r| r.ours.cpu_ms / r.peer.cpu_ms, 1.0 / 20.0),
    ("CPU in the long run, ours/peer", &[1000, 10_000], |r| r.ours.cpu_ms / r.peer.cpu_ms, 1.0 / 30.0),
    ("CPU, ours/floor client", &[1000, 10_000], |r| r.ours.cpu_ms / r.floor.cpu_ms, 3.0),
    ("scrape p50, ours/peer", &[1000, 10_000], |r| r.ours.scrape.p50 / r.peer.scrape.p50, 1.0 / 100.0),
    ("scrape p50, ours/copy of its bytes", &[1000, 10_000], |r| r.ours.scrape.p50 / r.strain.copy.p50, 2.0),
    ("CPU of Redis, ours/floor", &[], |r| r.ours.redis.cpu_ms / r.floor.paced.cpu_ms, 2.0),
    ("peak memory, MB", &[100], |r| r.ours.peak_mb, 12.0),
    ("peak memory, MB", &[10_000], |r| r.ours.peak_mb, 60.0),
    ("start-up, ms", &[1, 100, 1000], |r| r.ours.start_ms, 50.0),
    ("poll with jobs beside/without", &[1000, 10_000], |r| r.strain.poll_ms / r.poll_ms, 1.5),
    (
        "50 scrapers at once/50 copies",
        &[1000, 10_000],
        |r| r.strain.crowd.p50 / r.strain.copy.p50 / strain::CROWD as f64,
        2.0,
    ),
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
    let cpu: &[Column] = &[
        ("ours", |r| r.ours.cpu_ms),
        ("peer", |r| r.peer.cpu_ms),
        ("floor", |r| r.floor.cpu_ms),
        ("peer/ours", |r| r.peer.cpu_ms / r.ours.cpu_ms),
        ("ours/floor", |r| r.ours.cpu_ms / r.floor.cpu_ms),
    ];
    let page: &[Column] = &[
        ("bytes", |r| r.strain.plain),
        ("ours p50", |r| r.ours.scrape.p50),
        ("copy p50", |r| r.strain.copy.p50),
        ("ours/copy", |r| r.ours.scrape.p50 / r.strain.copy.p50),
        ("gzip bytes", |r| r.strain.packed),
        ("gzip p50", |r| r.strain.gzip.p50),
        ("p99", |r| r.strain.gzip.p99),
        ("50 at once", |r| r.strain.crowd.p50),
        ("50 at once/50 copies", |r| r.strain.crowd.p50 / r.strain.copy.p50 / strain::CROWD as f64),
    ];
    let beside: &[Column] = &[
        ("poll", |r| r.strain.poll_ms),
        ("without", |r| r.poll_ms),
        ("CPU", |r| r.strain.cpu_ms),
        ("without", |r| r.ours.cpu_ms),
        ("Redis", |r| r.strain.redis_ms),
        ("without", |r| r.ours.redis.cpu_ms),
    ];
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
        ("A page, ms: from ours, from a server that only sends it, by gzip, and for 50 scrapers at once", page),
        ("CPU per scrape, ms (ours: with a poll; floor: of its client)", cpu),
        ("CPU of Redis per poll or scrape, ms (warm: back to back)", redis),
        ("Commands and reads of Redis per poll or scrape", commands),
        ("Length of a poll, ms", poll),
        ("With 200,000 keys of jobs beside the queues, ms a poll", beside),
        ("Peak memory, MB", memory),
        ("Start-up to the first good scrape, ms", start),
    ] {
        println!("\n{title}");
        print_table(rows, columns);
    }
    if let (Some(first), Some(last)) = (rows.first(), rows.last())
        && last.n > first.n
    {
        let bytes = (last.ours.peak_mb - first.ours.peak_mb) * 1024.0 * 1024.0 / (last.n - first.n) as f64;
        println!("\nMemory a queue, from {} to {} queues: {bytes:.0} bytes", first.n, last.n);
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
