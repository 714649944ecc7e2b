//! What the documents say to type, typed: with kubectl and helm, against the real API server and KEDA's webhooks.

use super::{Stage, at_least, wanted};
use crate::world::World;
use anyhow::{Context, Result, ensure};

/// No registry is here to take an image, no Pod here runs one.
const NOT_HERE: [&str; 2] = ["make image", "kubectl -n jobs exec"];

/// What was typed, undone; helm takes over nothing that kubectl made.
const TAKE_AWAY: &str = "kubectl delete --ignore-not-found -f keda/rendered
kubectl delete --ignore-not-found -k keda/overlay
helm uninstall --ignore-not-found --namespace newcomer queue-exporter";

/// The commands of `docs/kubernetes.md`, then a burst on the rendered manifests.
pub async fn documented(world: &mut World) -> Result<Stage> {
    let outcome = typed(world).await;
    if let Ok(stage) = &outcome {
        stage.timeline.end();
    }
    world.shell(TAKE_AWAY).await.context("cleaning up")?;
    outcome
}

async fn typed(world: &mut World) -> Result<Stage> {
    let text = world.project_file("docs/kubernetes.md")?;
    five_minutes(world, &block(&text, "helm upgrade --install")?).await.context("five minutes")?;
    without_helm(world, &block(&text, "kubectl apply -f keda/rendered")?).await.context("without Helm")?;
    world.shell(TAKE_AWAY).await?;
    burst(world).await.context("a burst on the rendered manifests")
}

/// The first block of commands with this one in it, without those that can't run here.
fn block(text: &str, with: &str) -> Result<String> {
    let mut blocks = text.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let block = blocks.find(|block| block.contains(with)).with_context(|| format!("no block has {with}"))?;
    let here = block.lines().filter(|line| !NOT_HERE.iter().any(|other| line.starts_with(other)));
    Ok(here.collect::<Vec<_>>().join("\n"))
}

/// In a namespace of its own, for that of the document is there already.
async fn five_minutes(world: &World, commands: &str) -> Result<()> {
    let shown = world.shell(&commands.replace("jobs", "newcomer")).await?;
    for worker in ["crawler-worker", "mail-worker"] {
        ensure!(shown.contains(&format!("scaledobject.keda.sh/{worker}")), "{worker} is not in: {shown}");
    }
    all_available(world, "newcomer").await
}

async fn without_helm(world: &World, commands: &str) -> Result<()> {
    world.shell("kubectl create namespace jobs-staging").await?;
    world.shell(commands).await?;
    all_available(world, "jobs").await?;
    all_available(world, "jobs-staging").await?;
    let addresses = "kubectl get scaledobject crawler-worker --namespace jobs-staging \
                     --output jsonpath='{.spec.triggers[*].metadata.scalerAddress}'";
    let addresses = world.shell(addresses).await?;
    let moved = "queue-exporter.jobs-staging.svc:9798";
    ensure!(addresses.split(' ').all(|address| address == moved), "the overlay left an address: {addresses}");
    // By what the server would make of it: kubectl says "configured" of any list that the server fills in.
    world.shell("kubectl diff -f keda/rendered").await.context("a second apply changes something")?;
    Ok(())
}

async fn all_available(world: &World, namespace: &str) -> Result<()> {
    let wait = "kubectl wait deployment --all --for condition=Available --timeout 90s --namespace";
    world.shell(&format!("{wait} {namespace}")).await?;
    Ok(())
}

/// With the rendered thresholds and windows; only the exporter's address is another, for no name server is here.
async fn burst(world: &mut World) -> Result<Stage> {
    let apply = format!(
        "mkdir -p here && cp keda/rendered/*.yaml here/\n\
         sed -i 's/queue-exporter.jobs.svc:9798/{}/' here/scaledobjects.yaml\n\
         kubectl apply -f here",
        world.scaler_address()
    );
    world.shell(&apply).await?;
    world.start_installed().await?;
    let stage = Stage::of_crawler(world);
    stage.until("two workers are ready", 60, |sample| sample.ready == 2).await?;
    world.put("crawler", 500, 1_000).await?;
    stage.until("seven workers or more", 120, |sample| sample.ready >= 7).await?;
    let before = stage.timeline.last().replicas.context("the number of workers")?;
    world.shell(&apply).await?;
    stage.throughout("as many workers after another apply", 5, at_least(before)).await?;
    stage.until("all are done", 120, |sample| sample.done == 500).await?;
    stage.until("the minimum", 120, wanted(2)).await?;
    stage.none_killed()?;
    Ok(stage)
}
