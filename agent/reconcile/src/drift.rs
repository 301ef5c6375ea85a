//! Drift: what differs from what was applied, which manager claims it, and what kind of writer that looks like.
//!
//! The baseline is the server's answer to our own last apply. Where that answer differed from what was declared
//! (normalised quantities, defaults inside atomic values, admission), the difference is remembered as a mark per path and
//! explains the same live value later, across restarts, without a request.

use std::collections::BTreeMap;

use driftless_protocol::bundle::DriftMode;
use driftless_protocol::canonical;
use driftless_protocol::marks::FIELD_MANAGER;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, FieldDrift, LIST_LIMIT};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fill::Hidden;
use crate::fold;
use crate::ignore;
use crate::mark::Mark;
use crate::ownership::{self, Entry, FieldSet};
use crate::rules::Rules;
use crate::walk::{self, Path};

/// Longest value shown in a report, in bytes of JSON.
const SHOWN: usize = 256;
/// Most paths in an overlay. Beyond it the object is one whose every apply looks like drift; the report says so by path.
const OVERLAY_LIMIT: usize = 500;

/// The paths where the server's answer differed from what was declared, each with the mark of the answered value
/// ([`Mark::NONE`]: the field was not in the answer). Marks and not values: short, and no secret is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Overlay(BTreeMap<Box<str>, Mark>);

impl Overlay {
    /// Nothing differed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths, for people.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|path| &**path)
    }

    /// Where an answer differs from what was declared. `secret`: paths may hold values of Secrets (as keys of maps and list
    /// items), so only their marks are kept.
    #[must_use]
    pub fn between(declared: &Value, answer: &Value, secret: bool, rules: &Rules) -> Self {
        let mut paths = BTreeMap::new();
        walk::differences(declared, answer, &ownership::everybody(answer), &mut |path, _, answered| {
            if paths.len() < OVERLAY_LIMIT {
                let name = if secret { path_mark(path, rules).into() } else { path.shown().into() };
                paths.insert(name, value_mark(answered, rules));
            }
        });
        Self(paths)
    }

    /// What an answer has at a path that is not declared.
    pub(crate) fn stays(&mut self, shown: &str, answered: Option<&Value>, secret: bool, rules: &Rules) {
        if self.0.len() < OVERLAY_LIMIT {
            let name = if secret { name_mark(shown, rules).into() } else { shown.into() };
            self.0.insert(name, value_mark(answered, rules));
        }
    }

    fn explains(&self, path: &Path, live: Option<&Value>, rules: &Rules) -> bool {
        let known = self.0.get(path.shown()).or_else(|| self.0.get(path_mark(path, rules).as_str()));
        known.is_some_and(|mark| *mark == value_mark(live, rules))
    }
}

fn path_mark(path: &Path, rules: &Rules) -> String {
    name_mark(path.shown(), rules)
}

fn name_mark(shown: &str, rules: &Rules) -> String {
    format!("#{}", Mark::of_bytes(&rules.hash_key, shown.as_bytes()))
}

/// What the last apply of an object left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// Of the declared bytes and the edits made in them.
    #[serde(rename = "d")]
    pub desired: Mark,
    /// [`Folded::owned`](crate::fold::Folded::owned) of the answer.
    #[serde(rename = "o")]
    pub owned: Mark,
    /// Where the answer differed.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Box<Overlay>>,
}

impl Baseline {
    /// The baseline after an answer. `declared` is what was sent, edits made; `owned` comes from folding the answer.
    /// `secret` as for [`Overlay::between`].
    #[must_use]
    pub fn new(desired: Mark, owned: Mark, declared: &Value, answer: &Value, secret: bool, rules: &Rules) -> Self {
        let overlay = Overlay::between(declared, answer, secret, rules);
        Self { desired, owned, overlay: (!overlay.is_empty()).then(|| Box::new(overlay)) }
    }
}

fn value_mark(value: Option<&Value>, rules: &Rules) -> Mark {
    value.map_or(Mark::NONE, |value| Mark::of_bytes(&rules.hash_key, &canonical::value_to_vec(value)))
}

/// What a comparison takes into account besides the two objects.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where the answer to the last apply differed.
    pub overlay: Option<&'a Overlay>,
    /// An autoscaler targets it, so a foreign `spec.replicas` is of class autoscaler.
    pub autoscaled: bool,
    /// Fields left to others, as JSON pointers.
    pub ignore: &'a [String],
    /// Fields of which drift is left and shown.
    pub observe: &'a [String],
    /// The same, alerted besides.
    pub warn: &'a [String],
    /// What people added is no drift.
    pub merge: bool,
    /// What a value of a Secret went into; neither side of such a field is shown.
    pub hidden: &'a Hidden,
    /// Settings.
    pub rules: &'a Rules,
}

/// Who seems to have written a field: manager, when (Unix milliseconds), class.
type Writer = (Option<String>, Option<u64>, DriftClass);

/// The fields of a live object that drifted: declared ones with another value than the last apply left, those people
/// added, and those that are ours and not declared: what people added and a take-over made ours, whose apply never came.
/// At most [`LIST_LIMIT`].
#[must_use]
pub fn diff(key: &ObjectKey, declared: &Value, live: &Value, context: &Context<'_>) -> Vec<FieldDrift> {
    let Context { overlay, autoscaled, ignore, observe, warn, merge, hidden, rules } = *context;
    let mode = |path: &Path| match () {
        () if !warn.is_empty() && ignore::covers(warn, path, live) => Some(DriftMode::Warn),
        () if !observe.is_empty() && ignore::covers(observe, path, live) => Some(DriftMode::Observe),
        () => None,
    };
    let ignored = |path: &Path| !ignore.is_empty() && ignore::covers(ignore, path, live);
    let writers = Writers::of(live, autoscaled, rules);
    let secret = key.is_secret();
    let in_secret = |path: &Path| secret && !path.shown().starts_with("metadata.labels");
    let mut out = Vec::new();
    let shown_path = |path: &Path| match hidden {
        Hidden::Nothing => path.shown().to_owned(),
        _ => {
            let raw = path.raw();
            let keys = hidden.shown_keys(&raw, declared);
            let mut shown = walk::shown(raw.get(..keys).unwrap_or_default());
            if keys < raw.len() {
                shown.push_str(".(hidden)");
            }
            shown
        }
    };
    // A pointer spells the same keys.
    let pointer = |path: &Path| {
        let raw = path.raw();
        (hidden.shown_keys(&raw, declared) == raw.len()).then(|| ignore::pointer(path, live)).flatten()
    };
    walk::differences(declared, live, &ownership::everybody(live), &mut |path, want, have| {
        let explained = overlay.is_some_and(|overlay| overlay.explains(path, have, rules));
        if out.len() < LIST_LIMIT && !explained && !ignored(path) {
            let hide = in_secret(path) || !hidden.shows(&path.raw(), want);
            let shown = |value: &Value| show(value, hide, rules);
            let (manager, at, class) = writers.who(&path.raw(), have.is_none());
            out.push(FieldDrift {
                key: key.clone(),
                path: shown_path(path),
                pointer: pointer(path),
                desired: Some(shown(want)),
                live: have.map(shown),
                manager,
                at,
                class,
                mode: mode(path),
            });
        }
    });
    if merge {
        return out;
    }
    let (ours, added) = fold::sets(live, rules);
    let mut beyond = |set: &FieldSet<'_>, who: &dyn Fn(&Path) -> Writer| {
        additions(&mut Path::default(), set, Some(declared), Some(live), &mut |path, value| {
            let explained = rules.shadow && overlay.is_some_and(|overlay| overlay.explains(path, Some(value), rules));
            if out.len() >= LIST_LIMIT || explained || ignored(path) {
                return;
            }
            let (manager, at, class) = who(path);
            out.push(FieldDrift {
                key: key.clone(),
                path: shown_path(path),
                pointer: pointer(path),
                desired: None,
                live: Some(show(value, in_secret(path), rules)),
                manager,
                at,
                class,
                mode: mode(path),
            });
        });
    };
    beyond(&added, &|path| writers.who(&path.raw(), false));
    if rules.shadow {
        // What another tool applied and is not declared would go with a take-over.
        beyond(&ours, &|path| writers.who(&path.raw(), false));
    } else {
        beyond(&ours, &|_| (Some(FIELD_MANAGER.to_owned()), writers.ours_at, DriftClass::Human));
    }
    out
}

/// Whether a field that is left is so by this pointer, at which this is live.
#[must_use]
pub fn is_left_by(field: &FieldDrift, pointer: &str, live: Option<&Value>) -> bool {
    field.mode.is_some()
        && match &field.pointer {
            Some(at) => at.strip_prefix(pointer).is_some_and(|below| below.is_empty() || below.starts_with('/')),
            // It was removed.
            None => live.is_none(),
        }
}

/// Calls `found` for each topmost path in `set` that is live and not declared.
fn additions(
    path: &mut Path,
    set: &FieldSet<'_>,
    declared: Option<&Value>,
    live: Option<&Value>,
    found: &mut dyn FnMut(&Path, &Value),
) {
    for (raw, node) in set.iter() {
        let Some(value) = live.and_then(|live| ownership::child(live, raw)) else { continue };
        let wanted = declared.and_then(|declared| declared_child(declared, raw, value));
        path.at(raw, |path| {
            let item = raw.starts_with("k:") || raw.starts_with("v:");
            let whole = node.below.is_empty() || (item && node.member);
            match wanted {
                None if whole => found(path, value),
                // A declared leaf that people also own, or took from us: the walk over declared fields has it.
                Some(_) if node.below.is_empty() => {}
                wanted => additions(path, &node.below, wanted, Some(value), found),
            }
        });
    }
}

/// The declared counterpart of a live child; a declared list item may leave out keys that have defaults.
fn declared_child<'v>(declared: &'v Value, raw: &str, live: &Value) -> Option<&'v Value> {
    if let Some(exact) = ownership::child(declared, raw) {
        return Some(exact);
    }
    let key = raw.strip_prefix("k:")?;
    let Ok(Value::Object(key)) = serde_json::from_str::<Value>(key) else { return None };
    declared.as_array()?.iter().find(|item| {
        let mut named = false;
        key.keys().all(|name| match item.get(name) {
            None => true,
            Some(value) => {
                named = true;
                live.get(name) == Some(value)
            }
        }) && named
    })
}

/// The writers of a live object other than our applies.
struct Writers<'a> {
    entries: Vec<(Entry<'a>, FieldSet<'a>)>,
    ours_at: Option<u64>,
    autoscaled: bool,
    rules: &'a Rules,
}

impl<'a> Writers<'a> {
    fn of(live: &'a Value, autoscaled: bool, rules: &'a Rules) -> Self {
        let mut ours_at = None;
        let mut entries = Vec::new();
        for entry in ownership::entries(live) {
            if entry.is_ours() {
                ours_at = entry.time;
            } else if entry.of_spec() {
                entries.push((entry, FieldSet::parse(entry.fields)));
            }
        }
        Self { entries, ours_at, autoscaled, rules }
    }

    /// Who claims a path: manager, time, class. A field that was removed has no owner any more: then the last to write
    /// after us is named, since managedFields says no better.
    fn who(&self, path: &[&str], removed: bool) -> Writer {
        let owner = self.entries.iter().filter(|(_, set)| set.owns(path)).max_by_key(|(e, _)| e.time);
        let owner = owner.or_else(|| {
            let later = |e: &Entry<'_>| e.time.is_some() && e.time >= self.ours_at;
            self.entries.iter().filter(|(e, _)| removed && later(e)).max_by_key(|(e, _)| e.time)
        });
        let Some((entry, _)) = owner else {
            return (None, None, if removed { DriftClass::Controller } else { DriftClass::Defaulting });
        };
        let class = if path == ["f:spec", "f:replicas"] && self.autoscaled {
            DriftClass::Autoscaler
        } else {
            class_of(entry, self.rules)
        };
        (Some(entry.manager.to_owned()), entry.time, class)
    }
}

/// What kind of writer a manager other than our apply looks like.
pub(crate) fn class_of(entry: &Entry<'_>, rules: &Rules) -> DriftClass {
    if entry.manager == FIELD_MANAGER {
        // Not an apply of ours, but under our name: what admission changed in our request.
        DriftClass::Admission
    } else if ownership::listed(entry.manager, &rules.humans) {
        DriftClass::Human
    } else if ownership::listed(entry.manager, &rules.tools) {
        DriftClass::GitOps
    } else {
        DriftClass::Controller
    }
}

/// A value for a report: JSON, shortened; a keyed digest of what is not to be seen.
fn show(value: &Value, hide: bool, rules: &Rules) -> String {
    let mut text = walk::text(value);
    if hide {
        let mark = Mark::of_bytes(&rules.hash_key, text.as_bytes()).to_string();
        return format!("digest:{}", &mark[..12]);
    }
    cut(&mut text);
    text
}

/// Shortens a value for a report.
pub(crate) fn cut(text: &mut String) {
    if text.len() > SHOWN {
        let mut end = SHOWN;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}
