//! Workloads whose replicas an autoscaler owns, and what is therefore changed in the bytes that are sent.

use driftless_protocol::object::{ObjectKey, group_of};
use serde_json::Value;

use super::Engine;
use super::state::{Ix, Live};
use crate::ignore::Fate;
use crate::input::GroupKind;
use crate::step::Edit;

/// Workloads whose `spec.replicas` an autoscaler may own.
pub(super) fn scalable(key: &ObjectKey) -> bool {
    key.group == "apps" && matches!(key.kind.as_str(), "Deployment" | "StatefulSet" | "ReplicaSet")
}

/// Kinds that target a workload.
pub(super) fn autoscaler_kinds() -> [GroupKind; 2] {
    [("autoscaling", "HorizontalPodAutoscaler"), ("keda.sh", "ScaledObject")]
        .map(|(group, kind)| GroupKind { group: group.into(), kind: kind.into() })
}

/// The workload an autoscaler targets.
pub(super) fn scale_target(autoscaler: &Value) -> Option<ObjectKey> {
    let target = autoscaler.pointer("/spec/scaleTargetRef")?;
    let text = |field: &str| target.get(field).and_then(Value::as_str);
    let (default_version, default_kind) = match autoscaler.get("kind")?.as_str()? {
        // KEDA's defaults.
        "ScaledObject" => (Some("apps/v1"), Some("Deployment")),
        _ => (None, None),
    };
    Some(ObjectKey {
        group: group_of(text("apiVersion").or(default_version)?).into(),
        kind: text("kind").or(default_kind)?.into(),
        namespace: autoscaler.pointer("/metadata/namespace")?.as_str()?.into(),
        name: text("name")?.into(),
    })
}

impl Engine {
    pub(super) fn autoscaler_gone(&mut self, key: &ObjectKey) {
        if let Some(target) = self.autoscalers.remove(key) {
            self.retarget();
            if let Some(ix) = self.by_key.get(&target).copied() {
                if let Some(obj) = self.obj_mut(ix) {
                    // What was explained by it is not any more.
                    obj.rare.clear(|rare| rare.drift = None);
                    obj.recheck |= obj.live.folded().is_some();
                }
                self.touch_object(ix);
            }
        }
    }

    pub(super) fn retarget(&mut self) {
        self.scaled = self.autoscalers.values().cloned().collect();
    }

    /// An autoscaler, declared or live, targets this workload.
    pub(super) fn autoscaled(&self, key: &ObjectKey) -> bool {
        !self.scaled.is_empty() && scalable(key) && self.scaled.contains(key)
    }

    /// What the agent changes in an object's bytes now.
    pub(super) fn edits(&self, ix: Ix) -> Vec<Edit> {
        let mut edits = Vec::new();
        let Some(obj) = self.obj(ix) else { return edits };
        if obj.key.kind == "Secret" && obj.key.group.is_empty() {
            edits.push(Edit::EncodeStringData);
        }
        let Live::Present(live) = &obj.live else { return edits };
        if self.autoscaled(&obj.key) {
            match live.replicas_elsewhere {
                true => edits.push(Edit::OmitReplicas),
                false => edits.extend(live.replicas.map(Edit::LiveReplicas)),
            }
        }
        let (mut drop, mut adopt) = (Vec::new(), Vec::new());
        for (pointer, fate) in obj.rare.ignored.iter().flat_map(|ignored| ignored.iter()) {
            match fate {
                Fate::Drop => drop.push(pointer.clone()),
                Fate::Adopt(value) => adopt.push((pointer.clone(), value.clone())),
            }
        }
        // Values first: an index means the item it meant in Git.
        edits.extend((!adopt.is_empty()).then_some(Edit::KeepLive(adopt)));
        edits.extend((!drop.is_empty()).then_some(Edit::DropFields(drop)));
        edits
    }
}
