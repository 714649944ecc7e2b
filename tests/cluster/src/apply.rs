//! `kubectl apply`, by server-side apply.

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use serde_json::Value;

/// Applies each document of a YAML text; each kind must be known by then.
pub async fn apply(client: &Client, text: &str) -> Result<()> {
    for document in text.split("\n---") {
        let value: Option<Value> = serde_saphyr::from_str(document)?;
        if let Some(value) = value.filter(Value::is_object) {
            apply_one(client, value).await?;
        }
    }
    Ok(())
}

async fn apply_one(client: &Client, value: Value) -> Result<()> {
    let object: DynamicObject = serde_json::from_value(value)?;
    let types = object.types.clone().context("no kind")?;
    let name = object.metadata.name.clone().context("no name")?;
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = pinned_kind(client, &kind).await.with_context(|| format!("{kind:?}"))?;
    let api: Api<DynamicObject> = match (&capabilities.scope, &object.metadata.namespace) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, namespace) => {
            Api::namespaced_with(client.clone(), namespace.as_deref().unwrap_or("default"), &resource)
        }
    };
    let parameters = PatchParams::apply("cluster-test").force();
    api.patch(&name, &parameters, &Patch::Apply(&object)).await.with_context(|| format!("{} {name}", types.kind))?;
    Ok(())
}
