//! What must happen. Each scenario installs the chart with one worker, the crawler, and asserts what comes out.
//!
//! The windows are short, for these tests are about what happens, not when; `reaction` in `latency.rs` keeps the defaults.

mod documented;

use crate::timeline::{Sample, Timeline};
use crate::usage;
use crate::workers::Workers;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use serde_json::{Value, json};
use std::time::Duration;

/// One scenario while it runs.
pub struct Stage {
    pub timeline: Timeline,
    /// Kept: they work while it runs.
    _workers: Workers,
}

/// A scenario's name and what it is about.
pub const ALL: [(&str, &str); 25] = [
    ("documented", "docs/kubernetes.md word for word; then a burst with the chart's defaults"),
    ("burst", "400 jobs on an idle worker: to the maximum, all done, back to the minimum, none killed"),
    ("band", "between the two depths nothing changes; over and under them it does"),
    ("long-jobs", "the queue is empty, four long jobs run: no worker goes until they are done"),
    ("zero", "from none to one for one job, which is not cut off when the queue is empty, and back to none"),
    ("age", "a short queue of slow jobs gets more workers by its age"),
    ("rate", "workers come with the arrivals, before a backlog does"),
    ("steady", "arrivals that are kept up with: the number of workers stays"),
    ("ramp", "arrivals that grow: workers come one after another, and go when they end"),
    ("two-workers", "two workers at once: each follows its own queue"),
    ("cpu", "busy processors call for workers though nothing waits, and none goes while the metrics server is away"),
    ("rollout", "a new version while it scales: no job is killed, the number of workers is kept"),
    ("drain-node", "nodes are drained under the budget: one worker at a time, none killed"),
    ("spot", "half of the spot nodes are lost at once: the floor stays, the rest comes back"),
    ("exporter-killed", "no numbers: no worker goes; it comes back"),
    ("two-exporters", "two behind one address, with certificates: one is killed, and the other goes on"),
    ("exporter-hung", "the same when it only stops answering"),
    ("redis-killed", "Redis goes and comes back: no worker goes, no job is lost"),
    (
        "redis-failed-over",
        "its replica takes over: no worker goes, no job is lost, and it goes by the numbers of the new one",
    ),
    ("redis-emptied", "all jobs are gone: to the minimum, and up again with new jobs"),
    ("wrong-type", "the queue's key becomes a string: no worker goes"),
    ("prometheus-down", "no answers to queries: no worker goes"),
    ("state-metrics-down", "the number of workers is not told: none goes, more may come"),
    ("keda-restarted", "operator and adapter are killed and come back: no worker goes"),
    ("api-paused", "the API server stands still for a while: no worker goes, all recovers"),
];

/// What a scenario left: to draw, and for the simulator to be held against.
pub struct Record {
    pub samples: Vec<Sample>,
    /// The chart's, as they were last; empty for its own defaults.
    pub values: String,
    /// Seconds since the samples began, how many jobs, and the milliseconds that each takes.
    pub puts: Vec<(f64, u64, u64)>,
}

impl Record {
    /// As JSON; `samples` holds arrays of seconds, backlog, jobs in flight, replicas wanted, workers ready.
    pub fn json(&self) -> Value {
        let rows = self
            .samples
            .iter()
            .map(|sample| json!([sample.time, sample.backlog, sample.in_flight, sample.replicas, sample.ready]));
        json!({"values": self.values, "puts": self.puts, "samples": rows.collect::<Vec<_>>()})
    }
}

/// Runs one scenario by its name.
pub async fn run(world: &mut World, name: &str, trigger: &str) -> Result<Record> {
    world.plane.check()?;
    let stage = match name {
        "documented" => documented::documented(world).await,
        "burst" => burst(world, trigger).await,
        "band" => band(world, trigger).await,
        "long-jobs" => long_jobs(world, trigger).await,
        "zero" => zero(world, trigger).await,
        "age" => age(world, trigger).await,
        "rate" => rate(world, trigger).await,
        "steady" => steady(world, trigger).await,
        "cpu" => cpu(world, trigger).await,
        "ramp" => ramp(world, trigger).await,
        "redis-emptied" => redis_emptied(world, trigger).await,
        "two-exporters" => two_exporters(world, trigger).await,
        "two-workers" => two_workers(world, trigger).await,
        "rollout" => rollout(world, trigger).await,
        "drain-node" => drain_node(world, trigger).await,
        "spot" => spot(world, trigger).await,
        _ => fault(world, name, trigger).await,
    }?;
    let record = Record {
        samples: stage.timeline.samples(),
        values: world.values.clone(),
        puts: world.puts("crawler", stage.timeline.began()),
    };
    drop(stage);
    world.uninstall().await?;
    Ok(record)
}

/// The chart with the crawler alone and short windows; `row` is added to its row.
async fn install(world: &mut World, trigger: &str, row: &str) -> Result<Stage> {
    world.install(&values(trigger, row)).await?;
    Ok(Stage::of_crawler(world))
}

impl Stage {
    fn of_crawler(world: &World) -> Self {
        let workers = world.workers("crawler");
        let timeline = Timeline::record(world, "crawler", workers.done.clone());
        Self { timeline, _workers: workers }
    }
}

fn values(trigger: &str, row: &str) -> String {
    // Jobs that take an hour are not late here.
    let rate = if row.contains("jobSeconds") { "" } else { "    jobSeconds: 0\n" };
    let grace =
        if row.contains("terminationGracePeriodSeconds: 2") { "" } else { "    terminationGracePeriodSeconds: 60\n" };
    let objective = if row.contains("objectiveAge") { "" } else { "    objectiveAge: 2h\n" };
    format!(
        "trigger: {trigger}\nworkers:\n  ocr: null\n  parser: null\n  labeler: null\n  crawler:\n    \
         scaleUp: {{stabilizationWindowSeconds: 4, periodSeconds: 2}}\n    \
         scaleDown: {{stabilizationWindowSeconds: 10, periodSeconds: 4}}\n    cooldownPeriod: 5\n    pollingInterval: 1\n    \
         initialCooldownPeriod: 1\n{rate}{grace}{objective}{row}"
    )
}

impl Stage {
    /// Waits until `condition` holds of the last sample.
    async fn until(&self, what: &str, seconds: u64, condition: impl Fn(&Sample) -> bool) -> Result<Sample> {
        crate::process::wait_for(what, seconds, async || {
            let last = self.timeline.last();
            ensure!(condition(&last), "{last:?}");
            Ok(last)
        })
        .await
    }

    /// Fails if `condition` does not hold of every sample of the next `seconds`.
    async fn throughout(&self, what: &str, seconds: u64, condition: impl Fn(&Sample) -> bool) -> Result<()> {
        let from = self.timeline.now();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let samples = self.timeline.samples();
        for sample in samples.iter().filter(|sample| sample.time >= from) {
            ensure!(condition(sample), "not {what}: {sample:?}");
        }
        Ok(())
    }

    fn none_killed(&self) -> Result<()> {
        let killed = self.timeline.last().killed;
        ensure!(killed == 0, "{killed} jobs were killed");
        Ok(())
    }
}

fn wanted(count: u64) -> impl Fn(&Sample) -> bool {
    move |sample| sample.replicas == Some(count)
}

fn at_least(count: u64) -> impl Fn(&Sample) -> bool {
    // A number that could not be read is no fall.
    move |sample| sample.replicas.is_none_or(|replicas| replicas >= count)
}

async fn burst(world: &mut World, trigger: &str) -> Result<Stage> {
    let stage = install(world, trigger, "    minReplicas: 1\n    maxReplicas: 6\n").await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    world.put("crawler", 400, 1_000).await?;
    stage.until("the maximum", 60, wanted(6)).await?;
    stage.until("all are done", 150, |sample| sample.done == 400).await?;
    stage.until("the minimum", 60, wanted(1)).await?;
    stage.none_killed()?;
    // Half a step at most: 6, 3, 1.
    let steps: Vec<u64> = stage.timeline.samples().iter().filter_map(|sample| sample.replicas).collect();
    for pair in steps.windows(2) {
        if let [before, after] = pair {
            ensure!(*after >= *before / 2, "from {before} to {after} workers at once");
        }
    }
    Ok(stage)
}

async fn band(world: &mut World, trigger: &str) -> Result<Stage> {
    // Jobs that no worker ends: what waits is what the test says.
    let stage = install(
        world,
        trigger,
        "    minReplicas: 2\n    maxReplicas: 10\n    scaleUpDepth: 20\n    scaleDownDepth: 5\n",
    )
    .await?;
    stage.until("two workers are ready", 60, |sample| sample.ready == 2).await?;
    world.put("crawler", 2 + 40, HOUR).await?;
    stage.until("two are taken", 20, |sample| sample.backlog == Some(40) && sample.in_flight == Some(2)).await?;
    stage.throughout("two workers at 20 each", 20, wanted(2)).await?;
    world.put("crawler", 1, HOUR).await?;
    stage.until("three workers at 41", 40, wanted(3)).await?;
    stage.until("the third takes one", 30, |sample| sample.in_flight == Some(3)).await?;
    let mut redis = world.connect().await?;
    // 40 wait for three; 15 are just enough for them.
    let _: () = redis.ltrim("crawler", 0, 14).await?;
    stage.throughout("three workers at 5 each", 25, wanted(3)).await?;
    // Under it a worker could go, but all three are busy: none does.
    let _: () = redis.ltrim("crawler", 0, 3).await?;
    stage.throughout("three busy workers", 25, wanted(3)).await?;
    let _: () = redis.del("crawler:processing").await?;
    stage.until("two, of which none is busy by what is known", 40, wanted(2)).await?;
    Ok(stage)
}

async fn long_jobs(world: &mut World, trigger: &str) -> Result<Stage> {
    // A grace period that a job does not fit into: what is taken away while it works is killed.
    let row = "    minReplicas: 1\n    maxReplicas: 8\n    scaleUpDepth: 2\n    scaleDownDepth: 1\n    terminationGracePeriodSeconds: 2\n";
    let stage = install(world, trigger, row).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    world.put("crawler", 8, 30_000).await?;
    stage.until("four workers or more", 60, |sample| sample.ready >= 4).await?;
    stage.until("all eight are taken or done", 120, |sample| sample.backlog == Some(0)).await?;
    stage.until("all are done", 120, |sample| sample.done == 8).await?;
    stage.none_killed()?;
    stage.until("the minimum", 90, wanted(1)).await?;
    Ok(stage)
}

async fn zero(world: &mut World, trigger: &str) -> Result<Stage> {
    let stage =
        install(world, trigger, "    minReplicas: 0\n    maxReplicas: 4\n    terminationGracePeriodSeconds: 2\n")
            .await?;
    stage.until("none", 60, |sample| sample.replicas == Some(0) && sample.ready == 0).await?;
    world.put("crawler", 1, 25_000).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    // The queue is empty at once; the cooldown of 5 s is over long before the job is.
    stage.until("the job is done", 60, |sample| sample.done == 1).await?;
    stage.none_killed()?;
    stage.until("none again", 60, wanted(0)).await?;
    Ok(stage)
}

async fn age(world: &mut World, trigger: &str) -> Result<Stage> {
    let row =
        "    minReplicas: 1\n    maxReplicas: 8\n    scaleUpDepth: 20\n    objectiveAge: 10s\n    jobSeconds: 20\n";
    let stage = install(world, trigger, row).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    world.put("crawler", 6, 20_000).await?;
    stage
        .until("more than one, though six wait", 60, |sample| sample.replicas.is_some_and(|replicas| replicas > 1))
        .await?;
    stage.until("all are done", 180, |sample| sample.done == 6).await?;
    // One worker would have taken two minutes; and never more workers than jobs.
    ensure!(stage.timeline.samples().iter().all(|sample| sample.replicas.is_none_or(|replicas| replicas <= 6)));
    stage.none_killed()?;
    Ok(stage)
}

async fn rate(world: &mut World, trigger: &str) -> Result<Stage> {
    let row =
        "    minReplicas: 1\n    maxReplicas: 8\n    scaleUpDepth: 200\n    scaleDownDepth: 50\n    jobSeconds: 2\n";
    let stage = install(world, trigger, row).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    // Two a second of two seconds each: four workers' work.
    for _ in 0..100 {
        world.put("crawler", 1, 2_000).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    stage.until("four workers", 60, |sample| sample.replicas.is_some_and(|replicas| replicas >= 3)).await?;
    ensure!(
        stage.timeline.samples().iter().all(|sample| sample.backlog.is_none_or(|backlog| backlog < 200)),
        "the backlog alone would have called them"
    );
    stage.until("all are done", 120, |sample| sample.done == 100).await?;
    stage.none_killed()?;
    Ok(stage)
}

async fn steady(world: &mut World, trigger: &str) -> Result<Stage> {
    let stage = install(world, trigger, "    minReplicas: 1\n    maxReplicas: 6\n").await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    // Enough for two, kept up until they are there.
    crate::process::wait_for("two workers", 60, async || {
        let last = stage.timeline.last();
        world.put("crawler", 24_u64.saturating_sub(last.backlog.unwrap_or(24)), 460).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        ensure!(last.ready >= 2, "{last:?}");
        Ok(())
    })
    .await?;
    world.put("crawler", 10, 460).await?;
    // Four a second keep 1.84 of them busy, so that the queue falls by a third of a job a second. For the first
    // quarter minute the burst above is in the rates, and may call for a third worker some seconds later; then nothing moves.
    let mut from = 0.0;
    // By the clock, however long each takes: at a few less a second two workers would do.
    let mut quarter = tokio::time::interval(Duration::from_millis(250));
    for job in 0..4 * 55 {
        quarter.tick().await;
        if job == 4 * 25 {
            from = stage.timeline.now();
        }
        world.put("crawler", 1, 460).await?;
    }
    let samples = stage.timeline.samples();
    let settled: Vec<u64> =
        samples.iter().filter(|sample| sample.time >= from).filter_map(|sample| sample.replicas).collect();
    let first = settled.first().copied().unwrap_or(0);
    ensure!((2..=3).contains(&first) && settled.len() > 40, "{first} workers in {} samples", settled.len());
    ensure!(settled.iter().all(|count| *count == first), "the number of workers moved: {settled:?}");
    stage.none_killed()?;
    Ok(stage)
}

async fn ramp(world: &mut World, trigger: &str) -> Result<Stage> {
    let row = "    minReplicas: 1\n    maxReplicas: 8\n    scaleUpDepth: 6\n    scaleDownDepth: 2\n";
    let stage = install(world, trigger, row).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    // From one job of a second each second to five: a backlog that grows until the workers keep up.
    let mut put = 0;
    for step in 0..240 {
        let due = step / 4 + step * step / 480;
        if due > put {
            world.put("crawler", due - put, 1_000).await?;
        }
        put = due;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    stage.until("all are done", 120, |sample| sample.done == put).await?;
    stage.until("the minimum", 90, wanted(1)).await?;
    stage.none_killed()?;
    // No worker is wanted and given up again on the way up.
    let samples = stage.timeline.samples();
    let wanted: Vec<u64> = samples.iter().filter_map(|sample| sample.replicas).collect();
    let most = wanted.iter().copied().max().unwrap_or(0);
    ensure!(most >= 3, "{most} workers were all that came");
    let up: Vec<u64> = wanted.iter().copied().take_while(|count| *count < most).collect();
    ensure!(up.is_sorted(), "workers came and went on the way up: {wanted:?}");
    Ok(stage)
}

async fn cpu(world: &mut World, trigger: &str) -> Result<Stage> {
    if world.metrics_server.is_none() {
        world.metrics_server = Some(usage::start(&world.plane).await?);
    }
    let row = "    minReplicas: 1\n    maxReplicas: 6\n    cpuUtilization: 70\n    \
               resources: {requests: {cpu: '1', memory: 1Gi}, limits: {cpu: '2', memory: 2Gi}}\n";
    let stage = install(world, trigger, row).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    let plane = &world.plane;
    let load = async |cores: u64, what: &str, wanted: u64| {
        crate::process::wait_for(what, 120, async || {
            usage::share(plane, "crawler", cores * 1_000).await?;
            let last = stage.timeline.last();
            ensure!(last.replicas == Some(wanted), "{last:?}");
            Ok(())
        })
        .await
    };
    // 2 / 0.7 workers, rounded up
    load(2, "three workers for two busy cores", 3).await?;
    if let Some(server) = &mut world.metrics_server {
        server.kill();
    }
    usage::share(&world.plane, "crawler", 60).await?;
    stage.throughout("three workers while the metrics server is away", 25, at_least(3)).await?;
    if let Some(server) = &mut world.metrics_server {
        server.restart()?;
    }
    stage.until("the minimum", 120, wanted(1)).await?;
    Ok(stage)
}

async fn redis_emptied(world: &mut World, trigger: &str) -> Result<Stage> {
    let stage = five_workers(world, trigger).await?;
    let mut redis = world.connect().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    stage.until("the minimum", 90, wanted(1)).await?;
    world.put("crawler", 60, HOUR).await?;
    stage.until("three workers", 60, wanted(3)).await?;
    Ok(stage)
}

async fn two_workers(world: &mut World, trigger: &str) -> Result<Stage> {
    let both = "    minReplicas: 1\n    maxReplicas: 6\n";
    let values = values(trigger, both);
    let second = values.split_once("  crawler:\n").context("the crawler's row")?.1.to_string();
    let values =
        values.replace("  labeler: null\n", "").replace("  crawler:\n", &format!("  labeler:\n{second}  crawler:\n"));
    world.install(&values).await?;
    let workers = world.workers("crawler");
    let others = world.workers("labeler");
    let timeline = Timeline::record(world, "crawler", workers.done.clone());
    let quiet = Timeline::record(world, "labeler", others.done.clone());
    let stage = Stage { timeline, _workers: workers };
    stage.until("one crawler is ready", 60, |sample| sample.ready == 1).await?;
    world.put("crawler", 300, 500).await?;
    world.put("labeler", 12, 500).await?;
    stage.until("the crawler's maximum", 60, wanted(6)).await?;
    stage.until("all are done", 120, |sample| sample.done == 300).await?;
    stage.until("the crawler's minimum", 60, wanted(1)).await?;
    let samples = quiet.samples();
    ensure!(samples.iter().all(|sample| sample.replicas.is_none_or(|replicas| replicas == 1)), "the labeler moved");
    ensure!(quiet.last().done == 12, "the labeler's jobs are not done");
    stage.none_killed()?;
    Ok(stage)
}

async fn rollout(world: &mut World, trigger: &str) -> Result<Stage> {
    let row = "    minReplicas: 1\n    maxReplicas: 6\n";
    let stage = install(world, trigger, row).await?;
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    world.put("crawler", 400, 1_000).await?;
    stage.until("four workers are ready", 60, |sample| sample.ready >= 4).await?;
    let before = stage.timeline.last().replicas.context("the number of workers")?;
    let next = format!("{row}    image: {{tag: 2.0.0}}\n");
    world.upgrade(&values(trigger, &next))?;
    stage.throughout("no fewer workers wanted", 15, at_least(before)).await?;
    stage.until("all are done", 150, |sample| sample.done == 400).await?;
    stage.until("the minimum", 60, wanted(1)).await?;
    stage.none_killed()?;
    ensure!(world.images("crawler").await?.iter().all(|image| image.ends_with(":2.0.0")), "the old version is there");
    Ok(stage)
}

async fn drain_node(world: &mut World, trigger: &str) -> Result<Stage> {
    let stage = install(world, trigger, "    minReplicas: 2\n    maxReplicas: 6\n").await?;
    stage.until("two workers are ready", 60, |sample| sample.ready == 2).await?;
    world.put("crawler", 30, 3_000).await?;
    let nodes = world.nodes_of("crawler").await?;
    for node in &nodes {
        world.cordon(node, true).await?;
        world.drain(node).await.with_context(|| format!("draining {node}"))?;
    }
    stage.until("two workers are ready elsewhere", 60, |sample| sample.ready >= 2).await?;
    ensure!(world.nodes_of("crawler").await?.iter().all(|node| !nodes.contains(node)), "a worker is on a drained node");
    for node in &nodes {
        world.cordon(node, false).await?;
    }
    stage.until("all are done", 120, |sample| sample.done == 30).await?;
    stage.none_killed()?;
    let least = stage.timeline.samples().iter().skip_while(|sample| sample.ready < 2).map(|sample| sample.ready).min();
    ensure!(least >= Some(1), "both workers went at once");
    Ok(stage)
}

async fn spot(world: &mut World, trigger: &str) -> Result<Stage> {
    let row = "    minReplicas: 2\n    maxReplicas: 8\n    spot: {enabled: true, terminationGracePeriodSeconds: 30}\n";
    let stage = install(world, trigger, row).await?;
    stage.until("the floor is ready", 60, |sample| sample.ready == 2).await?;
    world.put("crawler", 300, 2_000).await?;
    stage.until("all eight are ready", 90, |sample| sample.ready == 8).await?;
    let lost = world.lose_half_of("spot").await?;
    ensure!(lost > 0, "no worker was on a lost node");
    stage.until("fewer are ready", 20, |sample| sample.ready < 8).await?;
    stage.until("all eight are back", 60, |sample| sample.ready == 8).await?;
    // Jobs of lost nodes are lost work; a library would put them back, here the test does.
    world.put_back("crawler").await?;
    stage.until("all are done", 180, |sample| sample.done >= 300).await?;
    let floor = stage.timeline.samples();
    ensure!(floor.iter().skip_while(|sample| sample.ready < 2).all(|sample| sample.ready >= 2), "the floor was lost");
    stage.until("the floor alone", 90, |sample| sample.ready == 2).await?;
    Ok(stage)
}

/// The alerts that a fault must bring; those without one are over before one is due, or nothing is left to bring it.
fn alerts(fault: &str, trigger: &str) -> Vec<&'static str> {
    let own = match fault {
        "exporter-killed" | "exporter-hung" => "ExporterDown",
        "redis-killed" => "RedisUnreachable",
        "wrong-type" => "QueueUnreadable",
        "state-metrics-down" => "ScalerEmptyAnswers",
        _ => return Vec::new(),
    };
    // Prometheus still has the exporter's series where Redis is away; an external scaler that is away is not replaced, but held by
    // the HPA, for KEDA asks it for its targets first.
    if trigger == "metrics-api" { vec![own, "ScalerFallback"] } else { vec![own] }
}

/// Milliseconds: a job that no worker ends.
const HOUR: u64 = 3_600_000;

/// A standing backlog for five workers, and these.
async fn five_workers(world: &mut World, trigger: &str) -> Result<Stage> {
    let stage = install(world, trigger, UP_TO_TEN).await?;
    have_five(world, &stage).await?;
    Ok(stage)
}

const UP_TO_TEN: &str = "    minReplicas: 1\n    maxReplicas: 10\n    scaleUpDepth: 20\n    scaleDownDepth: 5\n";

async fn have_five(world: &World, stage: &Stage) -> Result<()> {
    stage.until("one worker is ready", 60, |sample| sample.ready == 1).await?;
    world.put("crawler", 100, HOUR).await?;
    stage.until("five workers", 60, |sample| sample.ready == 5 && sample.replicas == Some(5)).await?;
    Ok(())
}

async fn two_exporters(world: &mut World, trigger: &str) -> Result<Stage> {
    world.install_two(&values(trigger, UP_TO_TEN)).await?;
    let stage = Stage::of_crawler(world);
    have_five(world, &stage).await?;
    // KEDA may have asked either: one goes, then the other.
    world.exporter()?.kill();
    world.put("crawler", 60, HOUR).await?;
    stage.until("eight workers", 60, wanted(8)).await.context("with the second alone")?;
    world.exporter()?.restart()?;
    world.second_exporter()?.kill();
    stage.throughout("eight workers or more", 10, at_least(8)).await?;
    let mut redis = world.connect().await?;
    let _: () = redis.del(&["crawler", "crawler:processing"]).await?;
    stage.until("the minimum", 90, wanted(1)).await.context("with the first alone")?;
    Ok(stage)
}

/// A standing backlog for five workers, a fault until its alerts fire and for 25 s more, and recovery.
async fn fault(world: &mut World, name: &str, trigger: &str) -> Result<Stage> {
    if name == "redis-failed-over" {
        world.watch_redis().await?;
    }
    let stage = five_workers(world, trigger).await?;
    // The first minutes of a new HPA hold by themselves; what is tested is what holds after that.
    stage.throughout("five workers", 15, wanted(5)).await?;
    let mut redis = world.connect().await?;
    match name {
        "exporter-killed" => world.exporter()?.kill(),
        "exporter-hung" => world.exporter()?.signal("STOP")?,
        "redis-killed" | "redis-failed-over" => world.redis.kill(),
        "wrong-type" => {
            let _: () = redis.rename("crawler", "aside").await?;
            let _: () = redis.set("crawler", "no list").await?;
        }
        "prometheus-down" => world.prometheus.kill(),
        "state-metrics-down" => world.state_metrics.kill(),
        "keda-restarted" => {
            world.keda.operator.kill();
            world.keda.adapter.kill();
        }
        "api-paused" => world.plane.api.signal("STOP")?,
        _ => anyhow::bail!("no scenario is named {name}"),
    }
    for alert in alerts(name, trigger) {
        crate::process::wait_for(alert, 60, async || {
            ensure!(world.is_firing(alert).await?, "{alert} is not firing");
            Ok(())
        })
        .await?;
    }
    stage.throughout("five workers or more", 25, at_least(5)).await.context("during the fault")?;
    match name {
        "exporter-killed" => world.exporter()?.restart()?,
        "exporter-hung" => world.exporter()?.signal("CONT")?,
        "redis-killed" | "redis-failed-over" => world.redis.restart()?,
        "wrong-type" => {
            let _: () = redis.rename("aside", "crawler").await?;
        }
        "prometheus-down" => world.prometheus.restart()?,
        "state-metrics-down" => world.state_metrics.restart()?,
        "keda-restarted" => {
            world.keda.operator.restart()?;
            world.keda.adapter.restart()?;
        }
        _ => world.plane.api.signal("CONT")?,
    }
    stage.throughout("five workers or more", 10, at_least(5)).await.context("right after it")?;
    // It goes by the numbers again: up, and down.
    let known = stage.timeline.last();
    ensure!(
        known.backlog.zip(known.in_flight).is_some_and(|(waiting, taken)| waiting + taken == 100),
        "jobs were lost: {known:?}"
    );
    world.put("crawler", 60, HOUR).await?;
    stage.until("eight workers", 90, |sample| sample.replicas.is_some_and(|replicas| replicas >= 8)).await?;
    let mut redis = world.connect().await?;
    let _: () = redis.del(&["crawler", "crawler:processing"]).await?;
    stage.until("the minimum", 120, wanted(1)).await?;
    Ok(stage)
}
