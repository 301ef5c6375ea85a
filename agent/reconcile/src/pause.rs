//! What does a `Pause` cover, until when, and which one holds back an object.
//!
//! A `Pause` in the agent's own namespace may cover anything; one elsewhere only what its namespace holds, so that rights
//! to make them can be given per namespace. One that cannot be read is told and holds back nothing.

use std::collections::BTreeMap;
use std::fmt;

use driftless_protocol::bundle::Reason;
use driftless_protocol::id::{UnitId, UnitKind};
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::PauseReport;
use serde_json::{Map, Value};

use crate::input::Millis;
use crate::time;

/// Most pauses in force at once, and most that are told as unusable: whoever may make them in one namespace must not fill
/// the agent's memory. Those of the agent's namespace come first.
pub const MOST: usize = 1000;
/// Where Flux keeps its objects when nobody says otherwise.
const FLUX_NAMESPACE: &str = "flux-system";
/// Most bytes kept of a reason.
const REASON_BYTES: usize = 1024;

/// What is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Covers {
    /// Everything the agent manages.
    Cluster,
    /// A unit, with all it declares and owns.
    Unit(UnitId),
    /// One object.
    Object(ObjectKey),
}

impl fmt::Display for Covers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cluster => f.write_str("the whole cluster"),
            Self::Unit(unit) => write!(f, "unit {unit}"),
            Self::Object(key) => write!(f, "{key}"),
        }
    }
}

/// A usable `Pause`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which incarnation.
    pub uid: String,
    /// `metadata.generation`, for its status.
    pub generation: i64,
    /// What is left alone.
    pub covers: Covers,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub created: Millis,
    /// From then on it holds back nothing.
    pub expires: Millis,
}

impl Pause {
    /// `namespace/name`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// `Pause driftless-system/incident (database migration)`.
    #[must_use]
    pub fn shown(&self) -> String {
        format!("Pause {} ({})", self.id(), self.reason)
    }

    /// As it is reported.
    #[must_use]
    pub fn report(&self) -> PauseReport {
        PauseReport {
            name: self.id(),
            covers: self.covers.to_string(),
            reason: self.reason.clone(),
            since: self.created,
            expires: self.expires,
            problem: None,
        }
    }
}

/// A `Pause` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which incarnation.
    pub uid: String,
    /// `metadata.generation`, for its status.
    pub generation: i64,
    /// When it was made.
    pub created: Millis,
    /// What is wrong, and what to do.
    pub why: String,
}

impl Unusable {
    /// As it is reported.
    #[must_use]
    pub fn report(&self) -> PauseReport {
        PauseReport {
            name: format!("{}/{}", self.namespace, self.name),
            since: self.created,
            problem: Some(format!("ignored: {}", self.why)),
            ..PauseReport::default()
        }
    }
}

/// Reads a live `Pause`. The schema of its definition has refused most mistakes; what it cannot say, and what an older
/// definition let pass, is found here.
pub fn read(live: &Value, agent_namespace: &str) -> Result<Pause, Unusable> {
    let text = |pointer: &str| live.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (namespace, name, uid) = (text("/metadata/namespace"), text("/metadata/name"), text("/metadata/uid"));
    let created = time::parse(&text("/metadata/creationTimestamp")).unwrap_or_default();
    let generation = live.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default();
    match parts(live, &namespace, agent_namespace) {
        Ok((covers, reason, expires)) => {
            Ok(Pause { namespace, name, uid, generation, covers, reason, created, expires })
        }
        Err(why) => Err(Unusable { namespace, name, uid, generation, created, why }),
    }
}

fn parts(live: &Value, namespace: &str, agent_namespace: &str) -> Result<(Covers, String, Millis), String> {
    let spec = live.get("spec").and_then(Value::as_object).ok_or("it has no spec")?;
    let text = |map: &Map<String, Value>, field: &str| map.get(field).and_then(Value::as_str).map(str::to_owned);
    let mut reason = text(spec, "reason").filter(|reason| !reason.trim().is_empty()).ok_or("spec.reason is missing")?;
    let mut end = reason.len().min(REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    let expires = text(spec, "expires").ok_or("spec.expires is missing")?;
    let expires = time::parse_any_zone(&expires)
        .ok_or_else(|| format!("spec.expires is {expires:?}; write a time such as 2026-11-27T20:00:00Z"))?;
    let part = |field: &str| spec.get(field).filter(|value| !value.is_null());
    let whole = part("cluster").map(|value| value.as_bool().unwrap_or_default());
    let map = |field: &str| match part(field) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(format!("spec.{field} is no map")),
    };
    let everywhere = namespace == agent_namespace;
    // Elsewhere only what its own namespace holds.
    let placed = |of: Option<String>, field: &str, default: &str| match of {
        Some(of) if everywhere || of == namespace => Ok(of),
        Some(of) => Err(format!(
            "spec.{field}.namespace is {of}; a Pause in {namespace} covers only what is in {namespace}, one in \
             {agent_namespace} covers anything"
        )),
        None if everywhere => Ok(default.to_owned()),
        None => Ok(namespace.to_owned()),
    };
    let named = |map: &Map<String, Value>, of: &str, field: &str| {
        text(map, field).filter(|text| !text.is_empty()).ok_or_else(|| format!("spec.{of}.{field} is missing"))
    };
    let covers = match (whole, map("unit")?, map("object")?) {
        (Some(true), None, None) if everywhere => Covers::Cluster,
        (Some(true), None, None) => {
            return Err(format!("spec.cluster is for a Pause in {agent_namespace}; this one is in {namespace}"));
        }
        (None, Some(unit), None) => Covers::Unit(UnitId {
            namespace: placed(text(unit, "namespace"), "unit", FLUX_NAMESPACE)?,
            name: named(unit, "unit", "name")?,
            kind: match text(unit, "kind").as_deref() {
                None | Some("Kustomization") => UnitKind::Kustomization,
                Some("HelmRelease") => UnitKind::HelmRelease,
                Some(other) => {
                    return Err(format!("spec.unit.kind is {other}; it is Kustomization or HelmRelease"));
                }
            },
        }),
        (None, None, Some(object)) => Covers::Object(ObjectKey {
            group: text(object, "group").unwrap_or_default().into(),
            kind: named(object, "object", "kind")?.into(),
            namespace: placed(text(object, "namespace"), "object", "")?.into(),
            name: named(object, "object", "name")?.into(),
        }),
        _ => return Err("spec must have exactly one of cluster: true, unit, object".to_owned()),
    };
    Ok((covers, reason, expires))
}

/// All pauses of a cluster, ready to be asked.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// In force.
    active: Vec<Pause>,
    unusable: Vec<Unusable>,
    /// There are more than can be kept.
    too_many: bool,
    cluster: Option<usize>,
    units: BTreeMap<UnitId, usize>,
    objects: BTreeMap<ObjectKey, usize>,
}

impl Pauses {
    /// Those of these that hold at this time, and those that cannot be used.
    #[must_use]
    pub fn new(all: Vec<Result<Pause, Unusable>>, agent_namespace: &str, now: Millis) -> Self {
        let mut pauses = Self::default();
        for one in all {
            match one {
                Ok(pause) if pause.expires > now => pauses.active.push(pause),
                Ok(_) => {}
                Err(unusable) => pauses.unusable.push(unusable),
            }
        }
        pauses.active.sort_by_key(|p| (p.namespace != agent_namespace, p.created));
        pauses.unusable.sort_by_key(|p| (p.namespace != agent_namespace, p.created));
        pauses.too_many = pauses.active.len() > MOST || pauses.unusable.len() > MOST;
        pauses.active.truncate(MOST);
        pauses.unusable.truncate(MOST);
        pauses.index();
        pauses
    }

    fn index(&mut self) {
        (self.cluster, self.units, self.objects) = (None, BTreeMap::new(), BTreeMap::new());
        let active = &self.active;
        // The one that lasts longest speaks for all: when another ends, nothing changes.
        let lasts = |at: usize, other: usize| {
            let end = |at: usize| active.get(at).map_or(0, |pause| pause.expires);
            if end(other) >= end(at) { other } else { at }
        };
        for (at, pause) in active.iter().enumerate() {
            match &pause.covers {
                Covers::Cluster => self.cluster = Some(self.cluster.map_or(at, |other| lasts(at, other))),
                Covers::Unit(unit) => {
                    self.units.entry(unit.clone()).and_modify(|other| *other = lasts(at, *other)).or_insert(at);
                }
                Covers::Object(key) => {
                    self.objects.entry(key.clone()).and_modify(|other| *other = lasts(at, *other)).or_insert(at);
                }
            }
        }
    }

    /// Nothing is held back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// The pause that holds back writes to an object of a unit. `Pause` objects themselves are never held back: one that is
    /// declared in Git must be able to leave with it.
    #[must_use]
    pub fn holding(&self, unit: Option<&UnitId>, key: &ObjectKey) -> Option<&Pause> {
        if self.active.is_empty() || (key.group == marks::DOMAIN && key.kind == "Pause") {
            return None;
        }
        let of_unit = unit.and_then(|unit| self.holding_unit(unit));
        of_unit.or_else(|| self.at(self.cluster)).or_else(|| self.at(self.objects.get(key).copied()))
    }

    /// The pause that holds back a unit as a whole.
    #[must_use]
    pub fn holding_unit(&self, unit: &UnitId) -> Option<&Pause> {
        self.at(self.cluster).or_else(|| self.at(self.units.get(unit).copied()))
    }

    fn at(&self, at: Option<usize>) -> Option<&Pause> {
        self.active.get(at?)
    }

    /// In force.
    #[must_use]
    pub fn active(&self) -> &[Pause] {
        &self.active
    }

    /// Not usable.
    #[must_use]
    pub fn unusable(&self) -> &[Unusable] {
        &self.unusable
    }

    /// When the next one ends by itself.
    #[must_use]
    pub fn next_end(&self) -> Option<Millis> {
        self.active.iter().map(|pause| pause.expires).min()
    }

    /// The same without those whose time is over.
    #[must_use]
    pub fn at_time(&self, now: Millis) -> Self {
        let mut later = self.clone();
        later.active.retain(|pause| pause.expires > now);
        later.index();
        later
    }

    /// Those in force here that are not in force there: gone, over, or about something else now.
    #[must_use]
    pub fn ended(&self, later: &Self) -> Vec<Pause> {
        let stays = |pause: &Pause| later.active.iter().any(|p| p.uid == pause.uid && p.covers == pause.covers);
        self.active.iter().filter(|pause| !stays(pause)).cloned().collect()
    }

    /// What is wrong with all of them together.
    #[must_use]
    pub fn problem(&self) -> Option<Reason> {
        self.too_many.then(|| Reason {
            code: "TooManyPauses".to_owned(),
            message: format!(
                "there are more than {MOST} Pause objects in the cluster; those beyond are ignored. Delete the ones whose time \
                 is over"
            ),
            file: None,
            line: None,
        })
    }
}

#[cfg(test)]
mod tests;
