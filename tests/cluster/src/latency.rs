//! From the first job of a burst to the raised number of workers, with the real defaults: HPA sync 15 s, scrape 5 s, the chart's
//! windows; per kind of trigger, beside KEDA's own `redis` trigger on the list with the same behavior. And the jobs that each
//! kills when four long ones outlast the queue.

use crate::apply::apply;
use crate::process::wait_for;
use crate::timeline::Timeline;
use crate::world::World;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// The kinds that are compared.
pub const KINDS: [&str; 4] = ["prometheus", "metrics-api", "external-push", "redis"];

/// A burst on an idle worker: seconds until more workers are wanted.
pub async fn reaction(world: &mut World, kind: &str) -> Result<f64> {
    install(world, kind, 60, 300, 60).await?;
    let workers = world.workers("crawler");
    let timeline = Timeline::record(world, "crawler", workers.done.clone());
    ready(&timeline, 2).await?;
    // The window of scaling up is full of what is now.
    tokio::time::sleep(Duration::from_secs(75)).await;
    let began = Instant::now();
    world.put("crawler", 200, 2_000).await?;
    wait_for("more workers", 240, async || {
        let last = timeline.last();
        ensure!(last.replicas.is_some_and(|replicas| replicas > 2), "{last:?}");
        Ok(())
    })
    .await?;
    let seconds = began.elapsed().as_secs_f64();
    drop((timeline, workers));
    remove(world, kind).await?;
    Ok(seconds)
}

/// Four long jobs that outlast the queue, on as many workers, and a grace period that they do not fit into: how many workers there were, and
/// how many jobs were killed.
pub async fn killed(world: &mut World, kind: &str) -> Result<(u64, u64)> {
    install(world, kind, 0, 15, 2).await?;
    let workers = world.workers("crawler");
    let timeline = Timeline::record(world, "crawler", workers.done.clone());
    ready(&timeline, 2).await?;
    // 20 for each worker make four.
    world.put("crawler", 76, 1_000).await?;
    world.put("crawler", 4, 90_000).await?;
    wait_for("only the long jobs are left", 120, async || {
        let last = timeline.last();
        ensure!(last.done >= 76, "{last:?}");
        Ok(())
    })
    .await?;
    let there = timeline.last().ready;
    wait_for("all are done or killed", 300, async || {
        let last = timeline.last();
        ensure!(last.done + last.killed >= 80, "{last:?}");
        Ok(())
    })
    .await?;
    let killed = timeline.last().killed;
    drop((timeline, workers));
    remove(world, kind).await?;
    Ok((there, killed))
}

async fn ready(timeline: &Timeline, count: u64) -> Result<()> {
    wait_for("the workers are ready", 60, async || {
        let last = timeline.last();
        ensure!(last.ready == count, "{last:?}");
        Ok(())
    })
    .await
}

async fn install(world: &mut World, kind: &str, up: u64, down: u64, grace: u64) -> Result<()> {
    if kind == "redis" {
        return apply(&world.plane.client, &plain(world.redis_port, up, down, grace)).await;
    }
    let values = format!(
        "trigger: {kind}\nworkers:\n  ocr: null\n  parser: null\n  labeler: null\n  crawler:\n    \
         scaleUp: {{stabilizationWindowSeconds: {up}}}\n    scaleDown: {{stabilizationWindowSeconds: {down}}}\n    \
         terminationGracePeriodSeconds: {grace}\n"
    );
    world.install(&values).await
}

async fn remove(world: &mut World, kind: &str) -> Result<()> {
    if kind == "redis" {
        world.delete_plain().await?;
    }
    world.uninstall().await
}

/// What most would write: the list's length against the same depth, with the same behavior.
fn plain(port: u16, up: u64, down: u64, grace: u64) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: crawler-worker, namespace: jobs}}\nspec:\n  selector: {{matchLabels: {{queue-exporter/worker: crawler}}}}\n  \
         template:\n    metadata: {{labels: {{queue-exporter/worker: crawler}}}}\n    spec:\n      terminationGracePeriodSeconds: {grace}\n      \
         securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}\n      \
         containers: [{{name: worker, image: 'crawler:1', securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]\n\
         \n---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: crawler-worker, namespace: jobs}}\nspec:\n  scaleTargetRef: {{name: crawler-worker}}\n  \
         minReplicaCount: 2\n  maxReplicaCount: 10\n  advanced:\n    horizontalPodAutoscalerConfig:\n      behavior:\n        \
         scaleUp: {{stabilizationWindowSeconds: {up}, policies: [{{type: Percent, value: 100, periodSeconds: 30}}]}}\n        \
         scaleDown: {{stabilizationWindowSeconds: {down}, policies: [{{type: Percent, value: 50, periodSeconds: 60}}]}}\n  \
         triggers: [{{type: redis, metadata: {{address: '127.0.0.1:{port}', listName: crawler, listLength: '20'}}}}]\n"
    )
}
