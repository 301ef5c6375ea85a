//! Bad input, one commit each: what is wrong is told with its place, the rest goes on, and nothing is lost.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use driftless_e2e::wait;
use driftless_e2e::world::{ClusterOptions, Content, Steps, World, lost};
use driftless_protocol::api::StepState;
use driftless_protocol::report::Ready;

use crate::common::{Room, base};

const CLUSTER: &str = "one";
const PATIENCE: Duration = Duration::from_secs(40);

/// One piece of bad input.
struct Case {
    name: &'static str,
    /// The repository with it.
    content: Content,
    /// The unit that is to tell of it.
    unit: &'static str,
    /// Whether that unit is then not ready; else it goes on, and tells of it in `describe` only.
    fails: bool,
    /// The place: how `describe` begins to name file and line.
    place: &'static str,
    /// What else `describe` must tell.
    tells: &'static [&'static str],
    /// Whether other units can still take commits. Not when their own definitions cannot be read.
    others_go_on: bool,
}

impl Case {
    fn new(name: &'static str, unit: &'static str, content: Content) -> Self {
        Self { name, content, unit, fails: true, place: "", tells: &[], others_go_on: true }
    }

    fn tells(mut self, place: &'static str, tells: &'static [&'static str]) -> Self {
        (self.place, self.tells) = (place, tells);
        self
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input() -> Result<()> {
    let room = Room::wait().await?;
    let base = base(&[CLUSTER]);
    let mut cluster = ClusterOptions::new(CLUSTER);
    // An account that may be impersonated and has no rights.
    cluster.impersonate.push(("flux-system".to_owned(), "limited".to_owned()));
    let mut world = room.start(room.options(&base, vec![cluster])?).await?;
    let mut steps = Steps::new();
    steps.run("the first commit is applied", base.reset(&mut world)).await;
    for (number, case) in in_git(&base).into_iter().chain(in_the_cluster(&base)).enumerate() {
        steps.run(case.name, check(&mut world, &base, &case, number)).await;
    }
    steps.run("a kind that is served later is applied then", served_later(&mut world, &base)).await;
    steps.finish(world).await
}

/// What the hub finds before anything is sent.
fn in_git(base: &Content) -> Vec<Case> {
    let base = || base.clone();
    let root = format!("clusters/{CLUSTER}");
    let subject = format!("{root}/subject.yaml");
    let list = "subject/kustomization.yaml";
    let config = "subject/config.yaml";
    vec![
        Case::new("broken YAML", "subject", base().append(config, "broken: [\n"))
            .tells("subject/config.yaml:", &["BuildFailed"]),
        Case::new("a tab for an indent", "subject", base().append(config, "\tbroken: 1\n"))
            .tells("subject/config.yaml:7", &["BuildFailed"]),
        Case::new("a resource that is not there", "subject", base().append(list, "  - nowhere.yaml\n"))
            .tells("subject/kustomization.yaml:6", &["nowhere.yaml"]),
        Case::new("an object twice in one unit", "subject", base().append(config, "---\n").append(config, TWICE))
            .tells("subject/config.yaml:", &["ConfigMap", "config"]),
        Case::new(
            "an object without a name",
            "subject",
            base().append(config, "---\napiVersion: v1\nkind: ConfigMap\n"),
        )
        .tells("subject/config.yaml:", &["name"]),
        Case::new("a patch without a target", "subject", base().append(list, PATCH))
            .tells("subject/kustomization.yaml:", &["nobody"]),
        Case::new("a path that is not there", "subject", base().replace(&subject, "./subject", "./nowhere"))
            .tells("clusters/one/subject.yaml:", &["PathNotFound", "nowhere"]),
        Case::new("a folder without manifests", "subject", emptied(base()))
            .tells("clusters/one/subject.yaml:", &["subject", "add a kustomization.yaml"]),
        Case::new("a dependency that is not there", "subject", base().append(&subject, "    - name: nobody\n"))
            .tells("clusters/one/subject.yaml:17", &["nobody", "DependencyNotFound"]),
        Case::new("dependencies in a circle", "subject", circle(base()))
            .tells("clusters/one/subject.yaml:17", &["DependencyCycle", "subject -> ", "watched"]),
        Case::new("a field of the wrong type", "subject", base().replace(&subject, "prune: true", "prune: perhaps"))
            .tells("clusters/one/subject.yaml:10", &["prune"]),
        Case { fails: false, ..Case::new("one object from two units", "thief", thief(base())) }
            .tells("thief/stolen.yaml:", &["DuplicateObject", "subject/config", "unit flux-system/subject"]),
        // The units that it defines tell of it too, with the place.
        Case {
            others_go_on: false,
            ..Case::new("a root that cannot be read", "steady", base().append(&subject, "broken: [\n"))
        }
        .tells("clusters/one/subject.yaml:", &["what defines it could not be built"]),
        Case {
            others_go_on: false,
            ..Case::new("a root that cannot be read, itself", "flux-system", base().append(&subject, "broken: [\n"))
        }
        .tells("clusters/one/subject.yaml:", &["BuildFailed"]),
    ]
}

/// What the API server refuses.
fn in_the_cluster(base: &Content) -> Vec<Case> {
    let base = || base.clone();
    let selector = base().replace("web/deployment.yaml", "app: web", "app: other");
    let elsewhere = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: lost\n  namespace: nowhere\n";
    // targetNamespace would put it where it can live.
    let homeless = base()
        .replace("clusters/one/subject.yaml", "  targetNamespace: subject\n", "")
        .replace("subject/config.yaml", "  name: config\n", "  name: config\n  namespace: subject\n")
        .replace("subject/service.yaml", "  name: api\n", "  name: api\n  namespace: subject\n")
        .append("subject/config.yaml", elsewhere);
    let widget = base().append("subject/config.yaml", WIDGET);
    let limited = base().append("clusters/one/subject.yaml", "  serviceAccountName: limited\n").replace(
        "subject/config.yaml",
        "first",
        "not-allowed",
    );
    vec![
        Case::new("a field that cannot be changed", "web", selector)
            .tells("web/deployment.yaml:1", &["Deployment", "selector", "cannot be changed", "delete the object"]),
        Case::new(
            "a value of the wrong type",
            "subject",
            base().replace("subject/config.yaml", "first", "{ not: text }"),
        )
        .tells("subject/config.yaml:1", &["ConfigMap", "subject/config", "correct it in Git"]),
        Case::new("a value out of range", "web", base().replace("web/deployment.yaml", "replicas: 3", "replicas: -3"))
            .tells("web/deployment.yaml:1", &["Deployment", "spec.replicas", "-3"]),
        Case::new("a namespace that is not there", "subject", homeless)
            .tells("subject/config.yaml:", &["ConfigMap", "nowhere", "declare it, or create it"]),
        Case { fails: false, ..Case::new("a kind that is not served", "subject", widget) }
            .tells("subject/config.yaml:", &["Widget", "not served"]),
        Case::new("an account without rights", "subject", limited)
            .tells("subject/config.yaml:1", &["forbidden", "limited", "grant the right"]),
    ]
}

const TWICE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\ndata:\n  commit: second\n";
const STOLEN: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: config\n  namespace: subject\ndata:\n  commit: stolen\n";
const PATCH: &str = "patches:\n  - patch: |\n      apiVersion: v1\n      kind: ConfigMap\n      metadata:\n        name: nobody\n      data: {}\n";
const WIDGET: &str = "---\napiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: late\nspec: {}\n";
const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: widgets.example.com
spec:
  group: example.com
  names: { kind: Widget, plural: widgets, singular: widget }
  scope: Namespaced
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
";

/// Another unit that holds an object of `subject`.
fn thief(content: Content) -> Content {
    content.unit(CLUSTER, "thief", "./thief", "").with("thief/stolen.yaml", STOLEN)
}

fn emptied(content: Content) -> Content {
    content
        .without("subject/kustomization.yaml")
        .without("subject/config.yaml")
        .without("subject/service.yaml")
        .with("subject/README.md", "Nothing here any more.\n")
}

fn circle(content: Content) -> Content {
    content.append("clusters/one/subject.yaml", "    - name: watched\n").replace(
        "clusters/one/watched.yaml",
        "    - name: namespaces\n",
        "    - name: namespaces\n    - name: subject\n",
    )
}

/// The one check: told with its place, the others go on, nothing is lost, and the mended repository is taken up.
async fn check(world: &mut World, base: &Content, case: &Case, number: usize) -> Result<()> {
    let before = world.cluster(CLUSTER).objects().await?;
    let mark = format!("case-{number}");
    // The bad input and a good change elsewhere, in one commit.
    let bad = case.content.clone().replace("steady/config.yaml", "first", &mark);
    let commit = bad.commit(world, case.name).await?;
    let told = told(world, case, &commit).await;
    let went_on = match case.others_go_on {
        true => world.wait_field(CLUSTER, "steady", "configmap/config", ".data.commit", &mark).await,
        false => Ok(()),
    };
    let disturbed: Vec<String> = world
        .units()
        .await?
        .iter()
        .filter(|u| case.others_go_on && ["steady", "namespaces", "flux-system"].contains(&u.unit.name.as_str()))
        .filter(|u| u.ready == Ready::False)
        .map(|u| format!("{}: {}", u.unit, u.message))
        .collect();
    let gone = lost(&before, &world.cluster(CLUSTER).objects().await?);
    // Mended first, whatever was found: the next case begins with a clean fleet.
    let mended = base.reset(world).await.context("the mended repository");
    told?;
    went_on.context("another unit")?;
    ensure!(disturbed.is_empty(), "other units are disturbed: {disturbed:?}");
    ensure!(gone.is_empty(), "objects were lost: {gone:?}");
    mended?;
    let gone = lost(&before, &world.cluster(CLUSTER).objects().await?);
    ensure!(gone.is_empty(), "objects were lost by mending: {gone:?}");
    Ok(())
}

/// Waits until `describe` tells it, with its place; then table and `why` must tell it too.
async fn told(world: &World, case: &Case, commit: &str) -> Result<()> {
    world.wait_fetched(commit).await?;
    wait::until(PATIENCE, format!("describe {} to tell it", case.unit), || async {
        let text = world.text(&["describe", case.unit, "--cluster", CLUSTER]).await?;
        let missing: Vec<&&str> =
            case.tells.iter().chain([&case.place]).filter(|part| !text.contains(**part)).collect();
        if missing.is_empty() { Ok(()) } else { bail!("{missing:?} not in:\n{text}") }
    })
    .await?;
    if !case.fails {
        return Ok(());
    }
    let row = world.wait_unit(CLUSTER, case.unit, "not to be ready", |u| u.ready == Ready::False).await?;
    ensure!(!row.message.is_empty() && !row.message.contains('\n'), "the message in the table: {:?}", row.message);
    let why: driftless_protocol::api::Why = world.ask(&["why", case.unit, "--cluster", CLUSTER]).await?;
    let failed = why.steps.iter().find(|s| s.state == StepState::Failed);
    let failed = failed.with_context(|| format!("why shows no failed step: {:?}", why.steps))?;
    ensure!(why.summary.contains(&failed.message), "the summary of why leaves it out: {}", why.summary);
    let (file, _) = case.place.split_once(':').unwrap_or((case.place, ""));
    let object = case.tells.first().copied().unwrap_or_default();
    let named =
        failed.file.as_deref() == Some(file) || failed.message.contains(file) || failed.message.contains(object);
    ensure!(named, "why names neither {file} nor {object}: {failed:?}");
    let check = world.cli(&["status", "--check"]).await?;
    ensure!(check.code == Some(1), "status --check ended with {:?}", check.code);
    Ok(())
}

/// The kind appears without a commit.
async fn served_later(world: &mut World, base: &Content) -> Result<()> {
    let commit = base.clone().append("subject/config.yaml", WIDGET).commit(world, "a widget").await?;
    world.wait_fetched(&commit).await?;
    {
        let world = &*world;
        wait::until(PATIENCE, "the unserved kind to be told", || async {
            let detail = world.detail(CLUSTER, "subject").await?;
            let unserved = detail.report.map_or(0, |r| r.counts.not_served);
            if unserved == 1 { Ok(()) } else { bail!("{unserved} objects are not served") }
        })
        .await?;
    }
    world.cluster(CLUSTER).kubectl_with(&["apply", "-f", "-"], Some(DEFINITION)).await?;
    world.wait_field(CLUSTER, "subject", "widget/late", ".metadata.name", "late").await?;
    world.wait_at(&commit).await
}
