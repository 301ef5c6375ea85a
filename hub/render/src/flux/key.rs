//! What a build is given besides files and variables, as keys.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use super::options::IgnoreRule;
use super::spec::Kustomization;
use super::substitute::Variables;
use super::unit::UnitInputs;
use crate::kustomize::{Origin, Overlay, Patch};

pub(crate) type Key = [u8; 32];

/// The keys of one set of inputs.
pub(crate) struct Keys {
    /// Without the places a definition was written at: equal for equal definitions in different files. Good for builds that
    /// have nothing to say about their definition.
    pub(crate) shared: Key,
    /// With them.
    pub(crate) exact: Key,
    /// With them, and all variables.
    pub(crate) whole: Key,
}

impl Keys {
    pub(crate) fn of(inputs: &UnitInputs<'_>) -> Self {
        let UnitInputs { kustomization, source, tree: _, is_root: _, variables, rules, filled, strict, memo: _ } =
            inputs;
        // With no variable at all nothing is substituted; which there are counts only as far as they are asked for. Where
        // the cluster has a say, what the agent is told depends on all of them.
        let some = variables.map(|v| (v.runs, (!v.late.is_empty()).then_some(v)));
        let shared = key(&("shared", without_places(kustomization), source, rules, filled, strict, some));
        let exact = key(&("exact", kustomization, source, rules, filled, strict, some));
        let whole = key(&(exact, variables));
        Self { shared, exact, whole }
    }

    pub(crate) fn both(&self) -> [Key; 2] {
        [self.shared, self.exact]
    }
}

/// A key with the values of these variables.
pub(crate) fn with_values(under: &Key, names: &BTreeSet<String>, variables: Option<&Variables>) -> Key {
    let values: Vec<(&String, Option<&String>)> =
        names.iter().map(|name| (name, variables.and_then(|v| v.certain.get(name)))).collect();
    key(&(under, values))
}

/// The derived text form names every field there is.
fn key(what: &impl fmt::Debug) -> Key {
    /// Feeds text to a hash without building it.
    struct Hashing(blake3::Hasher);
    impl fmt::Write for Hashing {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.update(text.as_bytes());
            Ok(())
        }
    }
    let mut hash = Hashing(blake3::Hasher::new());
    // Hashing does not fail.
    _ = write!(hash, "{what:?}");
    *hash.0.finalize().as_bytes()
}

/// What of a definition a build looks at, places left out. Named field by field, so that whoever adds one decides.
fn without_places(k: &Kustomization) -> impl fmt::Debug {
    let Kustomization {
        id,
        path,
        path_at: _,
        source_kind: _,
        source_name: _,
        source_namespace: _,
        source_at: _,
        suspend: _,
        remote: _,
        overlay,
        common_labels,
        common_annotations,
        post_build,
        ignore,
        depends_on: _,
        spec: _,
        definition: _,
    } = k;
    let placeless = |patch: &Patch| Patch { place: Origin::default(), ..patch.clone() };
    let overlay = Overlay {
        place: Origin::default(),
        patches: overlay.patches.iter().map(placeless).collect(),
        ..overlay.clone()
    };
    // Whether there is a place says whose rules the file at the top is read by.
    let fluxs = k.overlay.place != Origin::default();
    let always = post_build.as_ref().map(|p| p.always);
    let ignore: Vec<_> = ignore.iter().map(IgnoreRule::placeless).collect();
    (id.clone(), path.clone(), overlay, fluxs, common_labels.clone(), common_annotations.clone(), always, ignore)
}
