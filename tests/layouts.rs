//! The three plain layouts on a real Redis: recorded queues with known numbers, and every trap of streams.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};
use support::{Exporter, Metrics, Redis, load_fixture, wait_for};

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3
}

fn assert_values(metrics: &Metrics, queue: &str, wanted: &[(&str, Option<f64>)]) {
    for (name, value) in wanted {
        assert_eq!(metrics.of(name, queue), *value, "{name} of {queue}");
    }
}

/// The published age is that of a job put in at `millis`, to within the time that a poll and a scrape take.
fn assert_age(metrics: &Metrics, name: &str, queue: &str, millis: f64) {
    let age = metrics.of(name, queue).unwrap_or_else(|| panic!("no {name} of {queue}"));
    let truth = (now_ms() - millis) / 1e3;
    assert!(age <= truth + 0.1 && age > truth - 20.0, "{name} of {queue} is {age}, truly {truth}");
}

#[test]
fn recorded_lists_read_as_their_producer_knows_them() {
    let redis = Redis::start();
    load_fixture(&redis, "plain-list.jsonl");
    let exporter = Exporter::start(
        &redis.url(),
        "list:queue:emails?time=ts&in_flight=queue:emails:processing&delayed=queue:emails:delayed&retrying=queue:emails:retry\
         &dead=queue:emails:dead&processed=queue:emails:processed&failed=queue:emails:failed,\
         list:queue:reports?oldest=head&time=$.ts&delayed=queue:reports:delayed",
    );
    let metrics = exporter.metrics();
    // The fixture's delayed jobs were due an hour after it was recorded, and its retries half an hour: all are due now.
    let due = |later: f64| if now_ms() > 1_795_577_733_000.0 { later } else { 0.0 };
    assert_values(
        &metrics,
        "queue:emails",
        &[
            ("length", Some(7.0)),
            ("in_flight", Some(2.0)),
            ("dead", Some(1.0)),
            ("processed_total", Some(5.0)),
            ("failed_total", Some(1.0)),
            ("arrivals_total", Some(14.0)),
            ("observation_gaps_total", Some(0.0)),
        ],
    );
    let later = metrics.of("delayed", "queue:emails").unwrap() + metrics.of("retrying", "queue:emails").unwrap();
    assert_eq!(later + metrics.of("due", "queue:emails").unwrap(), 4.0);
    assert!(metrics.of("due", "queue:emails").unwrap() >= due(4.0));
    assert_eq!(metrics.of("backlog", "queue:emails"), Some(7.0 + metrics.of("due", "queue:emails").unwrap()));
    assert_age(&metrics, "oldest_job_age_seconds", "queue:emails", 1_795_574_013_753.0);
    assert_values(&metrics, "queue:reports", &[("length", Some(4.0)), ("in_flight", None), ("dead", None)]);
    assert_age(&metrics, "oldest_job_age_seconds", "queue:reports", 1_795_574_014_107.0);
}

#[test]
fn recorded_sorted_sets_read_as_their_producer_knows_them() {
    let redis = Redis::start();
    load_fixture(&redis, "plain-zset.jsonl");
    let exporter = Exporter::start(
        &redis.url(),
        "zset:sched:emails?in_flight=sched:emails:inflight&dead=sched:emails:dead&processed=sched:emails:done,zset:sched:reports",
    );
    let metrics = exporter.metrics();
    let all = |queue| metrics.of("length", queue).unwrap() + metrics.of("delayed", queue).unwrap();
    assert_eq!((all("sched:emails"), all("sched:reports")), (10.0, 5.0));
    assert!(metrics.of("length", "sched:emails").unwrap() >= 7.0);
    assert_values(
        &metrics,
        "sched:emails",
        &[
            ("in_flight", Some(2.0)),
            ("dead", Some(1.0)),
            ("processed_total", Some(5.0)),
            ("oldest_job_age_error_seconds", Some(0.0)),
        ],
    );
    assert_age(&metrics, "oldest_job_age_seconds", "sched:emails", 1_795_574_007_437.0);
}

#[test]
fn recorded_streams_read_as_their_producer_knows_them() {
    let redis = Redis::start();
    load_fixture(&redis, "streams.cmds.jsonl");
    let exporter = Exporter::start(
        &redis.url(),
        "stream:jobs:emails?group=workers&dead=jobs:emails:dead&delayed=jobs:emails:delayed,stream:jobs:reports",
    );
    let metrics = exporter.metrics();
    assert_values(
        &metrics,
        "jobs:emails",
        &[
            ("length", Some(7.0)),
            ("in_flight", Some(2.0)),
            ("dead", Some(1.0)),
            ("processed_total", Some(6.0)),
            ("arrivals_total", Some(15.0)),
        ],
    );
    assert_age(&metrics, "oldest_job_age_seconds", "jobs:emails", 1_795_574_012_622.0);
    assert_age(&metrics, "oldest_in_flight_age_seconds", "jobs:emails", 1_795_574_012_321.0);
    assert_values(
        &metrics,
        "jobs:reports",
        &[("length", Some(4.0)), ("in_flight", Some(0.0)), ("processed_total", Some(0.0))],
    );
    assert_age(&metrics, "oldest_job_age_seconds", "jobs:reports", 1_795_574_012_977.0);
}

#[test]
fn a_score_may_have_any_unit_or_be_a_priority() {
    let redis = Redis::start();
    let due = now_ms() - 30_000.0;
    for (key, factor) in [("s", 1e-3), ("ms", 1.0), ("us", 1e3), ("ns", 1e6)] {
        let (past, future) = (format!("{}", due * factor), format!("{}", (due + 3_600_000.0) * factor));
        redis.run(&["ZADD", key, &past, "a", &future, "b"]);
    }
    redis.say("ZADD prio 5 a 7 b");
    let exporter =
        Exporter::start(&redis.url(), "zset:s,zset:ms,zset:us,zset:ns,zset:prio?unit=none,zset:prio?name=untold");
    let metrics = exporter.metrics();
    for key in ["s", "ms", "us", "ns"] {
        assert_values(&metrics, key, &[("length", Some(1.0)), ("delayed", Some(1.0)), ("up", Some(1.0))]);
        assert_age(&metrics, "oldest_job_age_seconds", key, due);
    }
    assert_values(&metrics, "prio", &[("length", Some(2.0)), ("oldest_job_age_seconds", None)]);
    assert_eq!((metrics.of("up", "untold"), metrics.readings("untold")), (Some(0.0), 0));
}

/// A stream of five entries with a group that has read two of them.
fn stream(redis: &Redis, key: &str) -> Vec<String> {
    let ids = (0..5).map(|number| match redis.say(&format!("XADD {key} * n {number}")) {
        redis::Value::BulkString(id) => String::from_utf8(id).unwrap(),
        other => panic!("{other:?}"),
    });
    let ids = ids.collect();
    redis.say(&format!("XGROUP CREATE {key} g 0"));
    redis.say(&format!("XREADGROUP GROUP g c COUNT 2 STREAMS {key} >"));
    ids
}

#[test]
fn a_stream_is_never_over_counted_and_a_missing_lag_is_never_zero() {
    let redis = Redis::start();
    let ids = stream(&redis, "deleted");
    redis.say(&format!("XDEL deleted {}", ids[3]));
    stream(&redis, "trimmed");
    redis.say("XTRIM trimmed MAXLEN = 1");
    stream(&redis, "read");
    redis.say("XREADGROUP GROUP g c STREAMS read >");
    redis.say("XTRIM read MAXLEN = 0");
    stream(&redis, "moved");
    redis.say("XGROUP SETID moved g 0");
    redis.say("XGROUP CREATE fresh g 0 MKSTREAM");
    redis.say("XADD own 1-1 f 1");
    redis.say("XGROUP CREATE own g 0");
    stream(&redis, "two");
    redis.say("XGROUP CREATE two other $");
    redis.say("XADD groupless * f 1");
    let exporter = Exporter::start(
        &redis.url(),
        "stream:deleted,stream:trimmed,stream:read,stream:moved,stream:fresh,stream:own,stream:two?group=g,\
         stream:two?group=other&name=other,stream:two?name=which,stream:groupless,stream:two?group=no&name=nogroup,stream:none",
    );
    let metrics = exporter.metrics();
    let lengths = [("deleted", 2.0), ("trimmed", 1.0), ("read", 0.0), ("moved", 5.0), ("fresh", 0.0), ("own", 1.0)];
    for (key, length) in lengths.into_iter().chain([("two", 3.0), ("other", 0.0), ("none", 0.0)]) {
        assert_values(&metrics, key, &[("length", Some(length)), ("up", Some(1.0))]);
    }
    assert_values(&metrics, "own", &[("oldest_job_age_seconds", None)]);
    assert_values(&metrics, "deleted", &[("processed_total", Some(0.0)), ("arrivals_total", Some(5.0))]);
    for key in ["which", "groupless", "nogroup"] {
        assert_eq!((metrics.of("up", key), metrics.readings(key)), (Some(0.0), 0), "{key}");
    }
}

/// Redis comes to a lag of 0 by the place of the last entry, and then goes on from a count that lacks the lost ones.
#[test]
fn a_lag_that_was_too_high_once_is_put_right_after_the_group_has_read_to_the_end() {
    let redis = Redis::start();
    let ids = stream(&redis, "seen");
    let acl =
        "ACL SETUSER reader on >secret ~* -@all +multi +exec +ping +xlen +xinfo|groups +xinfo|stream +xrange +xpending";
    redis.say(acl);
    let url = redis.url().replace("redis://", "redis://reader:secret@");
    let exporter = Exporter::start(&url, "stream:seen");
    assert_values(&exporter.metrics(), "seen", &[("length", Some(3.0))]);
    // The first entries are lost, one of them undelivered, so that Redis gives 3 where 2 wait.
    redis.say(&format!("XDEL seen {} {} {}", ids[0], ids[1], ids[2]));
    assert_values(&exporter.wait_polls(2.0), "seen", &[("length", Some(2.0))]);
    // All are read, and the last one goes.
    redis.say("XREADGROUP GROUP g c STREAMS seen >");
    redis.say(&format!("XDEL seen {}", ids[4]));
    assert_values(&exporter.wait_polls(2.0), "seen", &[("length", Some(0.0))]);
    add(&redis, "seen", 1_200);
    redis.say("XREADGROUP GROUP g c COUNT 1 STREAMS seen >");
    assert_values(&exporter.wait_polls(2.0), "seen", &[("length", Some(1_199.0))]);
}

/// A group made at the end has no count of what it has read.
#[test]
fn a_quiet_stream_costs_two_commands_a_poll() {
    let redis = Redis::start();
    redis.say("XADD end * f 1");
    redis.say("XGROUP CREATE end g $");
    stream(&redis, "read");
    redis.say("XREADGROUP GROUP g c STREAMS read >");
    let exporter = Exporter::start(&redis.url(), "stream:end,stream:read");
    exporter.wait_polls(3.0);
    let (commands, polls) = (redis.commands(), exporter.metrics().polls());
    let after = exporter.wait_polls(20.0).polls() - polls;
    // XINFO GROUPS and XLEN of each, the time now and then, and what the question itself takes.
    let spent = (redis.commands() - commands) as f64;
    assert!(spent < 5.0 * after + 12.0, "{spent} commands in {after} polls");
}

/// Adds so many entries; gives their ids.
fn add(redis: &Redis, key: &str, count: usize) -> Vec<String> {
    let mut connection = redis.connect();
    (0..count).map(|_| support::command(&["XADD", key, "*", "f", "1"]).query(&mut connection).unwrap()).collect()
}

/// As workers leave it that delete what they have done, while one job takes long.
#[test]
fn a_long_stream_without_a_lag_is_counted_by_what_was_delivered_and_is_still_there() {
    let redis = Redis::start();
    let ids = stream(&redis, "long");
    add(&redis, "long", 1_100);
    redis.say(&format!("XDEL long {} {}", ids[0], ids[3]));
    let exporter = Exporter::start(&redis.url(), "stream:long");
    let metrics = exporter.metrics();
    assert_values(&metrics, "long", &[("length", Some(1_102.0)), ("in_flight", Some(2.0))]);
    assert_values(&metrics, "long", &[("arrivals_total", Some(1_105.0)), ("up", Some(1.0))]);
    add(&redis, "long", 10);
    let (commands, polls) = (redis.commands(), exporter.metrics().polls());
    let metrics = exporter.wait_polls(10.0);
    assert_values(&metrics, "long", &[("length", Some(1_112.0)), ("arrivals_total", Some(1_115.0))]);
    assert!(metrics.of("oldest_job_age_seconds", "long").is_some());
    // XINFO GROUPS and XLEN; then XINFO STREAM and two XRANGEs in a transaction, once and not from either end.
    let spent = (redis.commands() - commands) as f64;
    assert!(spent < 8.0 * (metrics.polls() - polls) + 20.0, "{spent} commands");
}

#[test]
fn more_entries_at_both_ends_than_may_be_counted_leave_the_length_absent() {
    let redis = Redis::start();
    stream(&redis, "long");
    let ids = add(&redis, "long", 2_200);
    redis.say("XREADGROUP GROUP g c COUNT 1100 STREAMS long >");
    redis.say(&format!("XDEL long {}", ids[1_500]));
    let exporter = Exporter::start(&redis.url(), "stream:long");
    let absent = [("length", None), ("backlog", None), ("up", Some(1.0)), ("in_flight", Some(1_102.0))];
    assert_values(&exporter.metrics(), "long", &absent);
    assert_values(&exporter.wait_polls(3.0), "long", &absent);
    assert!(exporter.metrics().of("oldest_job_age_seconds", "long").is_some());
    redis.say("XREADGROUP GROUP g c COUNT 900 STREAMS long >");
    assert_values(&exporter.wait_polls(3.0), "long", &[("length", Some(202.0)), ("up", Some(1.0))]);
}

#[test]
fn a_list_that_drains_between_polls_is_a_gap_unless_someone_counts() {
    let redis = Redis::start();
    redis.say("CONFIG SET notify-keyspace-events Kl");
    let exporter =
        Exporter::start(&redis.url(), "list:plain,list:counted?processed=counted:done,list:told?notify=true");
    let mut connection = redis.connect();
    for job in 0..50 {
        for key in ["plain", "counted", "told"] {
            support::command(&["LPUSH", key, &format!("job {job}")]).query::<redis::Value>(&mut connection).unwrap();
            support::command(&["RPOP", key]).query::<redis::Value>(&mut connection).unwrap();
        }
        support::command(&["INCR", "counted:done"]).query::<redis::Value>(&mut connection).unwrap();
    }
    let metrics = exporter.wait("all jobs are counted", |metrics| {
        metrics.of("processed_total", "counted") == Some(50.0) && metrics.of("processed_total", "told") == Some(50.0)
    });
    assert_values(&metrics, "counted", &[("arrivals_total", Some(50.0)), ("observation_gaps_total", Some(0.0))]);
    assert_values(&metrics, "told", &[("arrivals_total", Some(50.0))]);
    assert!(metrics.of("observation_gaps_total", "plain").unwrap() >= 1.0);
    let rates = exporter.wait("a rate once no gap is left in the window", |metrics| {
        metrics.of("arrival_rate", "counted").is_some() && metrics.of("arrival_rate", "told").is_some()
    });
    assert_eq!(rates.of("arrival_rate", "plain"), None);
}

#[test]
fn a_subscription_that_ends_is_taken_up_again() {
    let redis = Redis::start();
    redis.say("CONFIG SET notify-keyspace-events Kl");
    let exporter = Exporter::start(&redis.url(), "list:told?notify=true");
    let drain = |jobs: u64| {
        for job in 0..jobs {
            redis.run(&["LPUSH", "told", &job.to_string()]);
            redis.say("RPOP told");
        }
    };
    drain(20);
    exporter.wait("they are counted", |metrics| metrics.of("processed_total", "told") == Some(20.0));
    redis.say("CLIENT KILL TYPE pubsub");
    wait_for("it is there again", || (redis.say("PUBSUB NUMSUB __keyspace@0__:told") != nobody()).then_some(()));
    let before = exporter.wait_polls(2.0).of("processed_total", "told").unwrap();
    drain(30);
    exporter.wait("so are these", |metrics| metrics.of("processed_total", "told") == Some(before + 30.0));
}

/// What PUBSUB NUMSUB says where nobody listens.
fn nobody() -> redis::Value {
    redis::Value::Array(vec![redis::Value::BulkString(b"__keyspace@0__:told".to_vec()), redis::Value::Int(0)])
}

#[test]
fn counts_seen_from_outside_agree_with_the_workers_own() {
    let redis = Redis::start();
    let exporter = Exporter::start(&redis.url(), "list:seen,list:seen?name=counted&processed=seen:done");
    let mut connection = redis.connect();
    let push = |connection: &mut redis::Connection, job: usize| {
        support::command(&["LPUSH", "seen", &format!("job {job}")]).query::<redis::Value>(connection).unwrap();
    };
    // The first job waits at a poll of its own, so that the next look finds it: from then on all is exact.
    for job in 0..100 {
        push(&mut connection, job);
    }
    exporter.wait("the backlog is seen", |metrics| metrics.of("length", "seen") == Some(100.0));
    for round in 0..20 {
        for job in 0..5 {
            push(&mut connection, 100 + round * 5 + job);
            support::command(&["RPOP", "seen"]).query::<redis::Value>(&mut connection).unwrap();
            support::command(&["INCR", "seen:done"]).query::<redis::Value>(&mut connection).unwrap();
        }
        exporter.wait_polls(1.0);
    }
    let metrics = exporter.wait_polls(2.0);
    assert_values(&metrics, "seen", &[("processed_total", Some(100.0)), ("arrivals_total", Some(200.0))]);
    assert_values(&metrics, "counted", &[("processed_total", Some(100.0)), ("arrivals_total", Some(200.0))]);
}

#[test]
fn entries_that_come_to_a_stream_read_to_its_end_wait_though_nothing_is_delivered() {
    let redis = Redis::start();
    redis.say("XGROUP CREATE s workers $ MKSTREAM");
    redis.say("XADD s * f v");
    redis.say("XREADGROUP GROUP workers c COUNT 10 STREAMS s >");
    let exporter = Exporter::start(&redis.url(), "stream:s");
    let metrics = exporter.wait_polls(2.0);
    assert_values(&metrics, "s", &[("length", Some(0.0)), ("in_flight", Some(1.0))]);
    for waiting in 1..4 {
        redis.say("XADD s * f v");
        let metrics = exporter.wait_polls(2.0);
        assert_values(&metrics, "s", &[("length", Some(f64::from(waiting))), ("in_flight", Some(1.0))]);
        assert!(metrics.of("oldest_job_age_seconds", "s").unwrap() > 0.0);
    }
}
