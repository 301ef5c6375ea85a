//! Which objects that only Flux's inventory has become ours, once their unit is taken over.
//!
//! Git dropped them while Flux was suspended: Flux would have pruned them, and no watch of ours shows them, since they carry
//! Flux's owner labels and not ours. An object is adopted only when nothing speaks against it, and is then deleted by the same
//! rules as everything else that left Git ([`crate::prune`]), never faster or wider. Until its delete nothing is written to it,
//! so that Flux, resumed, finds it as it left it.

use driftless_protocol::id::UnitId;
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use crate::fold::Folded;
use crate::inventory::{Entry, UnitRecord};
use crate::prune::{self, Candidate, Seen, Standing, Verdict};
use crate::rules::Rules;

/// Characters of the hash that kustomize puts at the end of a generated name.
const HASH: usize = 10;

/// A live object that only Flux's inventory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The Kustomization its owner labels name.
    pub owner: Option<UnitId>,
    /// As which `group/version` it was read.
    pub api_version: String,
    /// The rest of what matters.
    pub live: Folded,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is adopted, and what the prune rules say of it from then on. Never [`Verdict::Forget`].
    Adopted(Verdict),
    /// It is left alone: why, for people.
    Left(String),
}

/// The Kustomization that an object's owner labels name.
#[must_use]
pub fn owner(live: &Value) -> Option<UnitId> {
    let labels = live.pointer("/metadata/labels")?;
    let label = |name: &str| labels.get(name)?.as_str();
    Some(UnitId::kustomization(label(marks::FLUX_OWNER_NAMESPACE)?, label(marks::FLUX_OWNER_NAME)?))
}

/// Judges an object of Flux's inventory that no unit declares, for the unit whose Kustomization has it there. `moved_to`: the
/// suspended unit that declares it.
#[must_use]
pub fn fate(
    key: &ObjectKey,
    found: &Found,
    entry: &Entry,
    record: &UnitRecord,
    standing: Standing<'_>,
    moved_to: Option<&UnitId>,
    rules: &Rules,
) -> Fate {
    let left = |why: String| Fate::Left(why);
    if found.live.part_of_flux {
        return left("part of Flux's own installation".to_owned());
    }
    if found.live.labelled {
        return left(
            "it carries the mark of Driftless already, so that Flux's inventory is older than our apply".to_owned(),
        );
    }
    match &found.owner {
        None => return left("it carries no owner labels of Flux".to_owned()),
        Some(owner) if *owner != *entry.unit => {
            return left(format!("its owner labels name Kustomization {owner}, and not {}", entry.unit));
        }
        Some(_) => {}
    }
    if found.live.deleting {
        return left("it is being deleted already".to_owned());
    }
    let live = Folded { labelled: true, ..found.live.clone() };
    let candidate = Candidate {
        key,
        entry,
        record: Some(record),
        live: Seen::Live(&live),
        standing,
        inventory_whole: true,
        suspects: &std::collections::BTreeSet::new(),
        moved_to,
        paused: None,
        approved: false,
    };
    match prune::judge(&candidate, rules) {
        Verdict::Forget { why } => left(why.unwrap_or_else(|| "it is gone".to_owned())),
        verdict => Fate::Adopted(verdict),
    }
}

/// Whether an object may be what a unit declares and the hub does not send: its name may be known in part only, since it ends
/// in a hash of encrypted content, or holds a variable that only the cluster has.
#[must_use]
pub fn may_be(withheld: &ObjectKey, key: &ObjectKey) -> bool {
    let same = |declared: &str, live: &str| declared == live || declared.contains('$');
    let hashed = || {
        let generated = key.group.is_empty() && matches!(key.kind.as_str(), "Secret" | "ConfigMap");
        let hash = key.name.strip_prefix(withheld.name.as_str()).and_then(|rest| rest.strip_prefix('-'));
        generated && hash.is_some_and(|hash| hash.len() == HASH && hash.bytes().all(|b| b.is_ascii_alphanumeric()))
    };
    same(&withheld.group, &key.group)
        && same(&withheld.kind, &key.kind)
        && same(&withheld.namespace, &key.namespace)
        && (same(&withheld.name, &key.name) || hashed())
}
