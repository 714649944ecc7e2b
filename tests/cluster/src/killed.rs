//! The jobs that each kind of trigger kills when four long ones outlast the queue, with the real periods: HPA sync 15 s, scrape 5 s;
//! beside KEDA's own `redis` trigger on the list with the same behavior.

use crate::apply::apply;
use crate::process::wait_for;
use crate::timeline::Timeline;
use crate::world::World;
use anyhow::{Result, ensure};
use redis::AsyncCommands;

/// The kinds that are compared.
pub const KINDS: [&str; 4] = ["prometheus", "metrics-api", "external-push", "redis"];

/// Workers at most, and long jobs.
const MOST: u64 = 4;

/// A backlog that brings four workers and is withdrawn, then a long job for each, which the grace period is too short for: how many
/// workers had one, and how many jobs were killed.
pub async fn killed(world: &mut World, kind: &str) -> Result<(u64, u64)> {
    install(world, kind).await?;
    let workers = world.workers("crawler");
    let timeline = Timeline::record(world, "crawler", workers.done.clone());
    ready(&timeline, 2).await?;
    world.put("crawler", 1_000, 1_000).await?;
    ready(&timeline, MOST).await?;
    let _: u64 = world.connect().await?.del("crawler").await?;
    in_flight(&timeline, 0).await?;
    let before = timeline.last().done;
    world.put("crawler", MOST, 120_000).await?;
    in_flight(&timeline, MOST).await?;
    let there = timeline.last().ready;
    wait_for("all are done or killed", 300, async || {
        let last = timeline.last();
        ensure!(last.done + last.killed >= before + MOST, "{last:?}");
        Ok(())
    })
    .await?;
    let killed = timeline.last().killed;
    drop((timeline, workers));
    remove(world, kind).await?;
    Ok((there, killed))
}

async fn in_flight(timeline: &Timeline, count: u64) -> Result<()> {
    wait_for("jobs are in flight, and none waits", 30, async || {
        let last = timeline.last();
        ensure!(last.backlog == Some(0) && last.in_flight == Some(count), "{last:?}");
        Ok(())
    })
    .await
}

async fn ready(timeline: &Timeline, count: u64) -> Result<()> {
    wait_for("the workers are ready", 60, async || {
        let last = timeline.last();
        ensure!(last.ready == count, "{last:?}");
        Ok(())
    })
    .await
}

async fn install(world: &mut World, kind: &str) -> Result<()> {
    if kind == "redis" {
        return apply(&world.plane.client, &plain(world.redis_port)).await;
    }
    let values = format!(
        "trigger: {kind}\nworkers:\n  ocr: null\n  parser: null\n  labeler: null\n  crawler:\n    \
         maxReplicas: {MOST}\n    scaleUpDepth: 20\n    scaleDownDepth: 10\n    \
         scaleUp: {{stabilizationWindowSeconds: 0, percent: 100, periodSeconds: 30}}\n    \
         scaleDown: {{stabilizationWindowSeconds: 15, percent: 50, periodSeconds: 60}}\n    \
         terminationGracePeriodSeconds: 2\n"
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
fn plain(port: u16) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: crawler-worker, namespace: jobs}}\nspec:\n  selector: {{matchLabels: {{queue-exporter/worker: crawler}}}}\n  \
         template:\n    metadata: {{labels: {{queue-exporter/worker: crawler}}}}\n    spec:\n      terminationGracePeriodSeconds: 2\n      \
         securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}\n      \
         containers: [{{name: worker, image: 'crawler:1', securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]\n\
         \n---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: crawler-worker, namespace: jobs}}\nspec:\n  scaleTargetRef: {{name: crawler-worker}}\n  \
         minReplicaCount: 2\n  maxReplicaCount: {MOST}\n  advanced:\n    horizontalPodAutoscalerConfig:\n      behavior:\n        \
         scaleUp: {{stabilizationWindowSeconds: 0, policies: [{{type: Percent, value: 100, periodSeconds: 30}}]}}\n        \
         scaleDown: {{stabilizationWindowSeconds: 15, policies: [{{type: Percent, value: 50, periodSeconds: 60}}]}}\n  \
         triggers: [{{type: redis, metadata: {{address: '127.0.0.1:{port}', listName: crawler, listLength: '20'}}}}]\n"
    )
}
