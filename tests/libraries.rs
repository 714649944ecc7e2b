//! Queues recorded from the real libraries, read at the moment of the recording: what they say against what is true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use queue_exporter::config::Config;
use queue_exporter::curve::Age;
use queue_exporter::flow::Count;
use queue_exporter::layout::{Globals, Observation, TABLE};
use queue_exporter::reader::{Outcome, Reader};
use serde_json::Value;
use support::{Redis, load_fixture};

/// What a look at a fixture saw of each of the queues, and of their library as a whole.
fn read(redis: &Redis, queues: &str, now_ms: f64) -> (Vec<Outcome>, Option<Globals>) {
    let variables = [("REDIS_URL", redis.url()), ("QUEUES", queues.to_string())];
    let config = Config::from_env(variables.into_iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = Reader::new(config.redis, config.queues, &[], config.discovery_ttl);
    let mut reader = reader.with_clock(move || now_ms / 1e3);
    let outcomes = runtime.block_on(reader.read());
    (outcomes, reader.libraries().pop().map(|(_, globals)| globals.unwrap()))
}

fn truth(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/{name}.truth.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Reads a recorded fixture, all of its queues by this specification, in which `*` is the queue.
fn recorded(name: &str, file: &str, spec: &str) -> Vec<(Value, f64, Observation)> {
    recorded_with_globals(name, file, spec).0
}

fn recorded_with_globals(name: &str, file: &str, spec: &str) -> (Vec<(Value, f64, Observation)>, Option<Globals>) {
    let redis = Redis::start();
    load_fixture(&redis, file);
    let truth = truth(name);
    let now_ms = truth["now_ms"].as_f64().unwrap();
    let names: Vec<&String> = truth["queues"].as_object().unwrap().keys().collect();
    let specs: Vec<String> = names.iter().map(|name| spec.replace('*', name)).collect();
    let (outcomes, globals) = read(&redis, &specs.join(","), now_ms);
    let seen = names.iter().zip(outcomes);
    let seen = seen.map(|(name, outcome)| {
        let mut readable = truth["readable"][name.as_str()].clone();
        readable["queue"] = name.as_str().into();
        (readable, now_ms, outcome.unwrap_or_else(|error| panic!("{name}: {error}")))
    });
    (seen.collect(), globals)
}

/// Holds the observation against what cheap commands can tell, by the recording's own account.
fn assert_readable(readable: &Value, now_ms: f64, seen: &Observation) {
    let queue = &readable["queue"];
    let number = |field: &str| readable[field].as_u64();
    assert_eq!(seen.length, number("waiting"), "waiting of {queue}");
    assert_eq!(seen.in_flight, number("in_flight"), "in flight of {queue}");
    let delayed = seen.delayed.map(|delayed| delayed + seen.due.unwrap_or(0));
    assert_eq!(delayed, number("delayed"), "delayed of {queue}");
    assert_eq!(seen.dead, number("dead"), "dead of {queue}");
    match (readable["oldest_enqueued_at_ms"].as_f64(), seen.age) {
        (Some(oldest), Age::Known { seconds, error }) => {
            assert_eq!(error, 0.0);
            assert!((seconds - (now_ms - oldest) / 1e3).abs() < 0.001, "age of {queue}: {seconds}");
        }
        (None, Age::Known { seconds, .. }) => assert!(seen.length == Some(0) && seconds == 0.0),
        (None, Age::AtLeast(_)) => {}
        (oldest, age) => panic!("age of {queue}: {age:?} for {oldest:?}"),
    }
}

/// Those whose library gives all that the recording holds readable, and nothing else.
#[test]
fn recorded_queues_read_as_they_can_be_read() {
    for (name, file, spec) in [
        ("bullmq", "bullmq.jsonl", "bullmq:*"),
        ("rq", "rq.jsonl", "rq:*"),
        ("dramatiq", "dramatiq.jsonl", "dramatiq:*"),
        ("saq", "saq.jsonl", "saq:*"),
        ("taskiq-list", "taskiq-list.jsonl", "taskiq:*"),
        ("taskiq-stream", "taskiq-stream.cmds.jsonl", "taskiq:*"),
    ] {
        for (readable, now_ms, seen) in recorded(name, file, spec) {
            assert_readable(&readable, now_ms, &seen);
        }
    }
}

#[test]
fn bull_priorities_leave_a_least_age_and_a_paused_queue_its_jobs() {
    let [(emails, now_ms, seen), (_, _, paused)] = &recorded("bull", "bull.jsonl", "bull:*")[..] else { panic!() };
    assert_eq!((seen.length, seen.in_flight, seen.dead), (Some(7), Some(2), Some(1)));
    assert_eq!((seen.delayed, seen.due, seen.paused), (Some(4), Some(0), Some(false)));
    assert_eq!((seen.counts.processed, seen.counts.failed), (Count::Total(6), Count::Total(1)));
    assert!(seen.counts.gap);
    // The next job is the newest, by its priority; the oldest of the others is the oldest of all.
    let Age::AtLeast(age) = seen.age else { panic!("{:?} of {emails}", seen.age) };
    assert!((age - (now_ms - 1_795_573_382_582.0) / 1e3).abs() < 0.001);
    assert_eq!((paused.length, paused.paused), (Some(4), Some(true)));
    let Age::Known { seconds, .. } = paused.age else { panic!("{:?}", paused.age) };
    assert!((seconds - (now_ms - 1_795_573_382_943.0) / 1e3).abs() < 0.001);
}

#[test]
fn arq_tells_jobs_in_flight_from_those_that_wait_in_the_same_set() {
    let [(_, now_ms, idle), (_, _, busy)] = &recorded("arq", "arq.jsonl", "arq:*")[..] else { panic!() };
    assert_eq!((idle.length, idle.in_flight, idle.delayed), (Some(4), Some(0), Some(1)));
    assert_eq!((busy.length, busy.in_flight, busy.delayed), (Some(7), Some(2), Some(4)));
    for (seen, oldest) in [(idle, 1_795_573_860_244.0), (busy, 1_795_573_859_878.0)] {
        let Age::Known { seconds, error } = seen.age else { panic!("{:?}", seen.age) };
        assert!((seconds - (now_ms - oldest) / 1e3).abs() < 0.001 && error == 0.0);
    }
}

#[test]
fn huey_is_a_list_or_a_sorted_set_with_times_in_its_members() {
    let seen = recorded("huey", "huey.jsonl", "huey:*");
    let of = |queue: &str| seen.iter().find(|(readable, ..)| readable["queue"] == queue).unwrap().2;
    let now_ms = seen[0].1;
    // Three delayed jobs still sit in the list.
    assert_eq!((of("emails").length, of("emails").delayed, of("emails").in_flight), (Some(10), Some(1), None));
    assert_eq!((of("reports").length, of("reports").delayed), (Some(5), Some(0)));
    assert_eq!(of("prio").length, Some(3));
    let Age::AtLeast(age) = of("prio").age else { panic!("{:?}", of("prio").age) };
    assert!((age - (now_ms - 1_795_573_928_898.859) / 1e3).abs() < 0.001);
}

#[test]
fn sidekiq_tells_jobs_in_flight_by_its_processes_and_the_rest_for_all_queues_together() {
    let (seen, globals) = recorded_with_globals("sidekiq", "sidekiq.jsonl", "sidekiq:*");
    for (readable, now_ms, seen) in &seen {
        assert_readable(readable, *now_ms, seen);
    }
    let globals = globals.unwrap();
    assert_eq!((globals.delayed, globals.due), (Some(4), Some(0)));
    assert_eq!((globals.retrying, globals.dead), (Some(1), Some(1)));
    assert_eq!((globals.processed, globals.failed), (Some(7), Some(2)));
    assert_eq!((globals.in_flight, globals.workers_left_out), (Some(2), Some(0)));
}

#[test]
fn celery_does_not_lose_sight_of_what_its_workers_hold() {
    // With acks_late, 2 run and 4 wait for their ETA in the worker's memory.
    let (seen, globals) = recorded_with_globals("celery", "celery.jsonl", "celery:*");
    let [(_, _, emails), (_, _, reports)] = &seen[..] else { panic!() };
    assert_eq!((emails.length, emails.in_flight), (Some(7), Some(6)));
    assert_eq!((reports.length, reports.in_flight), (Some(5), Some(0)));
    let globals = globals.unwrap();
    assert_eq!((globals.in_flight, globals.in_flight_left_out), (Some(6), Some(0)));
    // By default the list is empty while 7 jobs wait: all of them were fetched ahead.
    let (seen, globals) = recorded_with_globals("celery-default", "celery-default.jsonl", "celery:*");
    assert_eq!((seen[0].2.length, seen[0].2.in_flight), (Some(0), Some(11)));
    assert_eq!(globals.unwrap().in_flight, Some(11));
}

/// Every fixture whose truth names the queues by their specifications: what a look sees of each is what its producer and
/// its workers know.
#[test]
fn every_recorded_state_reads_as_it_is() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = files.filter_map(|file| file.strip_suffix(".truth.json").map(String::from));
    let mut states = 0;
    for name in names {
        let truth = truth(&name);
        let Some(queues) = truth["queues"].as_object().filter(|queues| queues.keys().all(|name| name.contains(':')))
        else {
            continue;
        };
        let redis = Redis::start();
        load_fixture(&redis, &format!("{name}.jsonl"));
        let now_ms = truth["now_ms"].as_f64().unwrap();
        let specs: Vec<&str> = queues.keys().map(String::as_str).collect();
        let (outcomes, globals) = read(&redis, &specs.join(","), now_ms);
        for ((spec, truth), outcome) in queues.iter().zip(outcomes) {
            let seen = outcome.unwrap_or_else(|error| panic!("{name}: {spec}: {error}"));
            assert_true(&format!("{name}: {spec}"), truth, &seen, now_ms);
        }
        if let Some(wide) = truth["library_wide"].as_object() {
            let globals = globals.expect("numbers of the whole library");
            for (field, value) in wide {
                let seen = match field.as_str() {
                    "in_flight" => globals.in_flight,
                    "due" => globals.due,
                    "delayed" => globals.delayed,
                    "retrying" => globals.retrying,
                    "dead" => globals.dead,
                    "processed" => globals.processed,
                    "failed" => globals.failed,
                    other => panic!("{name}: no number {other}"),
                };
                assert_eq!(seen, value.as_u64(), "{name}: {field} of all queues together");
            }
        }
        states += 1;
    }
    assert!(states > 10, "only {states} states");
}

fn assert_true(what: &str, truth: &Value, seen: &Observation, now_ms: f64) {
    let total = |count: Count| match count {
        Count::Total(total) => Some(total),
        _ => None,
    };
    let within = truth["within_ms"].as_f64().unwrap_or(0.0) / 1e3;
    for (field, value) in truth.as_object().unwrap() {
        let number = match field.as_str() {
            "length" => seen.length,
            "in_flight" => seen.in_flight,
            "abandoned" => seen.abandoned,
            "due" => seen.due,
            "delayed" => seen.delayed,
            "retrying" => seen.retrying,
            "dead" => seen.dead,
            "paused" => seen.paused.map(u64::from),
            "consumers" => seen.consumers,
            "slots" => seen.slots,
            "processed" => total(seen.counts.processed),
            "failed" => total(seen.counts.failed),
            "oldest_ms" | "at_least_ms" => {
                let age = value.as_f64().map(|oldest| (now_ms - oldest) / 1e3);
                match (field.as_str(), age, seen.age) {
                    ("oldest_ms", Some(age), Age::Known { seconds, error }) => {
                        assert!((seconds - age).abs() <= within + error + 0.001, "{what}: age {seconds}, truly {age}");
                    }
                    ("at_least_ms", Some(age), Age::AtLeast(seconds)) => {
                        assert!(
                            seconds <= age + 0.001 && seconds > age - within,
                            "{what}: at least {seconds}, truly {age}"
                        );
                    }
                    // It can't be known at the first look.
                    ("oldest_ms", None, Age::AtLeast(_)) => {}
                    (_, age, seen) => panic!("{what}: age {seen:?}, truly {age:?}"),
                }
                continue;
            }
            "within_ms" | "newest_in_front" => continue,
            other => panic!("{what}: no field {other}"),
        };
        assert_eq!(number, value.as_u64(), "{what}: {field}");
    }
}

/// Looks again and again at one queue, with the same memory.
struct Watch {
    redis: Redis,
    reader: Reader,
    runtime: tokio::runtime::Runtime,
}

impl Watch {
    fn start(queue: &str, now_ms: f64) -> Self {
        let redis = Redis::start();
        let variables = [("REDIS_URL", redis.url()), ("QUEUES", queue.to_string())];
        let config = Config::from_env(variables.into_iter().map(|(name, value)| (name.into(), value.into()))).unwrap();
        let reader = Reader::new(config.redis, config.queues, &[], config.discovery_ttl);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { redis, reader: reader.with_clock(move || now_ms / 1e3), runtime }
    }

    fn look(&mut self) -> Observation {
        self.runtime.block_on(self.reader.read()).pop().unwrap().unwrap()
    }
}

#[test]
fn what_a_failed_look_had_counted_is_missing_and_the_next_one_says_so() {
    let mut watch = Watch::start("list:q?delayed=later", 1_795_600_000_000.0);
    watch.redis.say("LPUSH q a b c");
    watch.look();
    watch.redis.say("LPUSH q d");
    assert!(!watch.look().counts.gap);
    watch.redis.say("SET later text");
    watch.redis.say("LPUSH q e");
    assert!(watch.runtime.block_on(watch.reader.read()).pop().unwrap().is_err());
    watch.redis.say("DEL later");
    let seen = watch.look();
    assert!(seen.counts.gap || seen.counts.arrivals == Count::Step(1));
    assert!(!watch.look().counts.gap);
}

#[test]
fn a_job_put_in_at_the_front_hides_older_ones_and_the_age_says_so() {
    let mut watch = Watch::start("rq:q", 1_795_600_000_000.0);
    for (job, at) in [("a", "09:46:00"), ("b", "09:46:10"), ("urgent", "09:46:30")] {
        watch.redis.say(&format!("HSET rq:job:{job} enqueued_at 2026-11-25T{at}.000000Z"));
    }
    watch.redis.say("RPUSH rq:queue:q a b");
    assert_eq!(watch.look().age, Age::Known { seconds: 40.0, error: 0.0 });
    watch.redis.say("LPUSH rq:queue:q urgent");
    assert_eq!(watch.look().age, Age::AtLeast(10.0));
    watch.redis.say("LPOP rq:queue:q");
    assert_eq!(watch.look().age, Age::Known { seconds: 40.0, error: 0.0 });
    watch.redis.say("LPOP rq:queue:q");
    assert_eq!(watch.look().age, Age::Known { seconds: 30.0, error: 0.0 });
    // The hash of the next is gone: its age is what was seen from outside.
    watch.redis.say("RPUSH rq:queue:q ghost");
    watch.redis.say("LPOP rq:queue:q");
    assert!(matches!(watch.look().age, Age::Known { error, .. } if error > 0.0));
}

#[test]
fn the_mark_that_old_bullmq_leaves_among_its_jobs_is_no_job() {
    let mut watch = Watch::start("bullmq:q", 1_795_600_000_000.0);
    watch.redis.say("HSET bull:q:meta version bullmq:4.12.0");
    watch.redis.say("HSET bull:q:7 timestamp 1795599990000 opts {}");
    watch.redis.say("ZADD bull:q:delayed 7354777600000000000 9");
    watch.redis.say("LPUSH bull:q:wait 0:1795603600000");
    let seen = watch.look();
    assert_eq!((seen.length, seen.delayed, seen.age), (Some(0), Some(1), Age::EMPTY));
    watch.redis.say("LPUSH bull:q:wait 7");
    let seen = watch.look();
    assert_eq!((seen.length, seen.age), (Some(1), Age::Known { seconds: 10.0, error: 0.0 }));
    // The mark comes and goes like a job: what is counted there is not to be had.
    assert_eq!((seen.counts.arrivals, seen.counts.processed), (Count::Unknown, Count::Unknown));
}

#[test]
fn prioritized_jobs_have_an_age_too_and_it_is_the_least_where_there_are_more() {
    let mut watch = Watch::start("bullmq:q", 1_795_600_000_000.0);
    watch.redis.say("HSET bull:q:meta version bullmq:5.81.5");
    for (job, at) in [("1", 1_795_599_990_000_u64), ("2", 1_795_599_980_000), ("3", 1_795_599_970_000)] {
        watch.redis.say(&format!("HSET bull:q:{job} timestamp {at} opts {{}}"));
    }
    watch.redis.say("ZADD bull:q:prioritized 1 1");
    let seen = watch.look();
    assert_eq!((seen.length, seen.age), (Some(1), Age::Known { seconds: 10.0, error: 0.0 }));
    watch.redis.say("ZADD bull:q:prioritized 2 2");
    let seen = watch.look();
    assert_eq!((seen.length, seen.age), (Some(2), Age::AtLeast(10.0)));
    watch.redis.say("LPUSH bull:q:wait 3");
    let seen = watch.look();
    assert_eq!((seen.length, seen.age), (Some(3), Age::AtLeast(30.0)));
    watch.redis.say("DEL bull:q:prioritized");
    assert_eq!(watch.look().age, Age::Known { seconds: 30.0, error: 0.0 });
}

#[test]
fn an_empty_list_of_a_priority_is_no_gap_while_the_one_before_it_holds_jobs() {
    let mut watch = Watch::start("celery:q", 1_795_600_000_000.0);
    watch.redis.say("LPUSH q a b c");
    watch.look();
    for round in 0..3 {
        watch.redis.say("RPOP q");
        watch.redis.say(&format!("LPUSH q x{round} y{round}"));
        let seen = watch.look();
        assert_eq!((seen.counts.arrivals, seen.counts.processed), (Count::Step(2), Count::Step(1)));
        assert!(!seen.counts.gap);
    }
    watch.redis.say("DEL q");
    assert!(watch.look().counts.gap);
    watch.redis.say("LPUSH q\u{6}\u{16}9 a b");
    watch.look();
    assert!(watch.look().counts.gap, "jobs may pass through the lists before it");
}

#[test]
fn pausing_a_queue_moves_its_jobs_and_counts_none_as_done() {
    let mut watch = Watch::start("bullmq:q", 1_795_600_000_000.0);
    watch.redis.say("HSET bull:q:meta version bullmq:5.81.5");
    for job in 1..6 {
        watch.redis.say(&format!("HSET bull:q:{job} timestamp 179559999000{job} opts {{}}"));
        watch.redis.say(&format!("LPUSH bull:q:wait {job}"));
    }
    watch.look();
    for (paused, from, to) in [(true, "wait", "paused"), (false, "paused", "wait")] {
        watch.redis.say(&format!("RENAME bull:q:{from} bull:q:{to}"));
        watch.redis.say(if paused { "HSET bull:q:meta paused 1" } else { "HDEL bull:q:meta paused" });
        let seen = watch.look();
        assert_eq!((seen.length, seen.paused), (Some(5), Some(paused)));
        assert_eq!((seen.counts.arrivals, seen.counts.processed), (Count::Step(0), Count::Step(0)));
        assert!(!seen.counts.gap);
    }
}

/// One row of the README's table a library: what is published, by a recorded queue of it.
fn row(name: &str, file: &str, specs: &str, now_ms: f64) -> String {
    let redis = Redis::start();
    load_fixture(&redis, file);
    let (outcomes, globals) = read(&redis, specs, now_ms);
    let seen: Vec<Observation> = outcomes.into_iter().map(Result::unwrap).collect();
    let globals = globals.unwrap_or_default();
    let any = |field: fn(&Observation) -> bool, wide: Option<u64>| match (seen.iter().any(field), wide) {
        (true, _) => "●",
        (false, Some(_)) => "Σ",
        (false, None) => "",
    };
    let count = |field: fn(&Observation) -> Count, wide: Option<u64>| {
        let counts: Vec<Count> = seen.iter().map(field).collect();
        let of = |wanted: fn(&Count) -> bool| counts.iter().any(wanted);
        let own = if of(|count| matches!(count, Count::Total(_))) {
            "●"
        } else if of(|count| matches!(count, Count::Step(_))) {
            "○"
        } else {
            ""
        };
        if wide.is_some() { format!("{own} Σ").trim().to_string() } else { own.to_string() }
    };
    let exact = seen.iter().any(|seen| {
        seen.length.unwrap_or(0) + seen.due.unwrap_or(0) > 0
            && matches!(seen.age, Age::Known { error, .. } if error <= 0.5)
    });
    let cells = [
        any(|seen| seen.length.is_some(), None).to_string(),
        any(|seen| seen.in_flight.is_some(), None).to_string(),
        any(|seen| seen.due.is_some(), globals.due).to_string(),
        any(|seen| seen.delayed.is_some(), globals.delayed).to_string(),
        any(|seen| seen.retrying.is_some(), globals.retrying).to_string(),
        any(|seen| seen.dead.is_some(), globals.dead).to_string(),
        any(|seen| seen.abandoned.is_some(), None).to_string(),
        if exact { "●" } else { "○" }.to_string(),
        count(|seen| seen.counts.processed, globals.processed),
        any(|seen| matches!(seen.counts.failed, Count::Total(_)), globals.failed).to_string(),
        any(|seen| seen.consumers.is_some(), None).to_string(),
        any(|seen| seen.slots.is_some(), None).to_string(),
        any(|seen| seen.paused.is_some(), None).to_string(),
    ];
    format!("| [{name}](docs/{name}.md) | {} |", cells.join(" | "))
}

#[test]
fn the_readme_says_of_each_library_what_it_publishes() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let fixtures = [
        ("apalis", "apalis-redis-1.0.0-busy.jsonl", "apalis:emails", 1_795_603_751_256.0),
        ("arq", "arq.jsonl", "arq:emails", 1_795_573_863_309.0),
        ("asynq", "asynq-0.26.0-busy.jsonl", "asynq:emails", 1_795_603_751_256.0),
        ("bull", "bull.jsonl", "bull:emails,bull:reports", 1_795_573_383_347.0),
        ("bullmq", "bullmq.jsonl", "bullmq:emails", 1_795_573_341_172.0),
        ("celery", "celery.jsonl", "celery:emails", 1_795_573_484_681.0),
        ("dramatiq", "dramatiq.jsonl", "dramatiq:emails", 1_795_573_812_475.0),
        ("huey", "huey.jsonl", "huey:emails", 1_795_573_931_928.0),
        ("laravel", "laravel-13.31.0-busy.jsonl", "laravel:emails", 1_795_604_000_000.0),
        ("resque", "resque-source-busy.jsonl", "resque:mail", 1_795_600_000_000.0),
        ("rq", "rq.jsonl", "rq:emails", 1_795_573_797_196.0),
        ("saq", "saq.jsonl", "saq:emails", 1_795_573_894_190.0),
        ("sidekiq", "sidekiq.jsonl", "sidekiq:emails", 1_795_573_400_801.0),
        ("taskiq", "taskiq-list.jsonl", "taskiq:emails", 1_795_573_942_759.0),
    ];
    let rows: Vec<String> =
        fixtures.iter().map(|(name, file, specs, now_ms)| row(name, file, specs, *now_ms)).collect();
    let libraries = TABLE.iter().filter(|entry| !["list", "stream", "zset"].contains(&entry.name));
    assert_eq!(
        fixtures.iter().map(|(name, ..)| *name).collect::<Vec<_>>(),
        libraries.map(|entry| entry.name).collect::<Vec<_>>()
    );
    assert!(rows.iter().all(|row| readme.contains(row)), "the README must say:\n{}", rows.join("\n"));
    for (name, ..) in fixtures {
        let page = std::fs::read_to_string(format!("{}/docs/{name}.md", env!("CARGO_MANIFEST_DIR")));
        let page = page.unwrap_or_else(|error| panic!("docs/{name}.md: {error}"));
        assert!(page.contains(&format!("'{name}:")), "docs/{name}.md does not say how to name a queue");
    }
}

/// The states of libraries in other languages: truths in the recorders' own words, `waiting` and so on a queue.
#[test]
fn every_state_recorded_in_other_languages_reads_as_it_is() {
    let mut states = 0;
    for (prefix, layout) in [
        ("bullmq-", "bullmq"),
        ("bull-", "bull"),
        ("sidekiq-", "sidekiq"),
        ("asynq-", "asynq"),
        ("apalis-redis-", "apalis"),
        ("laravel-", "laravel"),
        ("node-resque-", "resque"),
    ] {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
        let files =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        for name in files
            .filter(|file| file.starts_with(prefix))
            .filter_map(|file| Some(file.strip_suffix(".jsonl")?.to_string()))
        {
            let truth = truth(&name);
            let queues = truth["queues"].as_object().unwrap();
            let redis = Redis::start();
            load_fixture(&redis, &format!("{name}.jsonl"));
            let spec = |(name, truth): (&String, &Value)| match truth["prefix"].as_str() {
                Some(prefix) => format!("{layout}:{}?prefix={prefix}", name.rsplit(':').next().unwrap()),
                None => format!("{layout}:{name}"),
            };
            let specs: Vec<String> = queues.iter().map(spec).collect();
            let now_ms = truth["now_ms"].as_f64().unwrap();
            let (outcomes, globals) = read(&redis, &specs.join(","), now_ms);
            for ((queue, truth), outcome) in queues.iter().zip(outcomes) {
                let what = format!("{name}: {queue}");
                let seen = outcome.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_recorded(&what, truth, &seen, now_ms);
            }
            if let Some(wide) = truth["global"].as_object() {
                let globals = globals.unwrap();
                let number = |field: &str| wide.get(field).and_then(Value::as_u64);
                let delayed = globals.delayed.map(|delayed| delayed + globals.due.unwrap_or(0));
                assert_eq!(delayed, number("delayed"), "{name}: delayed");
                assert_eq!((globals.retrying, globals.dead), (number("retrying"), number("dead")), "{name}");
                assert_eq!(globals.failed, number("failed_total"), "{name}: failed");
                let all = number("processed_total").zip(number("failed_total")).map(|(done, failed)| done + failed);
                assert_eq!(globals.processed, all, "{name}: processed");
            }
            states += 1;
        }
    }
    assert!(states >= 50, "only {states} states");
}

fn assert_recorded(what: &str, truth: &Value, seen: &Observation, now_ms: f64) {
    let number = |field: &str| truth[field].as_u64().unwrap_or(0);
    let is_apalis = what.starts_with("apalis");
    let waiting = number("waiting");
    // In BullMQ 4 a lifo job may stand behind the mark that wakes the workers, which then is not seen to be one.
    let mark = u64::from(what == "bullmq-4.18.3-priority: emails");
    if is_apalis {
        // Every job goes through the sorted set by due time: those that wait there can't be told from the delayed.
        let all = seen.length.unwrap() + seen.due.unwrap() + seen.delayed.unwrap();
        assert_eq!(all, waiting + number("delayed") + number("retrying"), "{what}: waiting, delayed, retrying");
    } else {
        assert_eq!(seen.length, Some(waiting + mark), "{what}: waiting");
    }
    if let Some(in_flight) = seen.in_flight {
        let held = in_flight + seen.abandoned.unwrap_or(0);
        let truth = number("in_flight") + number("abandoned");
        // Sidekiq shows what a killed process ran until its keys end, a minute later.
        let lingers = held == truth + number("lost") && what.starts_with("sidekiq");
        assert!(held == truth || lingers, "{what}: {held} in flight or of a worker that was killed, truly {truth}");
    }
    if let Some(delayed) = seen.delayed.filter(|_| !is_apalis) {
        let later = delayed + seen.retrying.unwrap_or(0);
        assert_eq!(
            later,
            number("delayed") - number("delayed_overdue") + number("retrying"),
            "{what}: delayed, retrying"
        );
        assert_eq!(seen.due.unwrap_or(0), number("delayed_overdue"), "{what}: due");
    }
    if let Some(dead) = seen.dead {
        assert_eq!(dead, number("dead"), "{what}: dead");
    }
    if let Some(paused) = seen.paused {
        assert_eq!(Some(paused), truth["paused"].as_bool(), "{what}: paused");
    }
    if waiting > 0 && number("delayed_overdue") + number("retrying") == 0 {
        let truth = (now_ms - truth["oldest_enqueued_at_ms"].as_f64().unwrap()) / 1e3;
        match seen.age {
            Age::Known { seconds, error } => {
                // The producer's clock is up to 60 ms before the time that the library stores.
                assert!((seconds - truth).abs() <= error + 0.1, "{what}: age {seconds} +- {error}, truly {truth}");
            }
            Age::AtLeast(seconds) => assert!(seconds <= truth + 0.1, "{what}: at least {seconds}, truly {truth}"),
            Age::Unknown => panic!("{what}: no age"),
        }
    }
}
