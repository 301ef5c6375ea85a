//! What the engine is told.

use std::borrow::Borrow;
use std::cmp::Ordering;

use driftless_protocol::bundle::{Index, LateKind, ServiceAccount, UnitBody};
use driftless_protocol::head::SourceRevision;
use driftless_protocol::id::Generation;
use driftless_protocol::object::{Name, ObjectKey};
use serde_json::Value;

/// Unix milliseconds. The engine never asks for the time.
pub type Millis = u64;

/// What is wanted: a verified bundle, without its objects' bytes.
#[derive(Clone, Copy, Debug)]
pub struct Desired<'a> {
    /// From the head.
    pub generation: Generation,
    /// Level one.
    pub index: &'a Index,
    /// Level two, of the full units.
    pub bodies: &'a [UnitBody],
    /// From the head.
    pub revisions: &'a [SourceRevision],
}

/// A kind, whatever its version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// API group; empty for the core group.
    pub group: Name,
    /// Kind.
    pub kind: Name,
}

impl GroupKind {
    /// The kind of an object.
    #[must_use]
    pub fn of(key: &ObjectKey) -> Self {
        Self { group: key.group.clone(), kind: key.kind.clone() }
    }
}

/// Group and kind, whoever holds them: what maps by [`GroupKind`] can be searched with, so that no key is made for a look.
pub(crate) trait KindName {
    fn parts(&self) -> (&str, &str);
}

impl KindName for GroupKind {
    fn parts(&self) -> (&str, &str) {
        (&self.group, &self.kind)
    }
}

impl KindName for ObjectKey {
    fn parts(&self) -> (&str, &str) {
        (&self.group, &self.kind)
    }
}

/// Group and kind.
impl KindName for (&str, &str) {
    fn parts(&self) -> (&str, &str) {
        *self
    }
}

impl PartialEq for dyn KindName + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn KindName + '_ {}

impl PartialOrd for dyn KindName + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

// As `GroupKind` orders itself: a map searched so must not notice the difference.
impl Ord for dyn KindName + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl<'a> Borrow<dyn KindName + 'a> for GroupKind {
    fn borrow(&self) -> &(dyn KindName + 'a) {
        self
    }
}

/// A kind the cluster serves, from discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedKind {
    /// Which kind.
    pub kind: GroupKind,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Served versions, preferred first: `v1`, `v1beta1`.
    pub versions: Vec<String>,
}

/// A watch the engine needs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Which kind.
    pub kind: GroupKind,
    /// The version to watch, as declared; `None`: the preferred one.
    pub version: Option<String>,
    /// Only objects that carry [`UNIT_LABEL`](driftless_protocol::marks::UNIT_LABEL); else all of the kind (autoscalers).
    pub owned_only: bool,
}

/// A ConfigMap or Secret that a unit's variables come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputRef {
    /// Who reads it: the unit's account; `None`: the applier.
    pub account: Option<ServiceAccount>,
    /// Which of the two.
    pub kind: LateKind,
    /// The namespace of the unit.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What a watch saw.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A full list of this kind begins. What is not seen before its [`Observation::ListEnd`] is gone.
    ListBegin(&'a GroupKind),
    /// An object, from a list, an event or an answer. Whole, with managedFields.
    Object(&'a Value),
    /// An object was deleted, or no longer carries our label.
    Gone(&'a Value),
    /// The list is complete.
    ListEnd(&'a GroupKind),
    /// The kind cannot be listed or watched (no right, ...): its objects are of unknown state. For people: why.
    Blind(&'a GroupKind, &'a str),
    /// A watch or a list broke off and is begun again: a list that was under way will not be completed.
    Interrupted(&'a GroupKind),
}
