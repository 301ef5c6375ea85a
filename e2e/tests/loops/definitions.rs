//! Definitions that change under their objects, on a real API server: upgrades that it refuses, a conversion that cannot be
//! made, a version that ends. Each is told, and no object is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use driftless_e2e::wait::{self, Seen};
use driftless_e2e::world::{ClusterOptions, Content, Steps, World};
use driftless_protocol::report::Ready;

use crate::common::{Room, base};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(90);
const OBJECT: &str = "widget.acme.example/one";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn definitions() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let mut world = room.start(room.options(&base, vec![ClusterOptions::new(CLUSTER)])?).await?;
    let mut steps = Steps::new();
    let w = &mut world;
    steps.run("a definition and an object of it come in one commit", come(w, &base)).await;
    steps.run("an upgrade that drops a stored version is refused, told, and loses nothing", stored(w, &base)).await;
    steps.run("a conversion webhook that is down is told, and waited for", conversion(w, &base)).await;
    steps.run("a version that is no longer served is told, and its objects stay", ended(w, &base)).await;
    steps.finish(world).await
}

/// A version: its name, and whether it is served and stored.
type Version = (&'static str, bool, bool);

fn definition(versions: &[Version], conversion: &str) -> String {
    let mut text = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.acme.example
spec:
  group: acme.example
  scope: Namespaced
  names: {kind: Widget, plural: widgets, singular: widget}
  versions:
"
    .to_owned();
    for (name, served, stored) in versions {
        text.push_str(&format!(
            "    - name: {name}\n      served: {served}\n      storage: {stored}\n      schema:\n        openAPIV3Schema:\n          \
             type: object\n          properties:\n            spec: {{type: object, properties: {{size: {{type: integer}}}}}}\n"
        ));
    }
    text + conversion
}

fn widget(version: &str, size: u32) -> String {
    format!("apiVersion: acme.example/{version}\nkind: Widget\nmetadata:\n  name: one\nspec:\n  size: {size}\n")
}

/// The base with these in the units `namespaces` and `subject`.
fn content(base: &Content, definition: &str, widget: &str) -> Content {
    let list = "  - config.yaml\n";
    base.clone().with("namespaces/widgets.yaml", definition).with("subject/widget.yaml", widget).replace(
        "subject/kustomization.yaml",
        list,
        &format!("{list}  - widget.yaml\n"),
    )
}

const V1: &[Version] = &[("v1", true, true)];

async fn size(world: &World) -> Result<String> {
    world.cluster(CLUSTER).field("subject", OBJECT, ".spec.size").await
}

async fn uid(world: &World) -> Result<String> {
    world.cluster(CLUSTER).field("subject", OBJECT, ".metadata.uid").await
}

async fn says(world: &World, unit: &str, words: &[&str]) -> Result<()> {
    wait::until(PATIENCE, format!("the report of {unit} to say {words:?}"), || async move {
        match world.detail(CLUSTER, unit).await.map(|detail| detail.report) {
            Ok(Some(report)) => {
                let said: Vec<&str> = report.objects.iter().map(|o| o.message.as_str()).collect();
                let said = format!("{:?} {} {}", report.ready, report.message, said.join(" "));
                let there = report.ready != Ready::True && words.iter().all(|word| said.contains(word));
                if there { Seen::Done(()) } else { Seen::NotYet(said) }
            }
            other => Seen::NotYet(format!("{other:?}")),
        }
    })
    .await?;
    Ok(())
}

async fn come(world: &mut World, base: &Content) -> Result<()> {
    content(base, &definition(V1, ""), &widget("v1", 1)).reset(world).await?;
    ensure!(size(world).await? == "1");
    Ok(())
}

async fn stored(world: &mut World, base: &Content) -> Result<()> {
    let before = uid(world).await?;
    // v1 is what the object is stored as, and it is gone from the definition.
    let content_now = content(base, &definition(&[("v2", true, true)], ""), &widget("v2", 2));
    content_now.commit(world, "a version is dropped").await?;
    says(world, "namespaces", &["widgets.acme.example", "storedVersions"]).await?;
    ensure!(uid(world).await? == before && size(world).await? == "1", "the object is not what it was");
    content(base, &definition(V1, ""), &widget("v1", 1)).reset(world).await
}

/// Nobody listens there.
const CONVERSION: &str = "  conversion:
    strategy: Webhook
    webhook:
      conversionReviewVersions: [v1]
      clientConfig:
        url: https://127.0.0.1:9/convert
";

async fn conversion(world: &mut World, base: &Content) -> Result<()> {
    let before = uid(world).await?;
    let both: &[Version] = &[("v1", true, true), ("v2", true, false)];
    content(base, &definition(both, CONVERSION), &widget("v2", 3)).commit(world, "converted").await?;
    says(world, "subject", &["Widget", "conversion webhook"]).await?;
    // Other objects of the unit go on.
    let config = world.cluster(CLUSTER).field("subject", "configmap/config", ".data.commit").await?;
    ensure!(config == "first", "{config}");
    content(base, &definition(both, ""), &widget("v2", 3)).reset(world).await?;
    ensure!(uid(world).await? == before && size(world).await? == "3", "the object was lost, or not changed");
    content(base, &definition(both, ""), &widget("v1", 1)).reset(world).await
}

async fn ended(world: &mut World, base: &Content) -> Result<()> {
    let before = uid(world).await?;
    // Somebody upgrades by hand, as an operator's own release does: Git still says v1.
    let upgraded = definition(&[("v1", false, false), ("v2", true, true)], "");
    let ends = content(base, &upgraded, &widget("v1", 5));
    ends.commit(world, "v1 ends, and Git uses it").await?;
    says(world, "subject", &["Widget", "v1", "does not serve"]).await?;
    ensure!(uid(world).await? == before && size(world).await? == "1", "the object is not what it was");
    content(base, &upgraded, &widget("v2", 5)).reset(world).await.context("with the version that is served")?;
    ensure!(uid(world).await? == before && size(world).await? == "5", "the object was made anew, or not changed");
    Ok(())
}
