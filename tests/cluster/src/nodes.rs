//! Nodes and pods by kwok: a pod that is scheduled is ready after a while, and one that is deleted stays until what works for it
//! has stopped, as a kubelet would have it.

use crate::apply::apply;
use crate::plane::Plane;
use crate::process::{Process, free_port, wait_for};
use crate::usage::METRICS;
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;
use std::fmt::Write;

/// How long a pod takes from its node to its first job, in milliseconds.
const START: u64 = 2_000;

/// No stage for deletion: the worker of a pod removes it when it has drained.
const STAGES: &str = r#"apiVersion: kwok.x-k8s.io/v1alpha1
kind: Stage
metadata: {name: pod-ready}
spec:
  resourceRef: {apiGroup: v1, kind: Pod}
  selector:
    matchExpressions:
      - {key: .metadata.deletionTimestamp, operator: DoesNotExist}
      - {key: .status.podIP, operator: DoesNotExist}
  delay: {durationMilliseconds: START}
  next:
    statusTemplate: |
      {{ $now := Now }}
      conditions:
      {{ range $type := list "Initialized" "Ready" "ContainersReady" }}
      - {lastTransitionTime: {{ $now | Quote }}, status: "True", type: {{ $type | Quote }}}
      {{ end }}
      containerStatuses:
      {{ range .spec.containers }}
      - {image: {{ .image | Quote }}, name: {{ .name | Quote }}, ready: true, restartCount: 0, state: {running: {startedAt: {{ $now | Quote }}}}}
      {{ end }}
      hostIP: {{ NodeIPWith .spec.nodeName | Quote }}
      podIP: {{ PodIPWith .spec.nodeName ( or .spec.hostNetwork false ) ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) | Quote }}
      phase: Running
      startTime: {{ $now | Quote }}
"#;

/// Three zones, a node on demand and one on spot in each.
fn nodes() -> String {
    let mut text = String::new();
    for zone in ["a", "b", "c"] {
        for capacity in ["on-demand", "spot"] {
            let _ = write!(
                text,
                "\n---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {capacity}-{zone}\n  \
                 annotations: {{metrics.k8s.io/resource-metrics-path: /metrics/nodes/{capacity}-{zone}/metrics/resource}}\n  labels: {{kubernetes.io/hostname: {capacity}-{zone}, \
                 topology.kubernetes.io/zone: {zone}, karpenter.sh/capacity-type: {capacity}, kubernetes.io/os: linux}}\n\
                 status:\n  allocatable: {{cpu: \"64\", memory: 256Gi, pods: \"200\", ephemeral-storage: 1Ti}}\n  \
                 capacity: {{cpu: \"64\", memory: 256Gi, pods: \"200\", ephemeral-storage: 1Ti}}\n"
            );
        }
    }
    text
}

/// Starts kwok and waits for its nodes to be ready.
pub async fn start(plane: &Plane) -> Result<Process> {
    let stages = plane.pki.join("stages.yaml");
    std::fs::write(&stages, STAGES.replace("START", &START.to_string()) + METRICS)?;
    let port = free_port()?;
    let arguments = [
        format!("--kubeconfig={}", plane.kubeconfig.display()),
        format!("--config={}", stages.display()),
        "--manage-all-nodes=true".into(),
        "--node-ip=127.0.0.1".into(),
        format!("--node-port={port}"),
        format!("--server-address=127.0.0.1:{port}"),
        "--node-lease-duration-seconds=40".into(),
        format!("--tls-cert-file={}", plane.file("server.crt")),
        format!("--tls-private-key-file={}", plane.file("server.key")),
    ];
    apply(&plane.client, &nodes()).await?;
    let kwok = Process::start(&plane.logs, "kwok", &plane.bin.join("kwok"), &arguments, &[])?;
    let api: Api<Node> = Api::all(plane.client.clone());
    wait_for("all nodes are ready", 30, async || {
        let nodes = api.list(&ListParams::default()).await?;
        let ready = nodes.iter().filter(|node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
        });
        ensure!(ready.count() == 6, "not all are");
        Ok(())
    })
    .await
    .context("kwok")?;
    Ok(kwok)
}
