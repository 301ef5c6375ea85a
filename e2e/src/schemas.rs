//! Reading the schemas of Kubernetes' own kinds from a real API server: what `driftless validate` checks against.
//!
//! `cargo run -p driftless-e2e --bin record-schemas` writes the file that [`file()`] names, of the Kubernetes that
//! `DRIFTLESS_KUBERNETES` chooses; a test records again and compares.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use driftless_render::validate::openapi::{self, Served};
use kube::Client;
use serde_json::Value;

use crate::controlplane::{ControlPlane, Options};
use crate::tools::{self, Kubernetes, Tool, Tools};

/// The recording of a version, from the top of the workspace.
pub fn file(kubernetes: Kubernetes) -> String {
    format!("hub/render/src/validate/kubernetes-{}.txt", kubernetes.name())
}

/// Starts API servers of the chosen version, one as it is and one with everything switched on, and records what they say
/// of themselves.
///
/// # Errors
/// The programs are missing, or a server answers otherwise than Kubernetes does.
pub async fn record() -> Result<String> {
    let tools = Arc::new(Tools::prepare_async(&Tool::CONTROL_PLANE, tools::print_progress).await?);
    let options = |name: &str, args: &[&str]| Options {
        tools: Some(tools.clone()),
        controllers: false,
        api_server_args: args.iter().map(|a| (*a).to_owned()).collect(),
        ..Options::new(name)
    };
    let usual = ControlPlane::start(options("as-it-is", &[])).await?;
    let on: Vec<Served> = kinds(&usual.client()).await?;
    usual.stop().await?;
    let whole = ControlPlane::start(options("all-on", &["--runtime-config=api/all=true"])).await?;
    let client = whole.client();
    let mut all = kinds(&client).await?;
    for kind in &mut all {
        kind.off = !on.iter().any(|k| k.api_version == kind.api_version && k.kind == kind.kind);
    }
    let version = client.apiserver_version().await?.git_version;
    let index: Value = get(&client, "/openapi/v3").await?;
    let mut documents = BTreeMap::new();
    for (path, entry) in index.get("paths").and_then(Value::as_object).context("paths in /openapi/v3")? {
        // Only documents of group versions hold kinds.
        let wanted = path == "api/v1" || path.strip_prefix("apis/").is_some_and(|rest| rest.contains('/'));
        if !wanted {
            continue;
        }
        let url = entry.get("serverRelativeURL").and_then(Value::as_str).context("an address of a document")?;
        documents.insert(path.clone(), get(&client, url).await?);
    }
    let text = openapi::record(&version, &documents, &all).map_err(anyhow::Error::msg);
    whole.stop().await?;
    text
}

/// The kinds a server serves, from its discovery.
async fn kinds(client: &Client) -> Result<Vec<Served>> {
    let groups: Value = get(client, "/apis").await?;
    let mut versions = vec!["v1".to_owned()];
    for group in groups.get("groups").and_then(Value::as_array).context("groups in /apis")? {
        for version in group.get("versions").and_then(Value::as_array).context("versions of a group")? {
            versions.push(version.get("groupVersion").and_then(Value::as_str).context("a version")?.to_owned());
        }
    }
    let mut out = Vec::new();
    for api_version in versions {
        let prefix = if api_version == "v1" { "/api/" } else { "/apis/" };
        let list: Value = get(client, &format!("{prefix}{api_version}")).await?;
        for resource in list.get("resources").and_then(Value::as_array).into_iter().flatten() {
            let text = |key: &str| resource.get(key).and_then(Value::as_str).unwrap_or_default();
            let verbs = resource.get("verbs").and_then(Value::as_array);
            let applied = verbs.into_iter().flatten().any(|verb| verb == "patch");
            // Sub-resources, and questions such as TokenReview, are no objects that a repository holds.
            if text("name").contains('/') || !applied {
                continue;
            }
            out.push(Served {
                api_version: api_version.clone(),
                kind: text("kind").to_owned(),
                namespaced: resource.get("namespaced").and_then(Value::as_bool).unwrap_or(false),
                off: false,
            });
        }
    }
    Ok(out)
}

async fn get(client: &Client, path: &str) -> Result<Value> {
    let request = http::Request::get(path).body(Vec::new())?;
    let text = client.request_text(request).await.with_context(|| format!("GET {path}"))?;
    serde_json::from_str(&text).with_context(|| format!("GET {path} gave no JSON"))
}
