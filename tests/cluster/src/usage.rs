//! What pods use of CPU and memory, as a kubelet would tell it: by their annotations `kwok.x-k8s.io/usage-cpu` and `usage-memory`, through
//! kwok, to a real metrics server, and so to the HPA's triggers on resources.

use crate::apply::apply;
use crate::plane::Plane;
use crate::process::{Process, free_port, wait_for};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

/// What a node tells of its pods, for kwok; the names are the kubelet's.
pub const METRICS: &str = r#"
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: ClusterResourceUsage
metadata: {name: by-annotation}
spec:
  usages:
    - usage:
        cpu: {expression: '"kwok.x-k8s.io/usage-cpu" in pod.metadata.annotations ? Quantity(pod.metadata.annotations["kwok.x-k8s.io/usage-cpu"]) : Quantity("1m")'}
        memory: {expression: 'Quantity("64Mi")'}
---
apiVersion: kwok.x-k8s.io/v1alpha1
kind: Metric
metadata: {name: resource}
spec:
  path: /metrics/nodes/{nodeName}/metrics/resource
  metrics:
    - {name: scrape_error, dimension: node, kind: gauge, value: '0', help: errors}
    - {name: node_cpu_usage_seconds_total, dimension: node, kind: counter, value: 'node.CumulativeUsage("cpu")', help: CPU}
    - {name: node_memory_working_set_bytes, dimension: node, kind: gauge, value: 'node.Usage("memory")', help: memory}
    - name: container_start_time_seconds
      dimension: container
      kind: gauge
      help: start
      value: pod.SinceSecond()
      labels: &labels
        - {name: container, value: container.name}
        - {name: namespace, value: pod.metadata.namespace}
        - {name: pod, value: pod.metadata.name}
    - {name: container_cpu_usage_seconds_total, dimension: container, kind: counter, help: CPU, value: 'pod.CumulativeUsage("cpu", container.name)', labels: *labels}
    - {name: container_memory_working_set_bytes, dimension: container, kind: gauge, help: memory, value: 'pod.Usage("memory", container.name)', labels: *labels}
"#;

/// Starts a metrics server and waits until it answers for the pods' resources.
pub async fn start(plane: &Plane) -> Result<Process> {
    let kubeconfig = plane.kubeconfig.display().to_string();
    let port = free_port()?;
    let arguments = [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--secure-port={port}"),
        "--bind-address=127.0.0.1".into(),
        format!("--tls-cert-file={}", plane.file("tls.crt")),
        format!("--tls-private-key-file={}", plane.file("tls.key")),
        "--kubelet-use-node-status-port".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--kubelet-insecure-tls".into(),
        // the shortest that it takes
        "--metric-resolution=10s".into(),
        "--kubelet-request-timeout=5s".into(),
    ];
    let mut server = Process::start(&plane.logs, "metrics-server", &plane.bin.join("metrics-server"), &arguments, &[])?;
    let registration = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: metrics-server, namespace: kube-system}}\n\
         spec: {{type: ExternalName, externalName: localhost, ports: [{{port: {port}}}]}}\n\
         \n---\napiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: v1beta1.metrics.k8s.io}}\n\
         spec: {{service: {{name: metrics-server, namespace: kube-system, port: {port}}}, group: metrics.k8s.io, version: v1beta1, \
         groupPriorityMinimum: 100, versionPriority: 100, insecureSkipTLSVerify: true}}\n"
    );
    apply(&plane.client, &registration).await?;
    let api: Api<APIService> = Api::all(plane.client.clone());
    wait_for("the metrics server answers", 60, async || {
        server.check()?;
        let status = api.get_status("v1beta1.metrics.k8s.io").await?.status;
        let conditions = status.and_then(|status| status.conditions).unwrap_or_default();
        let available = conditions.iter().find(|one| one.type_ == "Available").context("no condition yet")?;
        ensure!(available.status == "True", "{:?}", available.message);
        Ok(())
    })
    .await?;
    Ok(server)
}

/// Shares so many millicores among a worker's pods.
pub async fn share(plane: &Plane, worker: &str, millicores: u64) -> Result<()> {
    let api: Api<Pod> = Api::namespaced(plane.client.clone(), "jobs");
    let pods = api.list(&ListParams::default().labels(&format!("queue-exporter/worker={worker}"))).await?.items;
    let each = millicores / u64::try_from(pods.len())?.max(1);
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"kwok.x-k8s.io/usage-cpu": format!("{each}m")}}}));
    for pod in &pods {
        // one that has just gone uses nothing
        let _ = api.patch(pod.metadata.name.as_deref().unwrap_or_default(), &PatchParams::default(), &patch).await;
    }
    Ok(())
}
