//! `driftless validate`: rendered objects against the schemas of a Kubernetes version and of the repository's own
//! CustomResourceDefinitions, and against each other.
//!
//! Pure: schemas, definitions and files are arguments. What no schema is known for is counted and named.

mod cel;
pub mod crds;
mod defaults;
mod foreign;
mod formats;
pub(crate) mod names;
mod namespaces;
mod objects;
pub mod openapi;
mod rules;
mod schema;
pub mod versions;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use driftless_protocol::id::ClusterName;
use serde::{Deserialize, Serialize};

pub use schema::{SchemaError, Schemas};

use crate::check::{Finding, group};
use crate::flux::{RenderState, RenderedCluster};
use crate::report::{Code, Problem};
use crate::target::{Facts, Location, NOT_AT_HAND};
use crate::tree::Tree;
use crds::Definition;

/// One cluster to validate.
#[derive(Clone, Copy, Debug)]
pub struct Cluster<'a> {
    /// Its name.
    pub name: &'a ClusterName,
    /// What was rendered.
    pub rendered: &'a RenderedCluster,
    /// What it told.
    pub facts: Option<&'a Facts>,
    /// Namespaces it has from elsewhere than Git.
    pub namespaces: &'a [String],
    /// The schemas of its Kubernetes version.
    pub schemas: &'a Schemas,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ValidateReport {
    /// Which revision was read: a commit, or the files on disk.
    pub revision: String,
    /// Counts by cluster.
    pub clusters: Vec<ClusterCounts>,
    /// Distinct findings, worst first.
    pub findings: Vec<Finding>,
    /// Kinds whose objects were not checked, because no schema is known.
    pub unchecked: Vec<Unchecked>,
}

/// Counts of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterCounts {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The Kubernetes version its objects were checked against.
    pub kubernetes: String,
    /// Units in all.
    pub units: usize,
    /// Units whose objects are not known here: held or suspended.
    pub unknown_units: usize,
    /// Objects rendered.
    pub objects: usize,
    /// Of these, checked against a schema.
    pub checked: usize,
    /// Distinct findings the cluster has a part in.
    pub findings: usize,
}

/// Objects of a kind without a schema.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unchecked {
    /// `group/version`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// How many objects.
    pub objects: usize,
    /// In which clusters.
    pub clusters: BTreeSet<ClusterName>,
    /// The first of them.
    pub first: Location,
}

/// Kubernetes versions whose schemas are recorded, the newest first: `1.36`, and the recording.
pub const KUBERNETES: &[(&str, &str)] =
    &[("1.36", include_str!("kubernetes-1.36.txt")), ("1.35", include_str!("kubernetes-1.35.txt"))];

/// Files by source id: to find the line of a field.
pub type Trees<'a> = dyn Fn(&str) -> Option<Arc<dyn Tree>> + 'a;

/// Validates clusters together. `definitions` are those of the repository's files; a cluster's own, as rendered, go
/// first.
#[must_use]
pub fn validate(
    revision: &str,
    clusters: &[Cluster<'_>],
    definitions: &[Arc<Definition>],
    trees: &Trees<'_>,
) -> ValidateReport {
    let mut problems: Vec<(ClusterName, Problem)> = Vec::new();
    let mut counts = Vec::new();
    let mut checker = objects::Checker::new(definitions, trees);
    for cluster in clusters {
        let mut say = |problem: Problem| problems.push((cluster.name.clone(), problem));
        for unit in &cluster.rendered.units {
            // What was not rendered was not validated either; and what is there twice was seen by rendering.
            let twice = unit.problems.iter().filter(|p| p.code == Code::DuplicateObject);
            unit.held().into_iter().chain(twice).cloned().map(at_hand).for_each(&mut say);
        }
        let (objects, checked) = checker.cluster(cluster, &mut say);
        namespaces::undeclared(cluster, &mut say);
        let unknown = |u: &&crate::flux::RenderedUnit| !matches!(u.state, RenderState::Full { .. });
        counts.push(ClusterCounts {
            cluster: cluster.name.clone(),
            kubernetes: cluster.schemas.version.clone(),
            units: cluster.rendered.units.len(),
            unknown_units: cluster.rendered.units.iter().filter(unknown).count(),
            objects,
            checked,
            findings: 0,
        });
    }
    problems.extend(foreign::files(clusters));
    problems.extend(foreign::names(clusters));
    let findings = group(problems.iter().map(|(cluster, problem)| (cluster, problem)));
    for count in &mut counts {
        count.findings = findings.iter().filter(|f| f.clusters.contains(&count.cluster)).count();
    }
    ValidateReport { revision: revision.to_owned(), clusters: counts, findings, unchecked: checker.unchecked() }
}

/// A source that this command was not given is no fault of the repository.
fn at_hand(mut problem: Problem) -> Problem {
    if problem.code == Code::SourceNotReady && problem.message.contains(NOT_AT_HAND) {
        problem.code = Code::SourceNotAtHand;
    }
    problem
}

/// Unchecked kinds while they are counted.
type UncheckedBy = BTreeMap<(String, String), Unchecked>;
