//! The same field going back and forth with another manager: noticed, named, damped, told once, and over when the other
//! side stops (security.md P-23).
//!
//! Healing goes on in a contest, never slower than once a minute. Where every second counts (rights, admission, network
//! policy, what a container may do) it is never damped.

use std::collections::VecDeque;

use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{DriftClass, FieldDrift};

use crate::input::Millis;

pub mod kept;

use kept::Kept;

/// Flips within this time count together.
pub const WINDOW: Millis = 600_000;
/// So many flips in the window are a contest.
pub const FROM: usize = 3;
/// People do the same by hand a few times without meaning a contest; a script does it more often.
pub const FROM_PEOPLE: usize = 6;
/// The longest pause between two heals.
pub const SLOWEST: Millis = 60_000;
/// The first pause; doubled with each further flip.
const FIRST: Millis = 1_000;
/// Fields watched per object; a controller that fights over more fights over these, too.
const MOST_FIELDS: usize = 16;
/// Flips remembered per field: enough to reach the longest pause.
const MOST_FLIPS: usize = 64;

/// The contests over one object, and what may become one.
#[derive(Clone, Debug, Default)]
pub struct Contests {
    fields: Vec<Field>,
}

/// One field that was healed lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// As [`FieldDrift::path`]; empty: the whole object.
    pub path: String,
    /// As [`FieldDrift::pointer`].
    pub pointer: Option<String>,
    /// The manager that claimed it last.
    pub manager: Option<String>,
    /// What kind of writer it looks like.
    pub class: DriftClass,
    /// Since when it is a contest.
    pub since: Option<Millis>,
    /// When it was healed, oldest first.
    flips: VecDeque<Millis>,
}

impl Field {
    /// Heals of it within the window.
    #[must_use]
    pub fn flips(&self) -> usize {
        self.flips.len()
    }

    /// The last of them.
    #[must_use]
    pub fn last(&self) -> Millis {
        self.flips.back().copied().unwrap_or(0)
    }

    fn threshold(&self) -> usize {
        if matches!(self.class, DriftClass::Human | DriftClass::Deleted) { FROM_PEOPLE } else { FROM }
    }

    fn pause(&self) -> Millis {
        let beyond = self.flips.len().saturating_sub(self.threshold());
        (FIRST << beyond.min(16)).min(SLOWEST)
    }
}

impl Contests {
    /// Counts a heal of these fields. Answers those over which a contest begins with it.
    pub fn healed(&mut self, fields: &[FieldDrift], now: Millis) -> Vec<Field> {
        let mut begun = Vec::new();
        for drift in fields.iter().filter(|drift| drift.class != DriftClass::Autoscaler) {
            let at = match self.fields.iter().position(|field| field.path == drift.path) {
                Some(at) => at,
                None if self.fields.len() < MOST_FIELDS => {
                    self.fields.push(Field {
                        path: drift.path.clone(),
                        pointer: None,
                        manager: None,
                        class: drift.class,
                        since: None,
                        flips: VecDeque::new(),
                    });
                    self.fields.len() - 1
                }
                None => continue,
            };
            let field = &mut self.fields[at];
            field.pointer.clone_from(&drift.pointer);
            field.class = drift.class;
            if drift.manager.is_some() {
                field.manager.clone_from(&drift.manager);
            }
            field.flips.retain(|at| now.saturating_sub(*at) < WINDOW);
            field.flips.push_back(now);
            if field.flips.len() > MOST_FLIPS {
                field.flips.pop_front();
            }
            if field.since.is_none() && field.flips.len() >= field.threshold() {
                field.since = Some(now);
                begun.push(field.clone());
            }
        }
        begun
    }

    /// Forgets what is over. Answers the contests that end so.
    pub fn expire(&mut self, now: Millis) -> Vec<Field> {
        let mut ended = Vec::new();
        self.fields.retain(|field| {
            let over = now.saturating_sub(field.last()) >= WINDOW;
            if over && field.since.is_some() {
                ended.push(field.clone());
            }
            !over
        });
        ended
    }

    /// When something is over next.
    #[must_use]
    pub fn next_end(&self) -> Option<Millis> {
        self.fields.iter().map(|field| field.last().saturating_add(WINDOW)).min()
    }

    /// The contests.
    pub fn contested(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.since.is_some())
    }

    /// The contests over this object, as they are written down.
    pub fn kept<'c>(&'c self, object: &'c ObjectKey) -> impl Iterator<Item = Kept> + 'c {
        self.fields.iter().filter_map(|field| {
            Some(Kept {
                object: object.clone(),
                path: field.path.clone(),
                pointer: field.pointer.clone(),
                manager: field.manager.clone(),
                class: field.class,
                since: field.since?,
                last: field.last(),
            })
        })
    }

    /// A contest that another pod wrote down goes on where it was, with the first pause.
    pub fn take_back(&mut self, kept: Kept) {
        if self.fields.len() < MOST_FIELDS && !self.fields.iter().any(|field| field.path == kept.path) {
            let mut field = Field {
                path: kept.path,
                pointer: kept.pointer,
                manager: kept.manager,
                class: kept.class,
                since: Some(kept.since),
                flips: VecDeque::new(),
            };
            field.flips.resize(field.threshold(), kept.last);
            self.fields.push(field);
        }
    }

    /// Nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The pause since the last heal that a contest asks for, when these fields drift. None when one of them is not contested:
    /// it is healed at once, and the others with it.
    #[must_use]
    pub fn damping<'f>(&self, key: &ObjectKey, fields: impl IntoIterator<Item = &'f FieldDrift>) -> Millis {
        if is_guarded(key) {
            return 0;
        }
        let longest = self.contested().map(Field::pause).max().unwrap_or(0);
        let pause = |drift: &FieldDrift| {
            if is_guarded_path(&drift.path) {
                return None;
            }
            match self.fields.iter().find(|field| field.path == drift.path) {
                Some(field) => field.since.map(|_| field.pause()),
                // One of more fields than are counted goes with those that are.
                None => (self.fields.len() >= MOST_FIELDS).then_some(longest),
            }
        };
        fields.into_iter().map(pause).try_fold(0, |most, pause| Some(most.max(pause?))).unwrap_or(0)
    }
}

/// Objects in which a minute of a wrong value may be too much.
#[must_use]
pub fn is_guarded(key: &ObjectKey) -> bool {
    matches!(
        key.group.as_str(),
        "rbac.authorization.k8s.io" | "admissionregistration.k8s.io" | "policy" | "certificates.k8s.io"
    ) || (key.group == "networking.k8s.io" && key.kind == "NetworkPolicy")
        || key.group == "cilium.io"
        || key.group == "kyverno.io"
}

/// The same of single fields: what a container runs, as whom, and what of its host it sees.
#[must_use]
pub fn is_guarded_path(path: &str) -> bool {
    const NAMES: [&str; 17] = [
        "securityContext",
        "hostPath",
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "hostUsers",
        "serviceAccountName",
        "serviceAccount",
        "automountServiceAccountToken",
        "image",
        "command",
        "args",
        "containers",
        "initContainers",
        "imagePullSecrets",
        "runtimeClassName",
        "pod-security.kubernetes.io",
    ];
    let mut last = "";
    for part in path.split(['.', '[', ']', '/']).filter(|part| !part.is_empty()) {
        // A list of containers counts as such; a harmless field in one of them does not.
        if !matches!(part, "containers" | "initContainers") && NAMES.contains(&part) {
            return true;
        }
        last = part;
    }
    NAMES.contains(&last) || path.contains("pod-security.kubernetes.io") || whole_container(path)
}

/// A container as a whole was added or removed.
fn whole_container(path: &str) -> bool {
    let Some((before, item)) = path.rsplit_once('[') else { return false };
    item.ends_with(']') && (before.ends_with("containers") || before.ends_with("initContainers"))
}

/// What to do about a contest, ready to paste.
#[must_use]
pub fn hint(key: &ObjectKey, field: &Field) -> String {
    let manager = field.manager.as_deref().unwrap_or("an unknown manager");
    match field.class {
        DriftClass::GitOps => {
            return format!(
                "{manager} applies this object too: suspend it there, or remove the object from one of the two repositories"
            );
        }
        DriftClass::Deleted => {
            return "something deletes it again and again: look for a second tool or a clean-up job that selects it"
                .to_owned();
        }
        _ => {}
    }
    let Some(pointer) = &field.pointer else {
        return format!("if {manager} is right, remove the field from Git");
    };
    let group = if key.group.is_empty() { String::new() } else { format!("group: {}, ", key.group) };
    let namespace = if key.namespace.is_empty() { String::new() } else { format!(", namespace: {}", key.namespace) };
    format!(
        "if {manager} is right, remove the field from Git, or add to the Kustomization: spec.ignore: [{{paths: [\"{pointer}\"], \
         target: {{{group}kind: {}, name: {}{namespace}}}}}]",
        key.kind, key.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, kind: &str) -> ObjectKey {
        ObjectKey { group: group.into(), kind: kind.into(), namespace: "shop".into(), name: "web".into() }
    }

    fn drift(path: &str, class: DriftClass) -> FieldDrift {
        FieldDrift {
            key: key("apps", "Deployment"),
            path: path.into(),
            pointer: Some("/spec/x".into()),
            desired: None,
            live: None,
            manager: Some("other".into()),
            at: None,
            class,
            mode: None,
        }
    }

    #[test]
    fn a_contest_begins_with_the_third_flip_slows_down_and_ends_by_itself() {
        let mut contests = Contests::default();
        let fields = [drift("spec.x", DriftClass::Controller)];
        let deployment = key("apps", "Deployment");
        let mut pauses = Vec::new();
        let mut now = 1_000_000;
        for n in 1..=12 {
            let begun = contests.healed(&fields, now);
            assert_eq!(begun.len(), usize::from(n == FROM), "flip {n}");
            pauses.push(contests.damping(&deployment, &fields) / 1000);
            now += 1_000;
        }
        assert_eq!(pauses, [0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert!(contests.expire(now + WINDOW - 2_000).is_empty());
        assert_eq!(contests.next_end(), Some(now - 1_000 + WINDOW));
        let ended = contests.expire(now + WINDOW);
        assert_eq!(ended.len(), 1);
        assert!(contests.is_empty());
    }

    #[test]
    fn what_is_not_contested_and_what_is_guarded_is_not_damped() {
        let mut contests = Contests::default();
        let contested = drift("spec.x", DriftClass::Controller);
        let image = drift("spec.template.spec.containers[name=web].image", DriftClass::Controller);
        for n in 0..8 {
            contests.healed(&[contested.clone(), image.clone()], n);
        }
        let deployment = key("apps", "Deployment");
        assert!(contests.damping(&deployment, std::slice::from_ref(&contested)) > 0);
        assert_eq!(contests.damping(&deployment, &[contested.clone(), drift("spec.y", DriftClass::Human)]), 0);
        assert_eq!(contests.damping(&deployment, &[image]), 0);
        assert_eq!(contests.damping(&key("rbac.authorization.k8s.io", "Role"), &[contested]), 0);
        for (path, guarded) in [
            ("spec.template.spec.containers[name=web].securityContext.privileged", true),
            ("spec.template.spec.containers[name=evil]", true),
            ("spec.template.spec.hostNetwork", true),
            ("metadata.labels[pod-security.kubernetes.io/enforce]", true),
            ("spec.template.spec.containers[name=web].resources.limits.cpu", false),
            ("spec.replicas", false),
            ("metadata.annotations[example.com/image]", true),
        ] {
            assert_eq!(is_guarded_path(path), guarded, "{path}");
        }
    }

    #[test]
    fn people_need_more_flips_and_an_autoscaler_never_contests() {
        let mut contests = Contests::default();
        for n in 0..5 {
            assert!(
                contests.healed(&[drift("a", DriftClass::Human), drift("b", DriftClass::Autoscaler)], n).is_empty()
            );
        }
        assert_eq!(contests.healed(&[drift("a", DriftClass::Human)], 6).len(), 1);
        // Once an hour is no contest.
        let mut contests = Contests::default();
        for n in 0..20 {
            assert!(contests.healed(&[drift("a", DriftClass::Controller)], n * 3_600_000).is_empty());
        }
    }

    #[test]
    fn the_hint_can_be_pasted() {
        let mut contests = Contests::default();
        let mut begun = Vec::new();
        for n in 0..3 {
            begun = contests.healed(&[drift("spec.x", DriftClass::Controller)], n);
        }
        assert_eq!(
            hint(&key("apps", "Deployment"), &begun[0]),
            "if other is right, remove the field from Git, or add to the Kustomization: spec.ignore: [{paths: [\"/spec/x\"], \
             target: {group: apps, kind: Deployment, name: web, namespace: shop}}]"
        );
    }
}
