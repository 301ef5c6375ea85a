//! What the API servers would say to a plan: its objects go to the clusters' agents, through the hub, for a dry run.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::api::DryRunRequest;
use driftless_protocol::ask::{DRY_RUN_OBJECTS, DryRunAnswer, DryRunObject, DryRunOutcome, DryRunResult};
use driftless_protocol::bundle::ApplyMode;
use driftless_protocol::id::{ClusterName, UnitId};
use driftless_protocol::object::ObjectKey;
use driftless_render::flux::{RenderedCluster, RenderedObject, RenderedUnit};
use driftless_render::plan::{Action, ClusterPlan, LiveClusters, LiveObject};
use serde_json::Value;

use crate::client::{Client, escape};
use crate::ui::Progress;

/// Objects tried in one cluster; what is beyond is said.
const OBJECTS: usize = 1_000;
/// Bytes of bodies in one request to the hub: below what it takes, with room for their escapes.
const BATCH_BYTES: usize = 256 * 1024;

/// What one cluster is asked.
#[derive(Debug)]
pub struct Proposed {
    cluster: ClusterName,
    objects: Vec<DryRunObject>,
    /// Not tried, and why.
    skipped: Vec<(UnitId, ObjectKey, String)>,
    /// Objects beyond [`OBJECTS`].
    beyond: usize,
    /// Namespaces that Git declares after the change.
    namespaces: BTreeSet<String>,
    /// Kinds that Git defines after the change: group and kind.
    kinds: BTreeSet<(String, String)>,
}

impl Proposed {
    /// Everything of a plan that is created or changed.
    #[must_use]
    pub fn of(cluster: &ClusterName, plan: &ClusterPlan, head: &RenderedCluster) -> Self {
        let mut out = Self {
            cluster: cluster.clone(),
            objects: Vec::new(),
            skipped: Vec::new(),
            beyond: 0,
            namespaces: BTreeSet::new(),
            kinds: BTreeSet::new(),
        };
        for object in head.units.iter().flat_map(RenderedUnit::objects) {
            match (object.key.group.as_str(), object.key.kind.as_str()) {
                ("", "Namespace") => drop(out.namespaces.insert(object.key.name.to_string())),
                ("apiextensions.k8s.io", "CustomResourceDefinition") => out.kinds.extend(defined(object)),
                _ => {}
            }
        }
        for unit in &plan.units {
            let Some(rendered) = head.unit(&unit.unit) else { continue };
            let by_key: BTreeMap<&ObjectKey, &RenderedObject> =
                rendered.objects().iter().map(|object| (&object.key, object)).collect();
            for object in unit.objects.iter().filter(|object| object.action != Action::Delete) {
                if let Some(object) = by_key.get(&object.key) {
                    out.add(rendered, object);
                }
            }
        }
        out
    }

    fn add(&mut self, unit: &RenderedUnit, object: &RenderedObject) {
        let skip = if let Some(holes) = &object.holes {
            let names: Vec<String> = holes.iter().map(|hole| format!("${{{hole}}}")).collect();
            Some(format!("values that only the cluster has are filled in there: {}", names.join(", ")))
        } else if object.options.apply == ApplyMode::Ignore {
            Some("a mark on it says to leave it alone".to_owned())
        } else if object.bytes.len() > BATCH_BYTES {
            Some(format!("it has {} bytes, at most {BATCH_BYTES} are tried", object.bytes.len()))
        } else {
            None
        };
        let body = String::from_utf8(object.bytes.to_vec());
        match (skip, body) {
            (None, Ok(body)) if self.objects.len() < OBJECTS => self.objects.push(DryRunObject {
                unit: unit.id.clone(),
                key: object.key.clone(),
                account: unit.spec.service_account.clone(),
                body,
            }),
            (None, Ok(_)) => self.beyond += 1,
            (None, Err(_)) => self.skipped.push((unit.id.clone(), object.key.clone(), "it is no text".to_owned())),
            (Some(why), _) => self.skipped.push((unit.id.clone(), object.key.clone(), why)),
        }
    }

    /// Objects in requests that the hub takes.
    fn batches(&mut self) -> Vec<Vec<DryRunObject>> {
        let mut out: Vec<Vec<DryRunObject>> = Vec::new();
        let mut bytes = 0;
        for object in std::mem::take(&mut self.objects) {
            let full = out.last().is_none_or(|b| b.len() >= DRY_RUN_OBJECTS || bytes + object.body.len() > BATCH_BYTES);
            if full {
                out.push(Vec::new());
                bytes = 0;
            }
            bytes += object.body.len();
            if let Some(batch) = out.last_mut() {
                batch.push(object);
            }
        }
        out
    }

    /// What goes away by itself, since the same change makes what is missing.
    fn expected(&self, result: &DryRunResult) -> Option<String> {
        match result.outcome {
            DryRunOutcome::NoNamespace if self.namespaces.contains(&*result.key.namespace) => {
                Some(format!("Git declares the namespace {}: it is made first", result.key.namespace))
            }
            DryRunOutcome::NotServed
                if self.kinds.contains(&(result.key.group.to_string(), result.key.kind.to_string())) =>
            {
                Some(format!("Git declares the definition of {}: it is made first", result.key.kind))
            }
            _ => None,
        }
    }
}

/// The kind that a CustomResourceDefinition defines.
fn defined(definition: &RenderedObject) -> Option<(String, String)> {
    let value = definition.value()?;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Some((text("/spec/group")?, text("/spec/names/kind")?))
}

/// Asks every cluster, one after the other. What cannot be asked is said with its cluster; nothing here is an error.
pub async fn ask(client: &Client, proposed: Vec<Proposed>) -> Vec<LiveClusters> {
    let progress = Progress::new("asking the clusters", proposed.len());
    let mut all: Vec<LiveClusters> = Vec::new();
    for cluster in proposed {
        let name = cluster.cluster.clone();
        let answer = ask_one(client, cluster).await;
        progress.step();
        let same = |l: &LiveClusters| LiveClusters { clusters: Vec::new(), ..l.clone() } == answer;
        match all.iter_mut().find(|l| same(l)) {
            Some(known) => known.clusters.push(name),
            None => all.push(LiveClusters { clusters: vec![name], ..answer }),
        }
    }
    all.iter_mut().for_each(|l| l.clusters.sort());
    all
}

async fn ask_one(client: &Client, mut cluster: Proposed) -> LiveClusters {
    let mut out = LiveClusters::default();
    let path = format!("/clusters/{}/dry-run", escape(cluster.cluster.as_str()));
    if cluster.beyond > 0 {
        out.problem = Some(format!("{} objects were not tried: at most {OBJECTS} are, in one cluster", cluster.beyond));
    }
    for objects in cluster.batches() {
        let asked: Vec<(UnitId, ObjectKey)> = objects.iter().map(|o| (o.unit.clone(), o.key.clone())).collect();
        let answer: Result<DryRunAnswer, _> = client.post(&path, &DryRunRequest { objects }).await;
        let results = match answer {
            Ok(answer) => answer.results,
            Err(error) => {
                out.problem = Some(error.message);
                break;
            }
        };
        if results.len() < asked.len() {
            out.problem = Some(format!("the agent answered about {} of {} objects only", results.len(), asked.len()));
        }
        for ((unit, key), result) in asked.into_iter().zip(results) {
            if result.key != key {
                out.problem = Some(format!("the agent answered about {} in the place of {key}", result.key));
                break;
            }
            out.tried += usize::from(result.outcome != DryRunOutcome::NotTried);
            let accepted = result.outcome == DryRunOutcome::Accepted;
            out.accepted += usize::from(accepted);
            if !accepted || !result.takes.is_empty() || !result.warnings.is_empty() {
                let expected = cluster.expected(&result);
                out.objects.push(LiveObject { unit, result, expected });
            }
        }
    }
    out.objects.extend(cluster.skipped.into_iter().map(|(unit, key, message)| {
        let outcome = DryRunOutcome::NotTried;
        let result = DryRunResult { key, outcome, message, takes: Vec::new(), warnings: Vec::new() };
        LiveObject { unit, result, expected: None }
    }));
    out
}
