//! Why an object is not healthy: from what it made, down to its pods, to causes in plain words.
//!
//! The caller reads and this decides: [`children`] says what to list below an object, [`Inquiry`] folds each thing read and
//! keeps none of it, [`Inquiry::closer`] names the few pods and claims worth a closer look (their Events, their claims).
//!
//! | file | question |
//! |---|---|
//! | `pods` | what is the matter with a pod |
//! | `containers` | what is the matter with a container |
//! | `controllers` | what does a workload say of itself, and why are there no pods |
//! | `events` | what do Events add |

mod containers;
mod controllers;
mod events;
mod pods;

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::ask::{Cause, Happened, WhyObject, cut_text};
use driftless_protocol::object::{ObjectKey, group_of};
use serde_json::Value;

pub use self::controllers::{Children, Newest, children};
use crate::health::{self, Health};
use crate::input::Millis;
use crate::time;

/// Pods looked at closer: their Events are read.
const CLOSER: usize = 5;
/// Events told of.
const EVENTS: usize = 10;
/// Causes told of.
const CAUSES: usize = 8;
/// Pods counted as alike, by name; beyond it only counted.
const ALIKE: usize = 1_000;

/// How much a cause explains: the first are told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Nothing is even made: a refusal.
    Refused,
    /// A container cannot start.
    CannotStart,
    /// A container does not stay up.
    Crashes,
    /// A pod has no place.
    NoPlace,
    /// A volume is not there.
    NoVolume,
    /// It runs and is not ready.
    NotReady,
    /// Its controller says so, in general words.
    Says,
    /// It may only need time.
    Time,
}

/// A cause as it is found.
#[derive(Clone, Debug)]
struct Found {
    rank: Rank,
    code: &'static str,
    message: String,
    hint: String,
    since: Option<Millis>,
}

/// Something worth a closer look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closer {
    /// Which: a pod, a controller, or a PersistentVolumeClaim that is to be read first.
    pub key: ObjectKey,
    /// Its UID, for its Events; `None`: not read yet.
    pub uid: Option<String>,
}

/// What is known of a pod that is not well.
#[derive(Debug)]
struct Unwell {
    key: ObjectKey,
    uid: String,
    found: Found,
    claims: Vec<String>,
}

/// One object being asked about.
#[derive(Debug)]
pub struct Inquiry {
    key: ObjectKey,
    uid: String,
    now: Millis,
    state: String,
    healthy: bool,
    pods: u64,
    well: u64,
    more: u64,
    unwell: Vec<Unwell>,
    controllers: Vec<Closer>,
    claims: BTreeSet<String>,
    causes: Vec<(Rank, Cause)>,
    /// Objects counted into a cause, by its index.
    alike: BTreeMap<usize, BTreeSet<ObjectKey>>,
    events: Vec<Happened>,
}

impl Inquiry {
    /// Begins with the object itself.
    #[must_use]
    pub fn of(root: &Value, now: Millis) -> Option<Self> {
        let key = ObjectKey::of(root)?;
        let verdict = health::judge(root, &[]);
        let healthy = verdict.health == Health::Current;
        let mut state = verdict.message.unwrap_or_else(|| if healthy { "as it should be" } else { "unknown" }.into());
        cut_text(&mut state);
        let uid = text(root, "/metadata/uid").unwrap_or_default().to_owned();
        let mut inquiry = Self {
            key: key.clone(),
            uid,
            now,
            state,
            healthy,
            pods: 0,
            well: 0,
            more: 0,
            unwell: Vec::new(),
            controllers: Vec::new(),
            claims: BTreeSet::new(),
            causes: Vec::new(),
            alike: BTreeMap::new(),
            events: Vec::new(),
        };
        match key.kind.as_str() {
            "Pod" if key.group.is_empty() => inquiry.pod(root),
            "PersistentVolumeClaim" if key.group.is_empty() => inquiry.claim(root),
            _ => inquiry.controller(root),
        }
        Some(inquiry)
    }

    /// A workload, or what it made that makes pods in turn.
    pub fn controller(&mut self, object: &Value) {
        let Some(key) = ObjectKey::of(object) else { return };
        if let Some(uid) = text(object, "/metadata/uid")
            && self.controllers.len() < CLOSER
        {
            self.controllers.push(Closer { key: key.clone(), uid: Some(uid.to_owned()) });
        }
        for found in controllers::look(object) {
            self.add(&key, found);
        }
    }

    /// A pod.
    pub fn pod(&mut self, pod: &Value) {
        let Some(key) = ObjectKey::of(pod) else { return };
        self.pods += 1;
        let Some(found) = pods::look(pod) else {
            self.well += 1;
            return;
        };
        let known = self.unwell.iter().any(|u| u.found.code == found.code);
        // The first of each sort, then others, are looked at closer.
        if self.unwell.len() < CLOSER && (!known || self.unwell.len() < 2) {
            let claims = pods::claims(pod);
            if found.rank >= Rank::NoPlace {
                self.claims.extend(claims.iter().take(CLOSER).cloned());
            }
            let uid = text(pod, "/metadata/uid").unwrap_or_default().to_owned();
            self.unwell.push(Unwell { key, uid, found, claims });
        } else {
            self.add(&key, found);
        }
    }

    /// Pods that were not read.
    pub fn more_pods(&mut self, count: u64) {
        self.more += count;
    }

    /// A PersistentVolumeClaim of a pod that is not well, or the object itself.
    pub fn claim(&mut self, claim: &Value) {
        let Some(key) = ObjectKey::of(claim) else { return };
        if let Some(found) = pods::claim(claim) {
            let uid = text(claim, "/metadata/uid").unwrap_or_default().to_owned();
            self.unwell.push(Unwell { key, uid, found, claims: Vec::new() });
        }
    }

    /// A claim that a pod names is not there.
    pub fn no_claim(&mut self, name: &str) {
        let key = ObjectKey {
            group: "".into(),
            kind: "PersistentVolumeClaim".into(),
            namespace: self.key.namespace.clone(),
            name: name.into(),
        };
        let found = Found {
            rank: Rank::NoVolume,
            code: "ClaimMissing",
            message: format!("the claim {name}, which a pod mounts, is not there"),
            hint: "declare the PersistentVolumeClaim in Git, or correct the pod's volume".into(),
            since: None,
        };
        self.add(&key, found);
    }

    /// Claims to be read, by name, in the namespace of the object.
    #[must_use]
    pub fn claims_to_read(&self) -> Vec<String> {
        self.claims.iter().take(CLOSER).cloned().collect()
    }

    /// Whose Events are to be read.
    #[must_use]
    pub fn closer(&self) -> Vec<Closer> {
        let mut all: Vec<Closer> = Vec::new();
        if !self.uid.is_empty() {
            all.push(Closer { key: self.key.clone(), uid: Some(self.uid.clone()) });
        }
        all.extend(self.controllers.iter().filter(|c| c.key != self.key).cloned());
        let unwell = self.unwell.iter().map(|u| Closer { key: u.key.clone(), uid: Some(u.uid.clone()) });
        all.extend(unwell.filter(|c| c.key != self.key));
        all
    }

    /// An Event about one of [`Inquiry::closer`].
    pub fn event(&mut self, about: &ObjectKey, event: &Value) {
        let Some(happened) = events::read(about, event) else { return };
        if let Some(unwell) = self.unwell.iter_mut().find(|u| u.key == *about) {
            if let Some(better) = events::of_pod(&unwell.found, &happened) {
                unwell.found = better;
            }
        } else if !self.healthy
            && let Some(found) = events::of_controller(&happened, self.now)
        {
            self.add(about, found);
        }
        self.events.push(happened);
        if self.events.len() > 4 * EVENTS {
            self.keep_newest();
        }
    }

    /// The answer.
    #[must_use]
    pub fn finish(mut self) -> WhyObject {
        let mut unwell = std::mem::take(&mut self.unwell);
        // Claims first: pods that wait for them say less.
        unwell.sort_by_key(|unwell| unwell.key.kind != "PersistentVolumeClaim");
        for Unwell { key, found, claims, .. } in unwell {
            // A pod without a place for want of a volume: the claim says why.
            let by_claim = found.code == "ClaimNotBound"
                && self
                    .causes
                    .iter()
                    .any(|(_, c)| c.code.starts_with("Claim") && claims.iter().any(|name| *name == c.at.name));
            if !by_claim {
                self.add(&key, found);
            }
        }
        if !self.healthy && self.causes.iter().all(|(rank, _)| *rank >= Rank::Time) {
            let (key, state) = (self.key.clone(), self.state.clone());
            let hint = match self.pods {
                0 => format!("look at it: kubectl {}describe {} {}", namespace_flag(&key), kind_arg(&key), key.name),
                _ => "its pods show no fault; it may only need time".to_owned(),
            };
            self.add(&key, Found { rank: Rank::Says, code: "NotHealthy", message: state, hint, since: None });
        }
        self.causes.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.count.cmp(&a.1.count)));
        self.keep_newest();
        WhyObject {
            key: Some(self.key),
            problem: None,
            state: self.state,
            healthy: self.healthy,
            causes: self.causes.into_iter().map(|(_, cause)| cause).take(CAUSES).collect(),
            events: self.events,
            pods: self.pods,
            pods_well: self.well,
            pods_more: self.more,
        }
    }

    fn keep_newest(&mut self) {
        self.events.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.object.cmp(&b.object)));
        self.events.truncate(EVENTS);
    }

    /// Equal causes are told once, with how many objects have them.
    fn add(&mut self, at: &ObjectKey, found: Found) {
        let Found { rank, code, mut message, mut hint, since } = found;
        cut_text(&mut message);
        cut_text(&mut hint);
        let like = |cause: &Cause| {
            cause.code == code && cause.at.kind == at.kind && sketch(&cause.message) == sketch(&message)
        };
        if let Some(ix) = self.causes.iter().position(|(_, cause)| like(cause)) {
            let seen = self.alike.entry(ix).or_default();
            let fresh = seen.len() >= ALIKE || seen.insert(at.clone());
            if let Some((_, cause)) = self.causes.get_mut(ix) {
                cause.count += u32::from(fresh);
                cause.since = match (cause.since, since) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            return;
        }
        if self.causes.len() >= 4 * CAUSES {
            return;
        }
        self.alike.insert(self.causes.len(), BTreeSet::from([at.clone()]));
        let cause = Cause { code: code.to_owned(), at: at.clone(), message, hint, since, count: 1 };
        self.causes.push((rank, cause));
    }
}

/// A message without what differs between equal pods: digits, and the suffixes of generated names.
fn sketch(message: &str) -> String {
    message.chars().filter(|c| !c.is_ascii_digit()).take(48).collect()
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

fn list<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn when(object: &Value, pointer: &str) -> Option<Millis> {
    text(object, pointer).and_then(time::parse)
}

/// `(status, reason, message, since)` of a condition.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str, Option<Millis>)> {
    let one = list(object, "/status/conditions").find(|c| text(c, "/type") == Some(kind))?;
    let word = |field: &str| text(one, field).unwrap_or_default();
    Some((word("/status"), word("/reason"), word("/message"), when(one, "/lastTransitionTime")))
}

/// `-n shop `, or nothing.
fn namespace_flag(key: &ObjectKey) -> String {
    if key.namespace.is_empty() { String::new() } else { format!("-n {} ", key.namespace) }
}

/// As kubectl takes a kind.
fn kind_arg(key: &ObjectKey) -> String {
    let kind = key.kind.to_lowercase();
    if key.group.is_empty() { kind } else { format!("{kind}.{}", key.group) }
}

/// Whether an object is controlled by the object of this UID.
#[must_use]
pub fn is_owned_by(object: &Value, uid: &str) -> bool {
    list(object, "/metadata/ownerReferences").any(|owner| text(owner, "/uid") == Some(uid))
}

/// Group and kind of an object.
fn group_kind(object: &Value) -> (&str, &str) {
    (group_of(text(object, "/apiVersion").unwrap_or_default()), text(object, "/kind").unwrap_or_default())
}
