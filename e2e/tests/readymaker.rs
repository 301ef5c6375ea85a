//! Workloads become what their pods are made to be.

use std::time::Duration;

use anyhow::Result;
use driftless_e2e::controlplane::{ControlPlane, Options};
use driftless_e2e::readymaker::{Fate, ReadyMaker, Rules, Which, add_nodes};
use driftless_e2e::wait::{self, WaitError};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(120);

async fn create<K>(client: &Client, object: Value) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let object: K = serde_json::from_value(object)?;
    Api::<K>::namespaced(client.clone(), "default").create(&PostParams::default(), &object).await?;
    Ok(())
}

/// Waits until a field of an object's status has a value.
async fn until_status<K>(client: &Client, name: &str, pointer: &str, wanted: Value) -> Result<(), WaitError>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api = Api::<K>::namespaced(client.clone(), "default");
    wait::until(PATIENCE, format!("{name}: status{pointer} = {wanted}"), || async {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        let status = serde_json::to_value(object).map_err(|error| error.to_string())?["status"].take();
        if status.pointer(pointer) == Some(&wanted) { Ok(()) } else { Err(status.to_string()) }
    })
    .await
}

fn template(name: &str, image: &str) -> Value {
    json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "main", "image": image}]}})
}

fn workload(name: &str, image: &str, more: Value) -> Value {
    let mut spec = json!({"selector": {"matchLabels": {"app": name}}, "template": template(name, image)});
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn workloads_become_available() -> Result<()> {
    let cluster = ControlPlane::start(Options::new("ready")).await?;
    let client = cluster.client();
    let rules = Rules {
        fates: vec![
            (Which::Label("app".into(), "stuck".into()), Fate::NeverReady),
            (Which::Image("broken".into()), Fate::BadImage),
        ],
        ..Rules::default()
    };
    let maker = ReadyMaker::start(client.clone(), rules);
    add_nodes(client.clone(), 2).await?;

    create::<Deployment>(&client, workload("web", "nginx:1", json!({"replicas": 3}))).await?;
    create::<StatefulSet>(&client, workload("db", "db:1", json!({"replicas": 2, "serviceName": "db"}))).await?;
    create::<DaemonSet>(&client, workload("each", "each:1", json!({}))).await?;
    create::<Deployment>(&client, workload("stuck", "nginx:1", json!({"replicas": 1}))).await?;
    let mut job = template("once", "once:1");
    job["spec"]["restartPolicy"] = "Never".into();
    create::<Job>(&client, json!({"metadata": {"name": "once"}, "spec": {"template": job}})).await?;

    until_status::<Deployment>(&client, "web", "/availableReplicas", 3.into()).await?;
    until_status::<StatefulSet>(&client, "db", "/readyReplicas", 2.into()).await?;
    until_status::<DaemonSet>(&client, "each", "/numberReady", 2.into()).await?;
    until_status::<Job>(&client, "once", "/succeeded", 1.into()).await?;
    until_status::<Deployment>(&client, "stuck", "/unavailableReplicas", 1.into()).await?;

    // A bad image holds up the rollout and leaves what runs; good rules make it well again.
    let image = Patch::Strategic(json!({"spec": {"template": {"spec": template("web", "nginx:broken")["spec"]}}}));
    let web = Api::<Deployment>::namespaced(client.clone(), "default");
    web.patch("web", &PatchParams::default(), &image).await?;
    until_status::<Deployment>(&client, "web", "/unavailableReplicas", 1.into()).await?;
    cluster.restart_apiserver().await?;
    maker.set(Rules::default());
    until_status::<Deployment>(&client, "web", "/updatedReplicas", 3.into()).await?;
    until_status::<Deployment>(&client, "web", "/availableReplicas", 3.into()).await?;
    until_status::<Deployment>(&client, "stuck", "/availableReplicas", 1.into()).await?;
    maker.stop().await;
    cluster.stop().await
}
