//! KEDA: operator, metrics adapter and webhooks, registered as its manifests do it, but by address.

use crate::apply::apply;
use crate::plane::Plane;
use crate::process::{Process, free_port, wait_for};
use anyhow::{Context, Result, ensure};
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use std::path::Path;

/// The running parts.
pub struct Keda {
    pub operator: Process,
    pub adapter: Process,
    _webhooks: Process,
    /// Where the operator's metrics are.
    pub metrics_port: u16,
}

/// Starts KEDA with the resource definitions in `crds`, and waits until it answers for external metrics.
pub async fn start(plane: &Plane, crds: &Path) -> Result<Keda> {
    apply(&plane.client, "apiVersion: v1\nkind: Namespace\nmetadata: {name: keda}\n").await?;
    for entry in std::fs::read_dir(crds).with_context(|| crds.display().to_string())? {
        let text = std::fs::read_to_string(entry?.path())?;
        apply(&plane.client, text.trim_start_matches("---\n")).await?;
    }
    let kubeconfig = plane.kubeconfig.display().to_string();
    let environment = [
        ("KUBECONFIG", kubeconfig.as_str()),
        ("POD_NAMESPACE", "keda"),
        ("KEDA_CLUSTER_OBJECT_NAMESPACE", "keda"),
        ("WATCH_NAMESPACE", ""),
    ];
    // KEDA's own names for the files of its certificates
    let certificates = plane.pki.display().to_string();
    let (grpc, metrics_port, adapter_port, webhook_port) = (free_port()?, free_port()?, free_port()?, free_port()?);
    let arguments = [
        format!("--metrics-service-bind-address=127.0.0.1:{grpc}"),
        format!("--metrics-bind-address=127.0.0.1:{metrics_port}"),
        format!("--health-probe-bind-address=127.0.0.1:{}", free_port()?),
        format!("--cert-dir={certificates}"),
        "--zap-log-level=info".into(),
        "--zap-encoder=console".into(),
        "--zap-time-encoding=rfc3339".into(),
    ];
    let operator = Process::start(&plane.logs, "keda-operator", &plane.bin.join("operator"), &arguments, &environment)?;
    let arguments = [
        format!("--metrics-bind-address=127.0.0.1:{}", free_port()?),
        format!("--health-probe-bind-address=127.0.0.1:{}", free_port()?),
        format!("--port={webhook_port}"),
        format!("--cert-dir={certificates}"),
    ];
    let webhooks = Process::start(&plane.logs, "keda-webhooks", &plane.bin.join("webhooks"), &arguments, &environment)?;
    let arguments = [
        format!("--secure-port={adapter_port}"),
        format!("--port={}", free_port()?),
        format!("--metrics-service-address=localhost:{grpc}"),
        format!("--cert-dir={certificates}"),
        format!("--client-ca-file={}", plane.file("ca.crt")),
        format!("--tls-cert-file={}", plane.file("tls.crt")),
        format!("--tls-private-key-file={}", plane.file("tls.key")),
        format!("--lister-kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
    ];
    let adapter = Process::start(&plane.logs, "keda-adapter", &plane.bin.join("adapter"), &arguments, &environment)?;
    let bundle = base64(&std::fs::read(plane.file("ca.crt"))?);
    apply(&plane.client, &registrations(adapter_port, webhook_port, &bundle)).await?;
    let mut keda = Keda { operator, adapter, _webhooks: webhooks, metrics_port };
    let api: Api<APIService> = Api::all(plane.client.clone());
    wait_for("KEDA answers for external metrics", 90, async || {
        keda.operator.check()?;
        keda.adapter.check()?;
        let service = api.get_status("v1beta1.external.metrics.k8s.io").await?;
        let conditions = service.status.and_then(|status| status.conditions).unwrap_or_default();
        let available = conditions.iter().find(|one| one.type_ == "Available").context("no condition yet")?;
        ensure!(available.status == "True", "{:?}", available.message);
        Ok(())
    })
    .await?;
    Ok(keda)
}

/// An ExternalName Service is what the aggregator takes an address from.
fn registrations(adapter: u16, webhooks: u16, bundle: &str) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: keda-metrics-apiserver, namespace: keda}}\n\
         spec: {{type: ExternalName, externalName: localhost, ports: [{{port: {adapter}}}]}}\n\
         \n---\napiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: v1beta1.external.metrics.k8s.io}}\n\
         spec: {{service: {{name: keda-metrics-apiserver, namespace: keda, port: {adapter}}}, group: external.metrics.k8s.io, \
         version: v1beta1, groupPriorityMinimum: 100, versionPriority: 100, caBundle: {bundle}}}\n"
    );
    text += "\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingWebhookConfiguration\n\
             metadata: {name: keda-admission}\nwebhooks:\n";
    for kind in ["scaledobject", "scaledjob"] {
        text += &format!(
            "  - name: v{kind}.kb.io\n    admissionReviewVersions: [v1]\n    sideEffects: None\n    failurePolicy: Fail\n    \
             clientConfig: {{url: 'https://localhost:{webhooks}/validate-keda-sh-v1alpha1-{kind}', caBundle: {bundle}}}\n    \
             rules: [{{apiGroups: [keda.sh], apiVersions: [v1alpha1], operations: [CREATE, UPDATE], resources: [{kind}s]}}]\n"
        );
    }
    text
}

/// As a Secret and a webhook have it.
pub fn base64(bytes: &[u8]) -> String {
    use k8s_openapi::ByteString;
    serde_json::to_value(ByteString(bytes.to_vec()))
        .ok()
        .and_then(|value| value.as_str().map(String::from))
        .unwrap_or_default()
}
