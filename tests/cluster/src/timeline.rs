//! What happened, twice a second: to assert on, and to draw.

use crate::workers::Done;
use crate::world::World;
use anyhow::Result;
use redis::AsyncCommands;
use std::fmt::Write;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// One moment; what could not be read is absent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Seconds since the scenario began.
    pub time: f64,
    pub backlog: Option<u64>,
    pub in_flight: Option<u64>,
    /// What the Deployment is to have.
    pub replicas: Option<u64>,
    pub ready: u64,
    pub done: u64,
    pub killed: u64,
}

/// Records until it is dropped.
pub struct Timeline {
    samples: Arc<Mutex<Vec<Sample>>>,
    began: Instant,
    task: JoinHandle<()>,
}

impl Drop for Timeline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Timeline {
    /// Records no more: what comes now is no part of it.
    pub fn end(&self) {
        self.task.abort();
    }

    /// Records the list `queue` and its worker.
    pub fn record(world: &World, queue: &str, done: Arc<Done>) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let (shared, began) = (samples.clone(), Instant::now());
        let (url, client, queue) = (world.redis_url(), world.plane.client.clone(), queue.to_string());
        let task = tokio::spawn(async move {
            let mut redis = None;
            loop {
                if redis.is_none() {
                    redis = crate::workers::connect(&url).await.ok();
                }
                let (mut backlog, mut in_flight) = (None, None);
                if let Some(connection) = &mut redis {
                    backlog = connection.llen(&queue).await.ok();
                    in_flight = connection.llen(format!("{queue}:processing")).await.ok();
                }
                if backlog.is_none() {
                    redis = None;
                }
                let reading = crate::world::replicas(&client, &queue);
                let replicas = tokio::time::timeout(Duration::from_secs(1), reading).await.ok().and_then(Result::ok);
                let sample = Sample {
                    time: began.elapsed().as_secs_f64(),
                    backlog,
                    in_flight,
                    replicas,
                    ready: done.ready.load(Ordering::Relaxed),
                    done: done.jobs.load(Ordering::Relaxed),
                    killed: done.killed.load(Ordering::Relaxed),
                };
                if let Ok(mut samples) = shared.lock() {
                    samples.push(sample);
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        });
        Self { samples, began, task }
    }

    /// When it began.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Seconds since it began.
    pub fn now(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// All so far.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().map(|samples| samples.clone()).unwrap_or_default()
    }

    /// The last one.
    pub fn last(&self) -> Sample {
        self.samples().last().copied().unwrap_or_default()
    }
}

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 50.0;

/// Two plots over one time axis: jobs, and workers.
pub fn svg(title: &str, samples: &[Sample]) -> String {
    let end = samples.last().map_or(1.0, |sample| sample.time.max(1.0));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/><text x=\"{LEFT}\" y=\"20\" font-size=\"15\">{title}</text>",
        WIDTH + 80.0,
        2.0 * HEIGHT + 110.0
    );
    // Okabe and Ito's colours: they stay apart for the colour-blind, too.
    plot(
        &mut text,
        40.0,
        end,
        samples,
        &[("waiting", "#0072B2", |sample| sample.backlog), ("in flight", "#E69F00", |sample| sample.in_flight)],
    );
    plot(
        &mut text,
        40.0 + HEIGHT + 35.0,
        end,
        samples,
        &[("wanted", "#D55E00", |sample| sample.replicas), ("ready", "#009E73", |sample| Some(sample.ready))],
    );
    text + "</svg>\n"
}

type Line = (&'static str, &'static str, fn(&Sample) -> Option<u64>);

fn plot(text: &mut String, top: f64, end: f64, samples: &[Sample], lines: &[Line]) {
    let values = lines.iter().flat_map(|(_, _, of)| samples.iter().filter_map(of));
    // four steps of whole numbers
    let most = values.max().unwrap_or(1).max(1).next_multiple_of(4) as f64;
    let x = |time: f64| LEFT + time / end * WIDTH;
    let y = |value: f64| top + HEIGHT - value / most * (HEIGHT - 20.0);
    for step in 0..=4 {
        let (value, time) = (most * f64::from(step) / 4.0, end * f64::from(step) / 4.0);
        let _ = write!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/><text x=\"{2}\" y=\"{3:.1}\" text-anchor=\"end\">{value:.0}</text>\
             <text x=\"{4:.1}\" y=\"{5:.1}\" text-anchor=\"middle\" fill=\"#666\">{time:.0} s</text>",
            LEFT + WIDTH,
            y(value),
            LEFT - 6.0,
            y(value) + 4.0,
            x(time),
            top + HEIGHT + 16.0
        );
    }
    for (place, (name, colour, of)) in lines.iter().enumerate() {
        let mut path = String::new();
        let mut last: Option<u64> = None;
        for sample in samples {
            let Some(value) = of(sample) else {
                last = None;
                continue;
            };
            // steps: between two readings nothing is known
            let start = if last.is_none() { "M" } else { "H" };
            let _ = match start {
                "M" => write!(path, "M{:.1},{:.1}", x(sample.time), y(value as f64)),
                _ => write!(path, "H{:.1}V{:.1}", x(sample.time), y(value as f64)),
            };
            last = Some(value);
        }
        let _ = write!(
            text,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"{}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            LEFT + 10.0 + 90.0 * place as f64,
            top + 12.0
        );
    }
}
