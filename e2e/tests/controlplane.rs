//! The control plane that everything else is tested on.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driftless_e2e::controlplane::{ControlPlane, Options};
use driftless_e2e::tools::{self, Kubernetes, Origin, Tool, Tools};
use driftless_e2e::wait;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::json;

/// Long enough for a machine that does other things too; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(120);

fn object<T: DeserializeOwned>(value: serde_json::Value) -> Result<T> {
    Ok(serde_json::from_value(value)?)
}

async fn write_config_map(client: Client, name: &str) -> Result<()> {
    let map: ConfigMap = object(json!({"metadata": {"name": name}, "data": {"key": name}}))?;
    Api::<ConfigMap>::namespaced(client, "default").create(&PostParams::default(), &map).await?;
    Ok(())
}

#[tokio::test]
async fn two_clusters_side_by_side() -> Result<()> {
    let (one, two) =
        tokio::try_join!(ControlPlane::start(Options::new("one")), ControlPlane::start(Options::new("two")))?;
    ensure!(one.url() != two.url());

    // The version it serves is the version of the program, which is the pinned one unless somebody brought their own.
    let server = one.tools().get(Tool::ApiServer).context("an API server")?;
    let said = std::process::Command::new(&server.path).arg("--version").output()?;
    let version = one.client().apiserver_version().await?.git_version;
    assert_eq!(String::from_utf8(said.stdout)?.trim(), format!("Kubernetes {version}"));
    if server.origin == Origin::Cache {
        let chosen = format!("v{}.", Kubernetes::chosen()?.name());
        assert!(version.starts_with(&chosen), "{version}");
    }

    write_config_map(one.client(), "only-here").await?;
    let there: Api<ConfigMap> = Api::namespaced(two.client(), "default");
    assert!(there.get_opt("only-here").await?.is_none(), "clusters must not share anything");

    one.stop().await?;
    two.client().apiserver_version().await.context("stopping one cluster must not touch the other")?;
    two.stop().await
}

#[tokio::test]
async fn a_restarted_api_server_keeps_its_data() -> Result<()> {
    let cluster = ControlPlane::start(Options { controllers: false, ..Options::new("restart") }).await?;
    write_config_map(cluster.client(), "before").await?;

    cluster.stop_apiserver().await?;
    ensure!(cluster.client().apiserver_version().await.is_err(), "a stopped API server answers");
    cluster.start_apiserver().await?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "default");
    maps.get("before").await.context("after an orderly stop")?;

    cluster.kill_apiserver().await?;
    cluster.restart_apiserver().await?;
    maps.get("before").await.context("after a crash")?;
    write_config_map(cluster.client(), "after").await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_deleted_namespace_goes_away() -> Result<()> {
    let cluster = ControlPlane::start(Options::new("namespaces")).await?;
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    namespaces.create(&PostParams::default(), &object(json!({"metadata": {"name": "short-lived"}}))?).await?;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "short-lived");
    maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "inside"}}))?).await?;

    namespaces.delete("short-lived", &DeleteParams::default()).await?;
    wait::until(PATIENCE, "the namespace to go away", || async {
        match namespaces.get_opt("short-lived").await {
            Ok(None) => Ok(()),
            Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_token_may_do_what_its_account_may() -> Result<()> {
    let cluster = ControlPlane::start(Options::new("tokens")).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "default");
    accounts.create(&PostParams::default(), &object(json!({"metadata": {"name": "reader"}}))?).await?;
    let reader = cluster.token_for("default", "reader").await?;
    let maps: Api<ConfigMap> = Api::namespaced(reader.client().await?, "default");

    match maps.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403);
            assert!(status.message.contains("system:serviceaccount:default:reader"), "{}", status.message);
        }
        other => panic!("an account without rights got {other:?}"),
    }

    let role = json!({"metadata": {"name": "reader"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]});
    let binding = json!({"metadata": {"name": "reader"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
        "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": "default"}]});
    let admin = cluster.client();
    Api::<k8s_openapi::api::rbac::v1::Role>::namespaced(admin.clone(), "default")
        .create(&PostParams::default(), &object(role)?)
        .await?;
    Api::<k8s_openapi::api::rbac::v1::RoleBinding>::namespaced(admin, "default")
        .create(&PostParams::default(), &object(binding)?)
        .await?;
    wait::until(PATIENCE, "the right to take effect", || async { maps.list(&ListParams::default()).await }).await?;
    cluster.stop().await
}

#[tokio::test]
async fn a_failed_start_shows_the_log() -> Result<()> {
    let wrong = Options { api_server_args: vec!["--no-such-flag".into()], ..Options::new("broken") };
    let error = ControlPlane::start(wrong).await.expect_err("a wrong flag");
    let text = format!("{error:#}");
    for part in ["start control plane broken", "kube-apiserver ended (exit code", "unknown flag: --no-such-flag"] {
        ensure!(text.contains(part), "{part} not in: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn programs_are_found_once_and_then_again() -> Result<()> {
    let first = Tools::prepare_async(&Tool::CONTROL_PLANE, tools::print_progress).await?;
    let again = Tools::prepare_async(&Tool::CONTROL_PLANE, |progress| panic!("built again: {progress}")).await?;
    for (tool, found) in first.iter() {
        assert_eq!(Some(found), again.get(tool));
    }
    Ok(())
}
