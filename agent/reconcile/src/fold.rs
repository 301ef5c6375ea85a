//! What is worth remembering of a live object: the object passes, a small record stays.
//!
//! Two marks say all that drift needs: one over the fields we own, with the ownership itself (so a field that another
//! manager took from us shows even when its value is the same), and one over what people added to our object. Noise in
//! status, in fields of controllers, in timestamps of other managers changes neither.

use driftless_protocol::bundle::ApplyMode;
use driftless_protocol::marks::{self, FIELD_MANAGER, UNIT_LABEL};
use serde_json::Value;

use crate::added::Added;
use crate::health::{self, Health};
use crate::mark::{Mark, Uid, Version};
use crate::ownership::{self, FieldSet};
use crate::rules::Rules;
use crate::still::Still;

/// Control marks somebody else than us put on the live object, as label or annotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// `reconcile: disabled`: break-glass.
    pub paused: bool,
    /// `ssa`.
    pub apply: ApplyMode,
}

/// A live object, folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// Which incarnation.
    pub uid: Uid,
    /// Which state of it.
    pub version: Version,
    /// Over our field set and the values in it; [`Mark::NONE`] when we own nothing.
    pub owned: Mark,
    /// Is it doing what it is for.
    pub health: Health,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// Our manager has applied it.
    pub applied_by_us: bool,
    /// It carries our owner label.
    pub labelled: bool,
    /// Marks on the live object alone.
    pub controls: Controls,
    /// Part of Flux's own installation (`app.kubernetes.io/part-of: flux`).
    pub part_of_flux: bool,
    /// Some manager other than ours owns `spec.replicas`, and we do not.
    pub replicas_elsewhere: bool,
    /// `spec.replicas`.
    pub replicas: Option<i32>,
    /// What most objects have nothing of.
    pub notes: Option<Box<Notes>>,
    /// Of the text it came as, once noise came: see `still`.
    pub(crate) still: Option<Still>,
}

/// What is to be said of few objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Over what people own and we do not; [`Mark::NONE`] when that is nothing.
    pub added: Mark,
    /// On its health, for people, unless all is well.
    pub health: Option<Box<str>>,
    /// The mark by which it opts out of prune, whoever made it.
    pub keep: Option<&'static str>,
    /// Finalizers that hold up a deletion, for people; `None` while it is not being deleted.
    pub finalizers: Option<Box<str>>,
    /// What others added to it where it matters for security; told by the engine, which knows what is left to them.
    pub additions: Box<[Added]>,
}

impl Folded {
    /// Over what people own and we do not; [`Mark::NONE`] when that is nothing.
    #[must_use]
    pub fn added(&self) -> Mark {
        self.notes.as_ref().map_or(Mark::NONE, |notes| notes.added)
    }

    /// On its health, for people.
    #[must_use]
    pub fn health_message(&self) -> Option<&str> {
        self.notes.as_ref()?.health.as_deref()
    }

    /// What others added to it where it matters for security.
    #[must_use]
    pub fn additions(&self) -> &[Added] {
        self.notes.as_ref().map(|notes| &*notes.additions).unwrap_or_default()
    }

    /// The mark by which it opts out of prune.
    #[must_use]
    pub fn keep(&self) -> Option<&'static str> {
        self.notes.as_ref()?.keep
    }

    /// Finalizers that hold up its deletion.
    #[must_use]
    pub fn finalizers(&self) -> Option<&str> {
        self.notes.as_ref()?.finalizers.as_deref()
    }
}

/// Folds a live object, judged by the expressions of its kind where there are some. `None` when it has no UID: then it is no
/// live object.
#[must_use]
pub fn fold(live: &Value, asked: &[health::Asked], rules: &Rules) -> Option<Folded> {
    let metadata = live.get("metadata")?;
    let text = |field: &str| metadata.get(field).and_then(Value::as_str);
    let uid = Uid::from(text("uid").filter(|uid| !uid.is_empty())?);
    let label = |name: &str| metadata.get("labels")?.get(name)?.as_str();
    let annotation = |name: &str| metadata.get("annotations")?.get(name)?.as_str();
    let (ours, added) = sets(live, rules);
    let mark = |set: &FieldSet<'_>| {
        if set.is_empty() {
            return Mark::NONE;
        }
        let mut hasher = blake3::Hasher::new_keyed(&rules.hash_key);
        set.hash(Some(live), &mut hasher);
        Mark::of(&hasher)
    };
    let replicas_path = ["f:spec", "f:replicas"];
    let replicas_elsewhere = !ours.owns(&replicas_path)
        && ownership::entries(live)
            .any(|e| e.of_spec() && e.manager != FIELD_MANAGER && FieldSet::parse(e.fields).owns(&replicas_path));
    let verdict = health::judge(live, asked);
    let deleting = text("deletionTimestamp").is_some();
    let finalizers = deleting.then(|| {
        let list = metadata.get("finalizers").and_then(Value::as_array);
        let names: Vec<&str> = list.into_iter().flatten().filter_map(Value::as_str).collect();
        names.join(", ").into()
    });
    let keep = [marks::PRUNE, marks::RECONCILE]
        .into_iter()
        .find(|mark| [label(mark), annotation(mark)].into_iter().flatten().any(|v| v.eq_ignore_ascii_case("disabled")));
    let notes = Notes {
        added: mark(&added),
        health: verdict.message.map(Into::into),
        keep,
        finalizers,
        additions: Box::default(),
    };
    Some(Folded {
        uid,
        version: Version::from(text("resourceVersion").unwrap_or_default()),
        owned: mark(&ours),
        health: verdict.health,
        deleting,
        applied_by_us: !ours.is_empty(),
        labelled: label(UNIT_LABEL).is_some(),
        controls: controls(metadata, &ours),
        part_of_flux: label("app.kubernetes.io/part-of") == Some("flux"),
        replicas_elsewhere,
        replicas: live.pointer("/spec/replicas").and_then(Value::as_i64).and_then(|n| n.try_into().ok()),
        notes: (notes != Notes::default()).then(|| Box::new(notes)),
        still: None,
    })
}

/// The control marks that are not ours: what we applied is said by the declaration, which may have changed since.
fn controls(metadata: &Value, ours: &FieldSet<'_>) -> Controls {
    let mark = |name: &str| {
        [("labels", "f:labels"), ("annotations", "f:annotations")].into_iter().find_map(|(of, raw)| {
            let value = metadata.get(of)?.get(name)?.as_str()?;
            (!ours.owns(&["f:metadata", raw, &format!("f:{name}")])).then_some(value)
        })
    };
    let is = |value: Option<&str>, want: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(want));
    let ssa = mark(marks::SSA);
    let modes = [("merge", ApplyMode::Merge), ("ifnotpresent", ApplyMode::IfNotPresent), ("ignore", ApplyMode::Ignore)];
    Controls {
        paused: is(mark(marks::RECONCILE), "disabled"),
        apply: modes.into_iter().find(|(text, _)| is(ssa, text)).map_or(ApplyMode::Override, |(_, mode)| mode),
    }
}

/// Our field set, and what people own beyond it. In shadow mode what another GitOps tool applied counts as ours: that is what
/// a take-over makes of it.
#[must_use]
pub fn sets<'a>(live: &'a Value, rules: &Rules) -> (FieldSet<'a>, FieldSet<'a>) {
    let (mut ours, mut people) = (FieldSet::default(), FieldSet::default());
    for entry in ownership::entries(live) {
        let tool = rules.shadow && entry.of_spec() && ownership::listed(entry.manager, &rules.tools);
        if entry.is_ours() || tool {
            ours.union(&FieldSet::parse(entry.fields));
        } else if entry.of_spec() && ownership::listed(entry.manager, &rules.humans) {
            people.union(&FieldSet::parse(entry.fields));
        }
    }
    let mut added = people.difference(&ours);
    added.remove(&ownership::RESTARTED_AT);
    (ours, added)
}
