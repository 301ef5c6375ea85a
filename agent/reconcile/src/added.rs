//! What others than people added to an object of ours where it matters for security: it stays, and is told.
//!
//! People's additions are drift. Those of controllers stay, since a cluster could not work otherwise; but a container, a
//! right or a way to the host that Git does not know of is worth a look whoever added it (decisions.md). Told are the pod
//! spec of a Pod, those in `spec.template` and `spec.jobTemplate` of any kind, and the rules and subjects of RBAC. What Git
//! leaves to others by an ignore rule is not.

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::DriftClass;
use serde_json::Value;

use crate::contest;
use crate::drift;
use crate::ignore;
use crate::input::Millis;
use crate::ownership::{self, FieldSet};
use crate::rules::Rules;
use crate::walk::{self, Path};

/// Most that are told of one object.
pub const MOST: usize = 16;

/// One addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// As [`FieldDrift::path`](driftless_protocol::report::FieldDrift::path).
    pub path: Box<str>,
    /// As JSON; of a container its image.
    pub value: Box<str>,
    /// The manager that claims it.
    pub manager: Box<str>,
    /// What kind of writer that looks like.
    pub class: DriftClass,
    /// When that manager had last written, as far as known, when it was first noticed.
    pub since: Millis,
    /// Its unit was told.
    pub told: bool,
}

impl Added {
    /// It is the same as before, whenever it was written.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        (&self.path, &self.value, &self.manager, self.class) == (&other.path, &other.value, &other.manager, other.class)
    }

    /// Worth an alert. What admission made of our own request is in every answer to an apply, and only shown.
    #[must_use]
    pub fn alerts(&self) -> bool {
        self.class != DriftClass::Admission
    }
}

/// Where in an object it matters.
#[derive(Clone, Copy)]
enum Place {
    /// In the pod spec at this path, with these raw keys.
    Pod(&'static str, &'static [&'static str]),
    /// In rights.
    Rights,
}

impl Place {
    /// The places of a kind: those of any kind with a pod template are looked at where they are.
    fn of(key: &ObjectKey) -> &'static [Self] {
        const POD: [Place; 1] = [Place::Pod("spec.", &["f:spec"])];
        const TEMPLATE: [Place; 2] = [
            Place::Pod("spec.template.spec.", &["f:spec", "f:template", "f:spec"]),
            Place::Pod(
                "spec.jobTemplate.spec.template.spec.",
                &["f:spec", "f:jobTemplate", "f:spec", "f:template", "f:spec"],
            ),
        ];
        match (key.group.as_str(), &*key.kind) {
            ("rbac.authorization.k8s.io", _) => &[Self::Rights],
            ("", "Pod") => &POD,
            _ => &TEMPLATE,
        }
    }

    /// Whether a set of fields may hold any: told without reading it.
    fn mentioned(self, fields: &Value) -> bool {
        match self {
            Self::Rights => RIGHTS.iter().any(|raw| fields.get(raw).is_some()),
            Self::Pod(_, raw) => raw.iter().try_fold(fields, |below, raw| below.get(raw)).is_some(),
        }
    }

    fn matters(self, path: &Path, value: &Value) -> bool {
        match self {
            Self::Rights => path.raw().first().is_some_and(|first| RIGHTS.contains(first)),
            Self::Pod(prefix, _) => path
                .shown()
                .strip_prefix(prefix)
                .is_some_and(|below| contest::is_guarded_path(below) || value.get("hostPath").is_some()),
        }
    }
}

/// Fields of RBAC objects that give rights.
const RIGHTS: [&str; 4] = ["f:rules", "f:subjects", "f:roleRef", "f:aggregationRule"];

/// What others added to a live object that we applied. `ignored`: JSON pointers of what is left to others; `people`:
/// people's additions stay too.
#[must_use]
pub fn additions(
    key: &ObjectKey,
    live: &Value,
    (ignored, people): (&[String], bool),
    rules: &Rules,
    now: Millis,
) -> Vec<Added> {
    let places = Place::of(key);
    // The control plane writes the rules of such a role, from roles that carry the labels it names.
    if matches!(places, [Place::Rights]) && live.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        return Vec::new();
    }
    let foreign = |entry: &ownership::Entry<'_>| {
        !entry.is_ours() && entry.of_spec() && places.iter().any(|place| place.mentioned(entry.fields))
    };
    if !ownership::entries(live).any(|entry| foreign(&entry)) {
        return Vec::new();
    }
    let mut ours = FieldSet::default();
    for entry in ownership::entries(live).filter(ownership::Entry::is_ours) {
        ours.union(&FieldSet::parse(entry.fields));
    }
    let mut out: Vec<Added> = Vec::new();
    for entry in ownership::entries(live).filter(foreign) {
        let class = drift::class_of(&entry, rules);
        if class == DriftClass::Human && !people {
            continue;
        }
        beyond(&mut Path::default(), &FieldSet::parse(entry.fields), Some(&ours), live, &mut |path, value| {
            let known = out.iter().any(|added| *added.path == *path.shown());
            if !known && places.iter().any(|place| place.matters(path, value)) && !ignore::covers(ignored, path, live) {
                out.push(Added {
                    path: path.shown().into(),
                    value: walk::text(value.get("image").unwrap_or(value)).into(),
                    manager: entry.manager.into(),
                    class,
                    since: entry.time.unwrap_or(now),
                    told: false,
                });
            }
        });
    }
    // The same ones whoever wrote last.
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out.truncate(MOST);
    out
}

/// Calls `found` for each topmost live field of a set that is not ours.
fn beyond(
    path: &mut Path,
    set: &FieldSet<'_>,
    ours: Option<&FieldSet<'_>>,
    live: &Value,
    found: &mut dyn FnMut(&Path, &Value),
) {
    for (raw, node) in set.iter() {
        let Some(value) = ownership::child(live, raw) else { continue };
        let our = ours.and_then(|ours| ours.get(raw));
        let item = raw.starts_with("k:") || raw.starts_with("v:");
        let whole = node.below.is_empty() || (item && node.member);
        path.at(raw, |path| match our {
            None if whole => found(path, value),
            // We set it too, or did before they took it: that is drift. An empty map of ours may be filled by others.
            Some(_) if node.below.is_empty() => {}
            our => beyond(path, &node.below, our.map(|our| &our.below), value, found),
        });
    }
}
