//! How soon workers come, with the defaults of KEDA and Kubernetes (an HPA looks every 15 s, KEDA every 30 s), for each kind of trigger
//! beside KEDA's own `redis` trigger: many workers that are idle, jobs in each of their queues at a random moment, and a watch on
//! their Deployments.

use crate::apply::apply;
use crate::process::wait_for;
use crate::world::World;
use anyhow::{Result, ensure};
use futures_util::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What comes to a worker that is idle, until there are to be more.
pub struct Case {
    /// Its workers while it is idle, and at least.
    idle: i32,
    jobs: u64,
    /// The kinds that are compared, and the number of tries of each.
    pub kinds: [(&'static str, usize); 4],
}

/// A first job, and none to take it. KEDA itself decides, and the external scaler pushes.
pub const FIRST_JOB: Case =
    Case { idle: 0, jobs: 1, kinds: [("external-push", 100), ("redis", 40), ("prometheus", 40), ("metrics-api", 40)] };

/// Two workers, and jobs for more. The HPA decides.
pub const BURST: Case =
    Case { idle: 2, jobs: 100, kinds: [("external-push", 40), ("redis", 40), ("prometheus", 40), ("metrics-api", 40)] };

/// Seconds within which workers may double, as the chart has it.
const POLICY_PERIOD: i64 = 30;

/// The Deployments that are watched, and since when each is to have more workers.
type Seen = Arc<Mutex<HashMap<String, Option<Instant>>>>;

/// Seconds from the first job until more workers are wanted, of `tries` workers, in order.
pub async fn reaction(world: &mut World, case: &Case, kind: &str, tries: usize) -> Result<Vec<f64>> {
    // By names of their own: HPAs of the kind before may still be there, and would scale Deployments of the same name.
    let names: Vec<String> = (0..tries).map(|number| format!("{}-{number:03}", kind.replace('-', ""))).collect();
    if kind == "redis" {
        let all: Vec<String> = names.iter().map(|name| plain(name, case.idle, world.redis_port)).collect();
        apply(&world.plane.client, &all.join("\n---\n")).await?;
    } else {
        let rows: String = names.iter().map(|name| row(name, case.idle)).collect();
        let values =
            format!("trigger: {kind}\nworkers:\n  crawler: null\n  ocr: null\n  parser: null\n  labeler: null\n{rows}");
        world.install(&values).await?;
    }
    let api: Api<Deployment> = Api::namespaced(world.plane.client.clone(), "jobs");
    wait_for("all are idle", 240, async || {
        let all = api.list(&ListParams::default().labels("queue-exporter/worker")).await?;
        let idle = all.iter().filter(|one| wanted(one) == case.idle).count();
        ensure!(idle == tries && all.items.len() == tries, "{idle} of {} are", all.items.len());
        Ok(())
    })
    .await?;
    wait_for("KEDA has read all", 120, async || {
        let ready = world.series("kube_customresource_scaledobject_condition{condition=\"Ready\"} == 1").await?;
        ensure!(ready == tries, "{ready} are ready");
        Ok(())
    })
    .await?;
    let scalers: Api<HorizontalPodAutoscaler> = Api::namespaced(world.plane.client.clone(), "jobs");
    wait_for("all may scale up", 120, async || {
        // An HPA lets workers double within the period of its policy, and has just made two of one.
        let recent = Timestamp::now() - SignedDuration::from_secs(POLICY_PERIOD);
        let all = scalers.list(&ListParams::default()).await?;
        let busy = all.iter().filter(|one| scaled_at(one).is_some_and(|last| last > recent)).count();
        ensure!(busy == 0, "{busy} have just scaled");
        Ok(())
    })
    .await?;
    let seen = Seen::default();
    let watching = tokio::spawn(watch(world.plane.client.clone(), case.idle, seen.clone()));
    wait_for("all are watched", 30, async || {
        let count = seen.lock().map(|seen| seen.len()).unwrap_or(0);
        ensure!(count == tries, "{count} are");
        Ok(())
    })
    .await?;
    let puts = names.iter().map(async |name| {
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..tries as u64 * 1_000))).await;
        let began = Instant::now();
        world.put(name, case.jobs, 1_000).await?;
        anyhow::Ok((name.clone(), began))
    });
    let began = futures_util::future::try_join_all(puts).await?;
    wait_for("all are to have more", 120, async || {
        let count = seen.lock().map(|seen| seen.values().flatten().count()).unwrap_or(0);
        ensure!(count == tries, "{count} have");
        Ok(())
    })
    .await?;
    watching.abort();
    let seen = seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    let mut seconds: Vec<f64> = began
        .iter()
        .filter_map(|(name, began)| {
            let wanted = (*seen.get(&format!("{name}-worker"))?)?;
            Some(wanted.saturating_duration_since(*began).as_secs_f64())
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    if kind == "redis" {
        remove_plain(&world.plane.client).await?;
    }
    world.uninstall().await?;
    Ok(seconds)
}

/// The value that so large a share of the tries does not exceed.
pub fn at(seconds: &[f64], share: f64) -> f64 {
    let place = (seconds.len() as f64 * share).ceil() as usize;
    seconds.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.replicas.unwrap_or(1)
}

fn scaled_at(scaler: &HorizontalPodAutoscaler) -> Option<Timestamp> {
    Some(scaler.status.as_ref()?.last_scale_time.as_ref()?.0)
}

/// Notes when each Deployment was first to have more than `idle` workers.
async fn watch(client: Client, idle: i32, seen: Seen) {
    let api: Api<Deployment> = Api::namespaced(client, "jobs");
    let mut changes = watcher(api, watcher::Config::default()).applied_objects().boxed();
    while let Some(change) = changes.next().await {
        let Ok(deployment) = change else { continue };
        if deployment.labels().contains_key("queue-exporter/worker")
            && let Ok(mut seen) = seen.lock()
        {
            let since = seen.entry(deployment.name_any()).or_default();
            if wanted(&deployment) > idle {
                since.get_or_insert_with(Instant::now);
            }
        }
    }
}

/// With the windows of the chart's crawler.
fn row(name: &str, idle: i32) -> String {
    format!(
        "  {name}:\n    queue: list:{name}?in_flight={name}:processing\n    image: {{repository: worker, tag: 1.0.0}}\n    \
         minReplicas: {idle}\n    maxReplicas: 4\n    scaleUpDepth: 20\n    scaleDownDepth: 5\n    objectiveAge: 5m\n    \
         pollingInterval: 30\n    initialCooldownPeriod: 1\n    \
         scaleUp: {{stabilizationWindowSeconds: 0, percent: 100, periodSeconds: {POLICY_PERIOD}}}\n"
    )
}

fn plain(name: &str, idle: i32, port: u16) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}-worker, namespace: jobs, labels: {{queue-exporter/worker: {name}}}}}\nspec:\n  \
         replicas: {idle}\n  selector: {{matchLabels: {{queue-exporter/worker: {name}}}}}\n  \
         template:\n    metadata: {{labels: {{queue-exporter/worker: {name}}}}}\n    spec:\n      \
         securityContext: {{runAsNonRoot: true, seccompProfile: {{type: RuntimeDefault}}}}\n      \
         containers: [{{name: worker, image: 'worker:1', securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}}}]\n\
         \n---\napiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: {name}-worker, namespace: jobs}}\nspec:\n  scaleTargetRef: {{name: {name}-worker}}\n  \
         minReplicaCount: {idle}\n  maxReplicaCount: 4\n  \
         triggers: [{{type: redis, metadata: {{address: '127.0.0.1:{port}', listName: {name}, listLength: '20'}}}}]\n"
    );
    text
}

async fn remove_plain(client: &Client) -> Result<()> {
    let kind = kube::core::GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject");
    let (resource, _) = kube::discovery::pinned_kind(client, &kind).await?;
    let scaled: Api<DynamicObject> = Api::namespaced_with(client.clone(), "jobs", &resource);
    scaled.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "jobs");
    deployments.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    Ok(())
}
