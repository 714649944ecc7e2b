//! The dashboards with live data: four workers under load for some minutes, then every query of every panel asked of Prometheus over that time,
//! into one JSON file that `tests/pictures` draws.

use crate::process::wait_for;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the load lasts, in seconds.
const LENGTH: u64 = 480;
/// From point to point, in seconds.
const STEP: u64 = 4;

/// A day of four workers in eight minutes: all windows of the chart are shortened as much.
fn values() -> String {
    let row = |name: &str, rest: &str| {
        format!(
            "  {name}:\n    scaleUp: {{stabilizationWindowSeconds: 4, periodSeconds: 4}}\n    \
             scaleDown: {{stabilizationWindowSeconds: 20, periodSeconds: 8}}\n{rest}"
        )
    };
    let rows = [
        row("crawler", "    jobSeconds: 0.5\n    objectiveAge: 20s\n"),
        row(
            "ocr",
            "    jobSeconds: 8\n    objectiveAge: 60s\n    scaleUpDepth: 6\n    scaleDownDepth: 2\n    cpuUtilization: 0\n    memoryUtilization: 0\n    minReplicas: 1\n",
        ),
        row(
            "parser",
            "    jobSeconds: 1\n    objectiveAge: 15s\n    scaleUpDepth: 10\n    scaleDownDepth: 3\n    spot: {enabled: true}\n",
        ),
        row("labeler", "    jobSeconds: 2\n    objectiveAge: 30s\n"),
    ];
    format!("trigger: prometheus\nworkers:\n{}", rows.concat())
}

/// Two queues of libraries that nobody scales: Sidekiq tells of its processes; asynq of delayed, retried, failed and dead jobs, and
/// of a pause. Their keys are written here, as the libraries write them.
const OTHERS: &str = ", queues: [{queue: 'sidekiq:mailers'}, {queue: 'asynq:thumbs'}]";

/// What the libraries would have written by this second of the load.
async fn others(world: &World, second: u64) -> Result<()> {
    let mut redis = world.connect().await?;
    let mut pipe = redis::pipe();
    for process in 0..if (160..320).contains(&second) { 1 } else { 3 } {
        let name = format!("host:{process}:a");
        let info = format!("{{\"queues\":[\"mailers\"],\"concurrency\":5,\"identity\":\"{name}\"}}");
        pipe.cmd("SADD").arg("processes").arg(&name);
        pipe.cmd("HSET").arg(&name).arg(&["info", &info, "busy", "0", "quiet", "false"]).arg("beat").arg(now()?);
    }
    if second == 160 {
        pipe.cmd("SREM").arg(&["processes", "host:1:a", "host:2:a"]);
        pipe.cmd("DEL").arg(&["host:1:a", "host:2:a"]);
    }
    let of = |name: &str| format!("asynq:{{thumbs}}:{name}");
    let later = |seconds: u64| Ok::<_, anyhow::Error>(now()? + seconds);
    if second.is_multiple_of(4) {
        pipe.cmd("ZADD").arg(of("scheduled")).arg(later(60)?).arg(format!("s{second}"));
        pipe.cmd("ZADD").arg(of("retry")).arg(later(20)?).arg(format!("r{second}"));
        pipe.cmd("INCR").arg(of("processed"));
        pipe.cmd("INCR").arg(of("failed"));
    }
    if second.is_multiple_of(40) {
        pipe.cmd("ZADD").arg(of("archived")).arg(now()?).arg(format!("a{second}"));
    }
    // what is due has been promoted, and done
    for name in ["scheduled", "retry"] {
        pipe.cmd("ZREMRANGEBYSCORE").arg(of(name)).arg("-inf").arg(now()?);
    }
    match second {
        350 => pipe.cmd("SET").arg(of("paused")).arg(now()?).ignore(),
        430 => pipe.cmd("DEL").arg(of("paused")).ignore(),
        _ => &mut pipe,
    };
    Ok(pipe.exec_async(&mut redis).await?)
}

/// Runs the load and gives what each panel shows.
pub async fn pictures(world: &mut World) -> Result<Value> {
    world.set_budget(400)?;
    world.install_with(&values(), OTHERS).await?;
    let workers: Vec<_> = ["crawler", "ocr", "parser", "labeler"].iter().map(|name| world.workers(name)).collect();
    wait_for("each has a worker", 60, async || {
        let ready = workers.iter().filter(|one| one.done.ready.load(Ordering::Relaxed) > 0).count();
        ensure!(ready == workers.len(), "{ready} have");
        Ok(())
    })
    .await?;
    let start = now()?;
    for second in 0..LENGTH {
        let wave = 1.0 - (second as f64 / 90.0).cos();
        world.put("parser", (2.0 + 3.0 * wave) as u64, 1_000).await?;
        if second % 3 == 0 {
            world.put("ocr", 1 + u64::from(second > 200 && second < 260), 8_000).await?;
        }
        if second == 60 || second == 300 {
            world.put("crawler", 600, 500).await?;
        }
        if second % 10 == 0 {
            world.put("labeler", 3, 2_000).await?;
        }
        others(world, second).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let end = now()?;
    let mut shown = Vec::new();
    for name in ["queues", "scaling", "cost", "exporter"] {
        let file = Path::new("dashboards").join(format!("{name}.json"));
        let mut dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        for panel in dashboard["panels"].as_array_mut().context("no panels")? {
            for target in panel["targets"].as_array_mut().context("no targets")? {
                let mut query = target["expr"].as_str().context("no query")?.replace("$__rate_interval", "20s");
                for variable in ["$namespace", "$queue", "$worker"] {
                    query = query.replace(variable, ".*");
                }
                target["result"] = world.query_range(&query, start, end, STEP).await?;
            }
        }
        shown.push(json!({"name": name, "dashboard": dashboard, "start": start, "end": end}));
    }
    drop(workers);
    world.uninstall().await?;
    Ok(Value::Array(shown))
}

fn now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}
