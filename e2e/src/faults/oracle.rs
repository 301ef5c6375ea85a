//! What really was done, by the API server's own audit log, held against what Git said: what is lost, what was done twice,
//! what was deleted that must stay. And whether the agent's inventory is exact.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use driftless_protocol::marks;
use driftless_reconcile::inventory;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::declared::{Declared, NAMESPACE, Unit};
use super::things::{self, KINDS, Kind};
use crate::world::AuditEvent;

/// Rules of an audit policy that show what this module looks at.
pub const AUDIT_RULES: &str = "  - level: RequestResponse
    verbs: [create, update, patch, delete, deletecollection]
    namespaces: [subject, extra, \"\"]
    resources:
      - { group: \"\", resources: [configmaps, secrets, namespaces] }
      - { group: apps, resources: [deployments] }
      - { group: batch, resources: [jobs] }
      - { group: faults.example, resources: [widgets] }
      - { group: apiextensions.k8s.io, resources: [customresourcedefinitions] }
";

/// The agent, in the audit log.
const AGENT: &str = "system:serviceaccount:driftless-system:driftless-agent";

/// Who declares an object.
const OWNER: &str = "kustomize.toolkit.fluxcd.io/name";

/// What is wrong after a step. All zero: nothing.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Objects that are not as declared, or still there.
    pub lost: usize,
    /// Writes beyond the one that a change needs.
    pub doubled: usize,
    /// Deletes of what is declared, or not ours.
    pub wrong_deletes: usize,
    /// What it is, in words.
    pub words: Vec<String>,
}

impl Verdict {
    /// Nothing is wrong.
    #[must_use]
    pub fn clean(&self) -> bool {
        self.words.is_empty()
    }
}

/// One object as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    uid: String,
    state: String,
    value: String,
    owner: String,
}

impl Found {
    fn of(kind: Kind, object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let value = if kind.plural == "configmaps" {
            &object["data"]["value"]
        } else {
            &metadata["annotations"][things::VALUE]
        };
        Self {
            uid: text(&metadata["uid"]),
            state: state(kind, object),
            value: text(value),
            owner: text(&metadata["labels"][OWNER]),
        }
    }
}

/// What changes with each write of the agent that changes something, and with no other.
fn state(kind: Kind, object: &Value) -> String {
    let metadata = &object["metadata"];
    if !kind.shared {
        return metadata["resourceVersion"].as_str().unwrap_or_default().to_owned();
    }
    let entries = metadata["managedFields"].as_array().into_iter().flatten();
    let mut ours = entries.filter(|entry| entry["manager"] == marks::FIELD_MANAGER && entry["subresource"].is_null());
    format!("{}@{}", metadata["generation"], ours.next().map_or("", |entry| entry["time"].as_str().unwrap_or_default()))
}

/// Looks at one cluster.
pub struct Oracle {
    client: Client,
    log: PathBuf,
    read: u64,
    /// The objects when the step began.
    before: BTreeMap<String, Found>,
    /// Objects that are nobody's.
    foreign: BTreeSet<String>,
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").field("log", &self.log).finish_non_exhaustive()
    }
}

impl Oracle {
    /// For a cluster whose audit log is in this file; `foreign` are ConfigMaps that no unit declares.
    #[must_use]
    pub fn new(client: Client, log: &Path, foreign: &[&str]) -> Self {
        let foreign = foreign.iter().map(|name| (*name).to_owned()).collect();
        Self { client, log: log.to_owned(), read: 0, before: BTreeMap::new(), foreign }
    }

    async fn found(&self) -> Result<BTreeMap<String, Found>> {
        let mut all = BTreeMap::new();
        for kind in KINDS {
            // Of ConfigMaps also those that are nobody's.
            let every = kind.plural == "configmaps" && kind.namespace == Some(NAMESPACE);
            let owned = if every { ListParams::default() } else { ListParams::default().labels(OWNER) };
            for object in self.list(kind, &owned).await? {
                let name = things::name_of(kind.plural, &object.name_any());
                // Made by a controller in every namespace; and the one that is always there.
                if name != "kube-root-ca.crt" && name != format!("namespaces/{NAMESPACE}") {
                    all.insert(name, Found::of(kind, &serde_json::to_value(object)?));
                }
            }
        }
        Ok(all)
    }

    async fn list(&self, kind: Kind, params: &ListParams) -> Result<Vec<DynamicObject>> {
        let gvk = GroupVersionKind::gvk(kind.group, "v1", kind.kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural);
        let api: Api<DynamicObject> = match kind.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        };
        match api.list(params).await {
            Ok(list) => Ok(list.items),
            // A kind whose definition is not there has no objects.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("list {}", kind.plural)),
        }
    }

    /// A step begins: what was done before it does not count.
    ///
    /// # Errors
    /// The cluster or the log cannot be read.
    pub async fn begin(&mut self) -> Result<()> {
        self.before = self.found().await?;
        self.read = std::fs::metadata(&self.log).map_or(0, |meta| meta.len());
        Ok(())
    }

    /// What was done since the step began.
    fn done(&self) -> Result<Vec<AuditEvent>> {
        let mut file = std::fs::File::open(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.read))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A server that was killed may leave half a line.
        let events = text.lines().filter_map(|line| serde_json::from_str::<AuditEvent>(line).ok());
        Ok(events.filter(|event| !event.uri.contains("dryRun=")).collect())
    }

    /// Writes of the agent that reached the API server since the step began, whatever came of them.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn writes(&self) -> Result<usize> {
        Ok(self.done()?.iter().filter(|event| event.user.username == AGENT).count())
    }

    /// Whether all objects are as declared now, and nothing of ours is left over: what is not, in words.
    ///
    /// # Errors
    /// The cluster cannot be read.
    pub async fn differences(&self, declared: &Declared) -> Result<Vec<String>> {
        let found = self.found().await?;
        let mut words = Vec::new();
        for (name, item) in &declared.0 {
            match found.get(name) {
                None => words.push(format!("{name} is not there")),
                Some(found) if found.value != item.value => {
                    words.push(format!("{name} holds {:?}, declared is {:?}", found.value, item.value));
                }
                Some(found) if found.owner != item.unit.name() => {
                    words.push(format!("{name} is of {:?}, declared by {:?}", found.owner, item.unit.name()));
                }
                Some(_) => {}
            }
        }
        let anchors: BTreeSet<&str> = Unit::ALL.iter().map(|unit| unit.name()).collect();
        for name in found.keys() {
            if !declared.0.contains_key(name) && !anchors.contains(name.as_str()) && !self.foreign.contains(name) {
                words.push(format!("{name} is still there"));
            }
        }
        Ok(words)
    }

    /// Whether the stored inventory is exactly what is declared, with the UIDs of what is there: what is not, in words.
    ///
    /// # Errors
    /// The cluster cannot be read.
    pub async fn inventory(&self, declared: &Declared) -> Result<Vec<String>> {
        let records: Api<ConfigMap> = Api::namespaced(self.client.clone(), marks::AGENT_NAMESPACE);
        let records = records.list(&ListParams::default().labels("driftless.dev/record=inventory")).await?;
        let shards: Vec<(u32, String)> = records
            .items
            .iter()
            .filter_map(|map| {
                let number = map.name_any().rsplit('-').next()?.parse().ok()?;
                Some((number, map.data.as_ref()?.get(inventory::DATA_KEY)?.clone()))
            })
            .collect();
        let (stored, errors) = inventory::decode(&shards);
        let mut words: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let found = self.found().await?;
        let mut wanted: BTreeMap<&str, Unit> =
            declared.0.iter().map(|(name, item)| (name.as_str(), item.unit)).collect();
        wanted.extend(Unit::ALL.iter().map(|unit| (unit.name(), *unit)));
        let mut kept = BTreeSet::new();
        for (key, entry) in stored.iter() {
            let looked_at = |kind: &&Kind| {
                kind.kind == key.kind && kind.group == key.group && kind.namespace.is_none_or(|of| of == key.namespace)
            };
            let Some(kind) = KINDS.iter().find(looked_at) else { continue };
            let name = things::name_of(kind.plural, &key.name);
            let name = name.as_str();
            if name == format!("namespaces/{NAMESPACE}") {
                continue;
            }
            kept.insert(name.to_owned());
            let uid = entry.uid.as_ref().map(ToString::to_string);
            match (wanted.get(name), found.get(name)) {
                (None, _) => words.push(format!("the inventory holds {name}, which is not declared")),
                (Some(unit), _) if entry.unit.name != unit.name() => {
                    words.push(format!("the inventory says {name} is of {}, declared by {}", entry.unit, unit.name()));
                }
                (Some(_), Some(found)) if uid.as_deref() != Some(found.uid.as_str()) => {
                    words.push(format!("the inventory has UID {uid:?} for {name}, which is {}", found.uid));
                }
                _ => {}
            }
        }
        words.extend(wanted.keys().filter(|name| !kept.contains(**name)).map(|n| format!("the inventory lacks {n}")));
        Ok(words)
    }

    /// The verdict on a step that led from one declaration to another; objects in `anew` are deleted on the way, and made
    /// anew.
    ///
    /// # Errors
    /// The cluster or the log cannot be read.
    pub async fn verdict(&self, from: &Declared, to: &Declared, anew: &[&str]) -> Result<Verdict> {
        let mut verdict = Verdict { words: self.differences(to).await?, ..Verdict::default() };
        verdict.lost = verdict.words.len();
        let found = self.found().await?;
        let mut writes: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
        let mut deletes: BTreeMap<String, usize> = BTreeMap::new();
        for event in self.done()? {
            let code = event.response_status.as_ref().map_or(0, |status| status.code);
            let ours = event.user.username == AGENT && (200..300).contains(&code);
            let Some(object) = event.object_ref.as_ref().filter(|_| ours) else { continue };
            ensure!(event.verb != "deletecollection", "the agent asked for the deletion of a whole collection");
            let name = things::name_of(&object.resource, &object.name);
            let Some(kind) = KINDS.iter().find(|kind| kind.plural == object.resource) else { continue };
            if event.verb == "delete" {
                *deletes.entry(name).or_default() += 1;
            } else if event.uri.contains("force=true") {
                let answer = Found::of(*kind, event.response_object.as_ref().unwrap_or(&Value::Null));
                let before = self.before.get(&name).map(|found| (&found.uid, &found.state));
                if before != Some((&answer.uid, &answer.state)) {
                    writes.entry(name).or_default().insert((answer.uid, answer.state));
                }
            }
        }
        for (name, states) in &writes {
            let expected = usize::from(from.0.get(name) != to.0.get(name) && to.0.contains_key(name));
            if states.len() > expected {
                verdict.doubled += states.len() - expected;
                verdict.words.push(format!("{name} was written {} times, {expected} needed", states.len()));
            }
        }
        for (name, times) in &deletes {
            let meant = from.0.contains_key(name) && (!to.0.contains_key(name) || anew.contains(&name.as_str()));
            if !meant {
                verdict.wrong_deletes += times;
                verdict.words.push(format!("{name} was deleted, and must stay"));
            } else if *times > 1 {
                verdict.doubled += times - 1;
                verdict.words.push(format!("{name} was deleted {times} times"));
            }
        }
        let stays =
            |name: &&String| self.foreign.contains(*name) || (from.0.contains_key(*name) && to.0.contains_key(*name));
        for (name, was) in self.before.iter().filter(|(name, _)| stays(name)) {
            if found.get(name).is_none_or(|is| is.uid != was.uid) && !deletes.contains_key(name) {
                verdict.wrong_deletes += 1;
                verdict.words.push(format!("{name} was deleted by somebody, or made anew"));
            }
        }
        Ok(verdict)
    }
}
