//! Real producers and real workers of real libraries, and what the exporter says of them at every poll, held against the
//! log that the jobs themselves write. Run by `make test-libraries`, which installs the libraries first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde::Deserialize;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{Exporter, Metrics, Redis};

/// Jobs that are put in before the first worker starts, as in `tests/live/common.py`.
const BACKLOG: f64 = 40.0;
/// A poll is 0.1 s old at most when it is scraped, and reads within a few ms; a busy machine is slower than that.
const LATE: f64 = 0.4;
/// A job's log line comes this much after the change in Redis that it tells of, at most.
const LOGGED: f64 = 0.25;

/// Where a library is when it runs here, and what its numbers mean.
struct Library {
    program: &'static [&'static str],
    variables: &'static [(&'static str, &'static str)],
    spec: &'static str,
    /// Which jobs Redis holds as waiting, and which as in flight.
    sees: Sees,
    /// Jobs that a worker may hold without having started them, beyond one a slot.
    ahead: f64,
    /// Whether the library itself counts the jobs that are done.
    counts: bool,
}

/// What the keys of a library tell.
#[derive(Clone, Copy, PartialEq)]
enum Sees {
    /// Jobs that wait: they are gone once taken.
    Waiting,
    /// Jobs that wait, and apart from them those in flight.
    Both,
    /// As both, but only the sum is sure: jobs fetched ahead are in flight.
    Sum,
    /// Jobs that wait, those fetched ahead apart from them, and none once it has started.
    SumUntilStart,
}

#[derive(Deserialize)]
struct Line {
    t: f64,
    event: String,
    job: u64,
    before: Option<f64>,
}

/// When a job was put in (between two moments), started and ended.
#[derive(Clone, Copy)]
struct Job {
    put: (f64, f64),
    start: f64,
    end: f64,
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn cache() -> PathBuf {
    let cache = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".cache/live");
    std::env::var_os("LIVE_CACHE").map_or(cache, PathBuf::from)
}

/// A running program, killed with all of its workers when dropped.
struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Program {
    fn start(library: &Library, redis: &Redis, log: &std::path::Path, seconds: u32) -> Self {
        let place = |word: &str| word.replace("CACHE", cache().to_str().unwrap());
        let words: Vec<String> = library.program.iter().map(|word| place(word)).collect();
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .arg(seconds.to_string())
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live"))
            .envs([("REDIS_URL", redis.url()), ("NODE_PATH", place("CACHE/node/node_modules"))])
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("LIVE_LOG", log)
            .envs(library.variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run make test-libraries", words[0]));
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), word, "the program says otherwise");
    }

    fn go_on(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It ends its workers when its input ends; a second later it is killed.
        self.go_on_quietly();
        for _ in 0..100 {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Program {
    fn go_on_quietly(&mut self) {
        self.input.write_all(b"\n\n").ok();
    }
}

fn jobs(log: &std::path::Path) -> Vec<Job> {
    let mut jobs: HashMap<u64, Job> = HashMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let line: Line = serde_json::from_str(line).unwrap();
        let never = Job { put: (f64::MAX, f64::MAX), start: f64::MAX, end: f64::MAX };
        let job = jobs.entry(line.job).or_insert(never);
        match line.event.as_str() {
            "enqueue" => job.put = (line.before.unwrap(), line.t),
            "start" => job.start = line.t,
            _ => job.end = line.t,
        }
    }
    jobs.into_values().collect()
}

/// The least and the most that a count was between two moments.
fn range(jobs: &[Job], from: f64, to: f64, holds: impl Fn(&Job, f64) -> bool) -> (f64, f64) {
    let inside = |moment: &f64| (from..to).contains(moment);
    let changes = jobs.iter().flat_map(|job| [job.put.0, job.put.1, job.start, job.end]).filter(inside);
    let counts = changes.chain([from, to]).map(|moment| jobs.iter().filter(|job| holds(job, moment)).count() as f64);
    counts.fold((f64::MAX, f64::MIN), |(least, most), count| (least.min(count), most.max(count)))
}

fn assert_within(what: &str, value: f64, (least, most): (f64, f64), slack: f64, at: f64) {
    assert!(
        value >= least - slack && value <= most + slack,
        "{what} is {value} at {at:.2}, but was {least} to {most}, give or take {slack}"
    );
}

/// One scrape against the log.
fn compare(library: &Library, metrics: &Metrics, scraped: f64, jobs: &[Job]) {
    let (from, to) = (scraped - LATE - LOGGED, scraped + LOGGED);
    let waits = |job: &Job, moment: f64| job.put.1 <= moment && moment < job.start;
    let runs = |job: &Job, moment: f64| job.start <= moment && moment < job.end;
    let length = metrics.of("length", "live").expect("a length");
    let in_flight = metrics.of("in_flight", "live");
    let slots = 2.0;
    match library.sees {
        Sees::Waiting => assert_within("length", length, range(jobs, from, to, waits), slots + library.ahead, scraped),
        Sees::Both => {
            assert_within("length", length, range(jobs, from, to, waits), slots, scraped);
            assert_within("in flight", in_flight.unwrap(), range(jobs, from, to, runs), slots, scraped);
        }
        Sees::Sum => {
            let unfinished = |job: &Job, moment: f64| waits(job, moment) || runs(job, moment);
            let sum = length + in_flight.unwrap();
            assert_within("length and in flight", sum, range(jobs, from, to, unfinished), slots, scraped);
            assert_within("length", length, range(jobs, from, to, waits), slots + library.ahead, scraped);
        }
        Sees::SumUntilStart => {
            let sum = length + in_flight.unwrap();
            assert_within("length and in flight", sum, range(jobs, from, to, waits), slots, scraped);
        }
    }
    // Of the jobs that wait in Redis the oldest is the one that came first, unless workers hold it already.
    let age = metrics.of("oldest_job_age_seconds", "live");
    if let Some(age) = age.filter(|_| length > 0.0) {
        let error = metrics.of("oldest_job_age_error_seconds", "live").expect("an error beside each age");
        let mut came: Vec<f64> = jobs.iter().filter(|job| waits(job, from)).map(|job| scraped - job.put.0).collect();
        came.sort_by(f64::total_cmp);
        // Jobs that are held, or were taken since, are not the oldest any more.
        let taken =
            (library.ahead + slots) as usize + jobs.iter().filter(|job| (from..to).contains(&job.start)).count();
        let oldest = came.last().copied().unwrap_or(LATE);
        let youngest = came.len().checked_sub(taken + 1).map_or(0.0, |place| came[place]);
        let within = (youngest - LATE - LOGGED, oldest + LATE);
        assert_within("age", age, within, error + 0.05, scraped);
    }
}

fn live(library: &Library) {
    let seconds: u32 = std::env::var("LIVE_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let redis = Redis::start();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let exporter = Exporter::start(&redis.url(), library.spec);
    let mut program = Program::start(library, &redis, &log, seconds);
    program.expect("backlog");
    let before = exporter.wait("the backlog is seen", |metrics| metrics.of("length", "live") == Some(BACKLOG));
    let arrived = before.of("arrivals_total", "live");
    program.go_on();
    let mut scrapes = Vec::new();
    let mut polls = 0.0;
    std::thread::scope(|scope| {
        let drained = scope.spawn(|| program.expect("drained"));
        while !drained.is_finished() {
            let metrics = exporter.metrics();
            if metrics.polls() > polls {
                polls = metrics.polls();
                scrapes.push((now(), metrics));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    let jobs = jobs(&log);
    assert!(scrapes.len() > 50 && jobs.len() as f64 > BACKLOG);
    let ages = scrapes.iter().filter(|(_, metrics)| metrics.of("oldest_job_age_seconds", "live").is_some()).count();
    assert!(ages * 2 > scrapes.len(), "an age at {ages} of {} scrapes", scrapes.len());
    if std::env::var_os("LIVE_TRACE").is_some() {
        for (scraped, metrics) in &scrapes {
            let held = |moment: f64| jobs.iter().filter(|job| job.put.1 <= moment && moment < job.end).count();
            let of = |name: &str| metrics.of(name, "live");
            println!(
                "{scraped:.2} length {:?} in flight {:?} age {:?}; unfinished {}, processed {:?}",
                of("length"),
                of("in_flight"),
                of("oldest_job_age_seconds"),
                held(*scraped),
                of("processed_total")
            );
        }
    }
    for (scraped, metrics) in &scrapes {
        compare(library, metrics, *scraped, &jobs);
    }
    // What was done is counted once, all of it; less only where a poll says that it may have missed some.
    let all = jobs.len() as f64;
    let of = |metrics: &Metrics, name: &str| metrics.of(name, "live");
    let done = exporter.wait("the last jobs are counted", |metrics| {
        of(metrics, "length") == Some(0.0)
            && of(metrics, "processed_total")
                .is_none_or(|done| done >= all || of(metrics, "observation_gaps_total") > Some(0.0))
    });
    if let Some(processed) = of(&done, "processed_total") {
        let gaps = scrapes.last().and_then(|(_, metrics)| of(metrics, "observation_gaps_total")).unwrap();
        assert!(processed <= all, "{processed} of {all} jobs are done");
        assert!(gaps > 0.0 || processed == all, "{processed} of {all} jobs are done, and no poll is a gap");
        println!("{}: {processed} of {all} jobs counted, {gaps} gaps in {} scrapes", library.spec, scrapes.len());
    }
    assert!(arrived.is_none_or(|arrived| arrived <= BACKLOG));
    program.go_on_quietly();
}

macro_rules! libraries {
    ($($name:ident: $program:expr, $spec:literal, $sees:ident, ahead $ahead:literal $(, $option:ident $value:expr)*;)*) => {
        $(
            #[test]
            #[ignore = "needs the libraries: make test-libraries"]
            fn $name() {
                #[allow(unused_mut)]
                let mut library = Library {
                    program: &$program,
                    variables: &[],
                    spec: $spec,
                    sees: Sees::$sees,
                    ahead: $ahead,
                    counts: false,
                };
                $(library.$option = $value;)*
                live(&library);
            }
        )*
    };
}

libraries! {
    celery: ["CACHE/current/bin/python", "celery_app.py"], "celery:live", SumUntilStart, ahead 8.0;
    celery_with_late_acknowledgement: ["CACHE/current/bin/python", "celery_app.py"], "celery:live", Sum, ahead 2.0,
        variables &[("CELERY_ACKS_LATE", "1")];
    rq: ["CACHE/current/bin/python", "rq_app.py"], "rq:live", Both, ahead 0.0;
    rq_2: ["CACHE/rq2/bin/python", "rq_app.py"], "rq:live", Both, ahead 0.0;
    dramatiq: ["CACHE/current/bin/python", "dramatiq_app.py"], "dramatiq:live", Sum, ahead 4.0;
    huey: ["CACHE/current/bin/python", "huey_app.py"], "huey:live", Waiting, ahead 0.0;
    arq: ["CACHE/arq/bin/python", "arq_app.py"], "arq:live", Both, ahead 0.0;
    taskiq_list: ["CACHE/current/bin/python", "taskiq_app.py"], "taskiq:live", Waiting, ahead 2.0;
    taskiq_stream: ["CACHE/current/bin/python", "taskiq_app.py"], "taskiq:live", Sum, ahead 200.0,
        variables &[("TASKIQ_STREAM", "1")], counts true;
    saq: ["CACHE/current/bin/python", "saq_app.py"], "saq:live", Both, ahead 0.0;
    sidekiq: ["ruby", "sidekiq_app.rb"], "sidekiq:live", Waiting, ahead 0.0;
    bullmq_6: ["node", "bullmq.js"], "bullmq:live", Both, ahead 0.0,
        variables &[("BULLMQ", "bullmq6"), ("BULLMQ_METRICS", "1")], counts true;
    bullmq_5: ["node", "bullmq.js"], "bullmq:live", Both, ahead 0.0, variables &[("BULLMQ_METRICS", "1")], counts true;
    bullmq_4: ["node", "bullmq.js"], "bullmq:live", Both, ahead 0.0, variables &[("BULLMQ", "bullmq4")];
}
