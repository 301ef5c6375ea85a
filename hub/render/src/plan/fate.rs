//! What becomes of objects that left Git: the rules of the agent (`agent/reconcile`, prune), as far as Git can tell.

use std::collections::BTreeSet;

use driftless_protocol::bundle::{DeletionPolicy, UnitSpec};
use driftless_protocol::guard;
use driftless_protocol::id::UnitId;
use driftless_protocol::marks;
use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::model::{Fate, FateKind};

/// Why deletes beyond the budget wait.
pub(crate) const BEYOND_BUDGET: &str = "more deletes than the budget allows in an hour";

/// What is the same for all objects of a cluster.
pub(crate) struct Circumstances {
    /// The unit that defines units, or may, and could not be built; `None`: there is no such unit.
    pub(crate) torn: Option<UnitId>,
    /// Units that can no longer be built, or are new and cannot: they may declare what left another.
    pub(crate) fresh_held: BTreeSet<UnitId>,
}

/// How the unit stands that the object left.
#[derive(Clone, Copy)]
pub(crate) enum Standing<'a> {
    /// It is still built, with this spec, to some objects or to none.
    Built { spec: &'a UnitSpec, empty: bool },
    /// It left Git; its last spec.
    Left { spec: &'a UnitSpec },
}

/// The word on one object that no unit declares any more. The budget is judged over all of them together: [`over_budget`].
pub(crate) fn of(key: &ObjectKey, object: &Value, standing: Standing<'_>, around: &Circumstances) -> Fate {
    if let (Standing::Left { .. }, Some(unit)) = (standing, &around.torn) {
        let why = format!("unit {unit} is not built and may define units: none that is not found counts as gone");
        return fate(FateKind::Waits, why);
    }
    if let Some(unit) = around.fresh_held.first() {
        let more = match around.fresh_held.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        return fate(FateKind::Waits, format!("unit {unit}{more} cannot be built and may declare it now"));
    }
    if let Some(why) = left_alone(key, object, standing) {
        return fate(FateKind::LeftAlone, why);
    }
    if guard::is_protected(key) {
        let why = format!("a {} is deleted only when approved: what it holds goes with it", key.kind);
        return fate(FateKind::NeedsApproval, why);
    }
    if matches!(standing, Standing::Built { empty: true, .. }) {
        return fate(FateKind::NeedsApproval, "its unit has no objects at all any more");
    }
    fate(FateKind::Deleted, "")
}

fn fate(is: FateKind, why: impl Into<String>) -> Fate {
    Fate { is, why: why.into() }
}

fn left_alone(key: &ObjectKey, object: &Value, standing: Standing<'_>) -> Option<String> {
    let mark = |of: &str, name: &str| object.get("metadata")?.get(of)?.get(name)?.as_str();
    let disabled = |key: &str| [mark("labels", key), mark("annotations", key)].contains(&Some("disabled"));
    if let Some(key) = [marks::PRUNE, marks::RECONCILE].into_iter().find(|key| disabled(key)) {
        return Some(format!("{key}: disabled"));
    }
    if let Some(why) = guard::part_of_agent(key, marks::AGENT_NAMESPACE) {
        return Some(why.to_owned());
    }
    let namespace = guard::is_namespace(key);
    if namespace && guard::KUBERNETES_NAMESPACES.contains(&key.name.as_str()) {
        return Some("a namespace of Kubernetes itself".to_owned());
    }
    if namespace && mark("labels", "app.kubernetes.io/part-of") == Some("flux") {
        return Some("Flux's own namespace".to_owned());
    }
    match standing {
        Standing::Left { spec } => match spec.deletion_policy {
            DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => None,
            DeletionPolicy::Orphan => Some("deletionPolicy of its unit is Orphan".to_owned()),
            DeletionPolicy::MirrorPrune => (!spec.prune).then(|| "prune of its unit is off".to_owned()),
        },
        Standing::Built { spec, .. } => (!spec.prune).then(|| "prune of its unit is off".to_owned()),
    }
}

/// All or nothing, as the agent has it: beyond the budget every delete waits. The budget, when it was not enough.
pub(crate) fn over_budget<'a>(inventory: usize, fates: impl Iterator<Item = &'a mut Fate>) -> Option<u32> {
    let deleted: Vec<&mut Fate> = fates.filter(|fate| fate.is == FateKind::Deleted).collect();
    let budget = guard::budget(inventory, guard::DELETE_BUDGET_MIN, guard::DELETE_BUDGET_PERCENT);
    if deleted.len() <= budget as usize {
        return None;
    }
    for one in deleted {
        *one = fate(FateKind::NeedsApproval, BEYOND_BUDGET);
    }
    Some(budget)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(prune: bool, deletion_policy: DeletionPolicy) -> UnitSpec {
        let spec = json!({"prune": prune, "deletionPolicy": deletion_policy, "intervalSeconds": 1, "retryIntervalSeconds": 1,
            "timeoutSeconds": 1, "wait": false, "force": false});
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn the_first_rule_with_an_opinion_decides() {
        let plain = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "n"}});
        let marked = |of: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", of: {(marks::PRUNE): "disabled"}}});
        let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        let around = |whole: bool, held: &[&str]| Circumstances {
            torn: (!whole).then(|| UnitId::kustomization("flux-system", "root")),
            fresh_held: held.iter().map(|n| UnitId::kustomization("flux-system", *n)).collect(),
        };
        let (calm, broken, torn) = (around(true, &[]), around(true, &["b"]), around(false, &[]));
        let (on, off) = (spec(true, DeletionPolicy::MirrorPrune), spec(false, DeletionPolicy::MirrorPrune));
        let orphan = spec(true, DeletionPolicy::Orphan);
        let delete = spec(false, DeletionPolicy::Delete);
        let built = |spec| Standing::Built { spec, empty: false };
        use FateKind::{Deleted, LeftAlone, NeedsApproval, Waits};
        for (object, standing, around, expected, word) in [
            (plain("ConfigMap", "x"), built(&on), &calm, Deleted, ""),
            (plain("ConfigMap", "x"), built(&off), &calm, LeftAlone, "prune"),
            (plain("ConfigMap", "x"), built(&orphan), &calm, Deleted, ""),
            (plain("ConfigMap", "x"), Standing::Left { spec: &on }, &calm, Deleted, ""),
            (plain("ConfigMap", "x"), Standing::Left { spec: &off }, &calm, LeftAlone, "prune"),
            (plain("ConfigMap", "x"), Standing::Left { spec: &orphan }, &calm, LeftAlone, "Orphan"),
            (plain("ConfigMap", "x"), Standing::Left { spec: &delete }, &calm, Deleted, ""),
            (plain("ConfigMap", "x"), Standing::Left { spec: &on }, &torn, Waits, "unit flux-system/root is not built"),
            (plain("ConfigMap", "x"), built(&on), &torn, Deleted, ""),
            (plain("ConfigMap", "x"), built(&on), &broken, Waits, "flux-system/b"),
            (plain("ConfigMap", "x"), Standing::Built { spec: &on, empty: true }, &calm, NeedsApproval, "no objects"),
            (plain("PersistentVolumeClaim", "x"), built(&on), &calm, NeedsApproval, "approved"),
            (plain("PersistentVolumeClaim", "x"), built(&off), &calm, LeftAlone, "prune"),
            (marked("labels"), built(&on), &calm, LeftAlone, "prune: disabled"),
            (marked("annotations"), built(&on), &calm, LeftAlone, "prune: disabled"),
            (namespace("apps", json!({})), built(&on), &calm, NeedsApproval, "Namespace"),
            (namespace("kube-system", json!({})), built(&on), &calm, LeftAlone, "Kubernetes"),
            (namespace("driftless-system", json!({})), built(&on), &calm, LeftAlone, "agent"),
            (
                namespace("flux-system", json!({"app.kubernetes.io/part-of": "flux"})),
                built(&on),
                &calm,
                LeftAlone,
                "Flux",
            ),
        ] {
            let key = ObjectKey::of(&object).unwrap();
            let got = of(&key, &object, standing, around);
            assert_eq!(got.is, expected, "{object}");
            assert!(got.why.contains(word), "{}", got.why);
        }
    }

    #[test]
    fn beyond_the_budget_every_delete_waits() {
        let deletes = |n: usize| vec![fate(FateKind::Deleted, ""); n];
        for (inventory, asked, over) in [(0, 20, false), (0, 21, true), (300, 30, false), (300, 31, true)] {
            let mut fates = deletes(asked);
            fates.push(fate(FateKind::LeftAlone, "x"));
            assert_eq!(over_budget(inventory, fates.iter_mut()).is_some(), over, "{asked} of {inventory}");
            let waiting = fates.iter().filter(|f| f.is == FateKind::NeedsApproval).count();
            assert_eq!(waiting, if over { asked } else { 0 });
        }
    }
}
