//! What `driftless check repo` says of a repository: all its clusters together, common things said once.

mod group;
mod handed;
mod inputs;

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::{ClusterName, UnitId};
use serde::{Deserialize, Serialize};

pub use group::{Finding, Place, group};
pub use inputs::Input;

use crate::flux::{RenderedCluster, RenderedObject};
use crate::report::{ClusterReport, Code, Level, Problem, Totals, UnitReport};
use crate::tree::Tree;

/// A whole repository at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepoReport {
    /// Which revision was read: a commit, or the files on disk.
    pub revision: String,
    /// Counts over all clusters.
    pub totals: Totals,
    /// Units by level, over all clusters.
    pub levels: BTreeMap<Level, usize>,
    /// Distinct problems, worst first: one that several clusters have stands here once.
    pub findings: Vec<Finding>,
    /// Kinds that need a controller of their own in the cluster.
    pub controllers: Vec<Controller>,
    /// Inputs of substitution that only the clusters have.
    pub inputs: Vec<Input>,
    /// Everything by cluster and unit.
    pub clusters: Vec<ClusterReport>,
}

/// A kind that is handed through, and what it needs in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Controller {
    /// `Kind.group`.
    pub kind: String,
    /// The program that acts on it; empty where that is not known.
    pub controller: String,
    /// Objects of the kind in all clusters.
    pub objects: usize,
    /// In which clusters.
    pub clusters: BTreeSet<ClusterName>,
    /// Secrets and ConfigMaps that its objects name, and that Git does not bring into the cluster in plain:
    /// `Secret namespace/name`, and which clusters need it.
    pub needs: BTreeMap<String, BTreeSet<ClusterName>>,
}

/// One unit as several clusters have it, at one level.
#[derive(Clone, Debug)]
pub struct SameUnit<'a> {
    /// How far Driftless gets with it.
    pub level: Level,
    /// Its id.
    pub id: &'a UnitId,
    /// What is said of it, by cluster.
    pub reports: Vec<(&'a ClusterName, &'a UnitReport)>,
}

impl RepoReport {
    /// The report on rendered clusters. `tree` is the root source's: files that image automation edits are looked at.
    #[must_use]
    pub fn of(revision: &str, tree: &dyn Tree, rendered: &[(ClusterName, RenderedCluster)]) -> Self {
        let handed = handed::examine(tree, rendered);
        let mut clusters = Vec::with_capacity(rendered.len());
        for (name, cluster) in rendered {
            let mut report = ClusterReport::of(name, cluster);
            let extra = handed.problems.get(name).map(Vec::as_slice).unwrap_or_default();
            report.add(extra);
            not_at_hand(&mut report);
            report.count();
            clusters.push(report);
        }
        let mut totals = Totals::default();
        let mut levels: BTreeMap<Level, usize> = BTreeMap::new();
        for cluster in &clusters {
            totals.add(&cluster.totals);
            for unit in &cluster.units {
                *levels.entry(unit.level).or_default() += 1;
            }
        }
        let problems = clusters.iter().flat_map(|c| c.all_problems().map(|p| (&c.cluster, p)));
        let findings = group(problems.filter(|(_, p)| p.code != Code::HandedThrough));
        let inputs = inputs::of(rendered);
        let controllers = handed.controllers;
        Self { revision: revision.to_owned(), totals, levels, findings, controllers, inputs, clusters }
    }

    /// Units with the same name and level in several clusters, worst level first.
    #[must_use]
    pub fn units_by_level(&self) -> Vec<SameUnit<'_>> {
        let mut by: BTreeMap<(std::cmp::Reverse<Level>, &UnitId), SameUnit<'_>> = BTreeMap::new();
        for cluster in &self.clusters {
            for unit in &cluster.units {
                let entry = by.entry((std::cmp::Reverse(unit.level), &unit.unit));
                let same = entry.or_insert(SameUnit { level: unit.level, id: &unit.unit, reports: Vec::new() });
                same.reports.push((&cluster.cluster, unit));
            }
        }
        by.into_values().collect()
    }
}

/// A rendered object as a value, and whether it has holes that are filled in the cluster: then it is text, not JSON.
pub(crate) fn value_of(object: &RenderedObject) -> Option<(serde_json::Value, bool)> {
    if let Ok(value) = serde_json::from_slice(&object.bytes) {
        return Some((value, false));
    }
    let limits = driftless_yaml::Limits::default();
    let node = driftless_yaml::parse_one(&object.bytes, driftless_yaml::Dialect::Yaml11, &limits).ok()?.node;
    Some((serde_json::from_slice(&node.to_json().ok()?).ok()?, true))
}

/// What is missing only because this command was not given it is no fault of the repository.
fn not_at_hand(report: &mut ClusterReport) {
    let mut units: BTreeSet<UnitId> = BTreeSet::new();
    for unit in &mut report.units {
        for problem in &mut unit.problems {
            if problem.code == Code::SourceNotReady && problem.message.contains(crate::target::NOT_AT_HAND) {
                problem.code = Code::SourceNotAtHand;
                units.insert(unit.unit.clone());
            }
        }
    }
    // What such a unit may define is not known, so neither is whether a dependency on it can be met.
    for unit in report.units.iter_mut().filter(|_| !units.is_empty()) {
        for problem in &mut unit.problems {
            let unknown = problem.message.split_once(crate::flux::UNKNOWN_UNITS).map_or("", |(_, unknown)| unknown);
            let perhaps = units.iter().any(|id| unknown.contains(&id.to_string()));
            if problem.code == Code::DependencyNotFound && perhaps {
                problem.code = Code::SourceNotAtHand;
            }
        }
    }
}

impl ClusterReport {
    /// Adds problems to the units they name, or to the cluster.
    fn add(&mut self, problems: &[Problem]) {
        for problem in problems {
            match self.units.iter_mut().find(|u| Some(&u.unit) == problem.unit.as_ref()) {
                Some(unit) => unit.problems.push(problem.clone()),
                None => self.problems.push(problem.clone()),
            }
        }
    }
}
