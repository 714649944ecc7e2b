//! An exporter that finds queues by a pattern while they come and go, clients scrape it, and Redis is killed now and then and comes back
//! empty, to be filled again: what it holds must not grow.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use super::process::{descriptors, median, resident};
use super::{Exporter, Redis, free_port};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What is done.
pub struct Churn {
    pub seconds: u64,
    /// That are there at a time.
    pub queues: usize,
    /// That go, and that come, each second.
    pub turnover: usize,
    /// Clients that scrape each second.
    pub scrapers: usize,
    /// Seconds from one death of Redis to the next.
    pub redis_lives: u64,
    /// Seconds from one sample to the next.
    pub sample: u64,
    pub variables: &'static [(&'static str, &'static str)],
}

/// What one sample saw.
pub struct Sample {
    /// Megabytes in memory.
    pub resident: f64,
    pub descriptors: usize,
    /// Polls since the last sample.
    pub polls: f64,
    /// Queues shown.
    pub queues: f64,
    /// The slowest scrape since the last sample.
    pub slowest_ms: f64,
}

/// What is left of it in the end, with Redis and the exporter still running.
pub struct Churned {
    pub redis: Redis,
    pub exporter: Arc<Exporter>,
    /// The queues that are there.
    pub names: Vec<String>,
    pub samples: Vec<Sample>,
}

impl Churn {
    /// Does it, and hands over each sample as it is taken.
    pub fn run(&self, each: impl Fn(&Sample)) -> Churned {
        let port = free_port();
        let mut redis = Redis::start_on(port, &[]);
        let mut names: VecDeque<usize> = (0..self.queues).collect();
        fill(&redis, &names);
        let url = redis.url();
        let variables =
            [&[("REDIS_URL", url.as_str()), ("QUEUES", "sidekiq:*"), ("RUST_LOG", "error")], self.variables];
        let exporter = Arc::new(Exporter::start_with(&variables.concat()));
        let (stop, slowest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let scrape = || {
            let (exporter, stop, slowest) = (exporter.clone(), stop.clone(), slowest.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    assert_eq!(exporter.get("/metrics").expect("/metrics answers").status, 200);
                    slowest.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_secs(1));
                }
            })
        };
        let scrapers: Vec<_> = (0..self.scrapers).map(|_| scrape()).collect();
        let (start, mut samples, mut polls) = (Instant::now(), Vec::new(), exporter.metrics().polls());
        for second in 1..=self.seconds {
            std::thread::sleep((start + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
            if second % self.redis_lives == 0 {
                drop(redis);
                exporter.wait("Redis is missed", |metrics| metrics.value("queue_exporter_redis_up") == Some(0.0));
                redis = Redis::start_on(port, &[]);
                fill(&redis, &names);
            }
            self.turn_over(&redis, &mut names);
            if second % self.sample == 0 {
                let metrics = exporter.metrics();
                let sample = Sample {
                    resident: resident(&exporter),
                    descriptors: descriptors(&exporter),
                    polls: metrics.polls() - polls,
                    queues: metrics.value("queue_exporter_queues").unwrap_or(0.0),
                    slowest_ms: slowest.swap(0, Ordering::Relaxed) as f64 / 1_000.0,
                };
                each(&sample);
                polls = metrics.polls();
                samples.push(sample);
            }
        }
        stop.store(true, Ordering::Relaxed);
        scrapers.into_iter().for_each(|scraper| scraper.join().unwrap());
        Churned { redis, exporter, names: names.iter().map(|name| format!("q{name}")).collect(), samples }
    }

    fn turn_over(&self, redis: &Redis, names: &mut VecDeque<usize>) {
        let mut pipe = redis::pipe();
        for name in names.drain(..self.turnover) {
            pipe.srem("queues", format!("q{name}")).ignore().del(format!("queue:q{name}")).ignore();
        }
        pipe.query::<()>(&mut redis.connect()).unwrap();
        let newest = names.back().copied().unwrap_or(0);
        let came: VecDeque<usize> = (newest + 1..=newest + self.turnover).collect();
        fill(redis, &came);
        names.extend(&came);
    }
}

impl Churned {
    /// A number of the samples, the median of their second sixth and of their last.
    pub fn growth(&self, number: impl Fn(&Sample) -> f64) -> (f64, f64) {
        let sixth = self.samples.len().div_ceil(6);
        let second = median(self.samples.iter().skip(sixth).take(sixth).map(&number));
        (second, median(self.samples.iter().rev().take(sixth).map(&number)))
    }
}

/// Puts in queues of two jobs each.
fn fill(redis: &Redis, names: &VecDeque<usize>) {
    let mut connection = redis.connect();
    for part in names.iter().collect::<Vec<_>>().chunks(1_000) {
        let mut pipe = redis::pipe();
        for name in part {
            pipe.sadd("queues", format!("q{name}")).ignore();
            for job in ["{\"enqueued_at\":1700000000.1}", "{\"enqueued_at\":1700000000.2}"] {
                pipe.lpush(format!("queue:q{name}"), job).ignore();
            }
        }
        pipe.query::<()>(&mut connection).unwrap();
    }
}
