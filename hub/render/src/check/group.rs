//! The same problem in many clusters, said once.

use std::collections::{BTreeMap, BTreeSet};

use driftless_protocol::id::{ClusterName, UnitId};
use serde::{Deserialize, Serialize};

use crate::report::{Code, Problem, Severity};
use crate::target::Location;

/// A distinct problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    /// How much it matters.
    pub severity: Severity,
    /// What was attempted, on what, what came of it, what to do.
    pub message: String,
    /// Where, each place once.
    pub places: Vec<Place>,
    /// All clusters it is in.
    pub clusters: BTreeSet<ClusterName>,
}

/// One place of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// The file and line; `None` when no file says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Location>,
    /// The units that have it from there.
    pub units: BTreeSet<UnitId>,
    /// The clusters these are in.
    pub clusters: BTreeSet<ClusterName>,
}

impl Finding {
    /// How many units of how many clusters have it, counted each by itself.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.places.iter().map(|p| p.clusters.len() * p.units.len().max(1)).sum()
    }
}

/// Groups problems by code and words, then by place. Worst first; among equals what concerns most.
#[must_use]
pub fn group<'a>(problems: impl Iterator<Item = (&'a ClusterName, &'a Problem)>) -> Vec<Finding> {
    type Places = BTreeMap<Option<Location>, (BTreeSet<UnitId>, BTreeSet<ClusterName>)>;
    let mut by: BTreeMap<(Code, &str), Places> = BTreeMap::new();
    for (cluster, problem) in problems {
        let at = problem.at.clone().filter(|at| !at.file.is_empty());
        let place = by.entry((problem.code, problem.message.as_str())).or_default().entry(at).or_default();
        place.0.extend(problem.unit.clone());
        place.1.insert(cluster.clone());
    }
    let mut out: Vec<Finding> = by
        .into_iter()
        .map(|((code, message), places)| {
            let clusters = places.values().flat_map(|(_, clusters)| clusters.iter().cloned()).collect();
            let places = places.into_iter().map(|(at, (units, clusters))| Place { at, units, clusters }).collect();
            Finding { code, severity: code.severity(), message: message.to_owned(), places, clusters }
        })
        .collect();
    out.sort_by(|a, b| {
        let of = |f: &Finding| (std::cmp::Reverse(f.severity), std::cmp::Reverse(f.weight()), f.code);
        of(a).cmp(&of(b)).then_with(|| a.places.iter().map(|p| &p.at).cmp(b.places.iter().map(|p| &p.at)))
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: Code, message: &str, line: u32, unit: &str) -> Problem {
        let at = Location { source: "s".into(), file: "a.yaml".into(), line };
        Problem::new(code, &UnitId::kustomization("n", unit), Some(at), message)
    }

    #[test]
    fn what_several_clusters_have_is_said_once_and_the_worst_first() {
        let (a, b): (ClusterName, ClusterName) = ("a".parse().unwrap(), "b".parse().unwrap());
        let problems = [
            (&a, problem(Code::EmptyRender, "empty", 1, "u")),
            (&b, problem(Code::FieldNotHonoured, "ignore", 2, "u")),
            (&a, problem(Code::FieldNotHonoured, "ignore", 2, "u")),
            (&a, problem(Code::FieldNotHonoured, "ignore", 3, "v")),
            (&b, problem(Code::BuildFailed, "failed", 4, "u")),
        ];
        let found = group(problems.iter().map(|(c, p)| (*c, p)));
        let shown: Vec<_> = found.iter().map(|f| (f.code, f.places.len(), f.clusters.len(), f.weight())).collect();
        assert_eq!(
            shown,
            [(Code::BuildFailed, 1, 1, 1), (Code::FieldNotHonoured, 2, 2, 3), (Code::EmptyRender, 1, 1, 1)]
        );
    }
}
