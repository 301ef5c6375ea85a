//! What was refused is tried again when its cause goes away, and by time only as a last resort.

use driftless_protocol::object::ObjectKey;
use serde_json::Value;

use super::Engine;
use super::state::Ix;
use crate::input::Millis;
use crate::retry::Class;

/// Objects that may be the cause of refusals can change often; what they refuse is not tried more often than this.
const WAKE_EVERY: Millis = 5_000;

/// What has changed and may have been the cause of refusals, and when those are tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Causes {
    pub(super) at: Millis,
    rights: bool,
    rules: bool,
}

impl Engine {
    /// A namespace was seen. What waits for one of that name goes on.
    pub(super) fn see_namespace(&mut self, live: &Value, now: Millis) {
        let Some(name) = live.pointer("/metadata/name").and_then(Value::as_str) else { return };
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            self.namespaces.remove(name);
        } else if self.namespaces.insert(name.to_owned()) {
            self.retry(|key, class| class == Class::NamespaceMissing && key.namespace == name, now);
        }
    }

    /// An object of ours changed, came or went: what it may have refused is tried again.
    pub(super) fn cause_changed(&mut self, ix: Ix, now: Millis) {
        let Some(key) = self.obj(ix).map(|obj| &obj.key) else { return };
        let rights = key.group == "rbac.authorization.k8s.io";
        let rules = key.group == "admissionregistration.k8s.io"
            || matches!((&*key.group, &*key.kind), ("", "Namespace" | "ResourceQuota" | "LimitRange"))
            || key.group == "kyverno.io";
        if !(rights || rules) {
            return;
        }
        let (before_rights, before_rules) = self.causes.map_or((false, false), |causes| (causes.rights, causes.rules));
        let at = now.max(self.woke.saturating_add(WAKE_EVERY));
        self.causes = Some(Causes { at, rights: rights || before_rights, rules: rules || before_rules });
        self.wake_refused(now);
    }

    /// Tries again what may have been refused by what has changed since, once that is due.
    pub(super) fn wake_refused(&mut self, now: Millis) {
        let Some(Causes { rights, rules, .. }) = self.causes.filter(|causes| causes.at <= now) else { return };
        self.causes = None;
        let mut any = false;
        self.retry(
            |_, class| {
                let of = (rights && class == Class::Forbidden)
                    || (rules && matches!(class, Class::Refused | Class::Forbidden));
                any |= of;
                of
            },
            now,
        );
        if any {
            self.woke = now;
        }
    }

    /// Tries failed objects again now.
    fn retry(&mut self, mut which: impl FnMut(&ObjectKey, Class) -> bool, now: Millis) {
        let mut again = Vec::new();
        for (ix, obj) in (0..).zip(&mut self.objects) {
            let Some(obj) = obj else { continue };
            if let Some(trouble) = obj.rare.there().and_then(|rare| rare.trouble.as_mut())
                && trouble.next > now
                && which(&obj.key, trouble.class)
            {
                trouble.next = now;
                again.push(ix);
            }
        }
        for ix in again {
            self.touch_object(ix);
        }
    }
}
