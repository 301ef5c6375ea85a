//! Inputs of substitution that only the clusters have.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::{ClusterName, UnitId};
use serde::{Deserialize, Serialize};

use crate::flux::RenderedCluster;
use crate::report::Problem;
use crate::target::Location;

/// One ConfigMap or Secret that `substituteFrom` names and that Git does not hold in plain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// `ConfigMap` or `Secret`.
    pub kind: String,
    /// `namespace/name`.
    pub name: String,
    /// Whether every reference to it says that it may be absent.
    pub optional: bool,
    /// Variables that the units which read it leave open: of several sources any may hold one of them.
    pub variables: BTreeSet<String>,
    /// The units that read it.
    pub units: BTreeSet<UnitId>,
    /// The clusters these are in.
    pub clusters: BTreeSet<ClusterName>,
    /// The first place in each cluster that names it.
    pub at: BTreeMap<ClusterName, Location>,
}

/// All of them, by kind and name.
pub(super) fn of(rendered: &[(ClusterName, RenderedCluster)]) -> Vec<Input> {
    let mut out: BTreeMap<(String, String), Input> = BTreeMap::new();
    for (cluster, unit) in rendered.iter().flat_map(|(name, c)| c.units.iter().map(move |u| (name, u))) {
        for (kind, name, at, optional) in unit.problems.iter().filter_map(named) {
            let entry = out.entry((kind.to_owned(), name.to_owned())).or_insert_with(|| Input {
                kind: kind.to_owned(),
                name: name.to_owned(),
                optional: true,
                variables: BTreeSet::new(),
                units: BTreeSet::new(),
                clusters: BTreeSet::new(),
                at: BTreeMap::new(),
            });
            entry.optional &= optional;
            if let Some(at) = at {
                entry.at.entry(cluster.clone()).or_insert_with(|| at.clone());
            }
            entry.variables.extend(unit.open.iter().cloned());
            entry.units.insert(unit.id.clone());
            entry.clusters.insert(cluster.clone());
        }
    }
    out.into_values().collect()
}

/// Kind and name of the input that a problem is about: what follows its kind in the message.
fn named(problem: &Problem) -> Option<(&'static str, &str, Option<&Location>, bool)> {
    // By name: what an input that is out of reach is called differs by what becomes of its unit.
    if !problem.code.as_str().starts_with("SubstitutionInput") {
        return None;
    }
    let words = || problem.message.split([' ', ',']);
    let (kind, name) = words().zip(words().skip(1)).find_map(|(kind, name)| match kind {
        "ConfigMap" => Some(("ConfigMap", name)),
        "Secret" => Some(("Secret", name)),
        _ => None,
    })?;
    let optional = problem.message.starts_with("optional ") || problem.message.ends_with("goes without it");
    name.contains('/').then_some((kind, name, problem.at.as_ref(), optional))
}
