//! The report of `validate` for people.

use std::fmt::Write as _;

use driftless_render::report::Severity;
use driftless_render::validate::ValidateReport;

use crate::commands::check::table::{Limits, findings, some};
use crate::ui::Table;

pub(super) fn text(report: &ValidateReport, all: bool) -> String {
    let (limits, total) = (Limits::new(all), report.clusters.len());
    let mut out = String::new();
    let mut table = Table::new(&["CLUSTER", "KUBERNETES", "UNITS", "NOT RENDERED", "OBJECTS", "CHECKED", "FINDINGS"]);
    for c in &report.clusters {
        table.row(vec![
            c.cluster.to_string(),
            c.kubernetes.clone(),
            c.units.to_string(),
            c.unknown_units.to_string(),
            c.objects.to_string(),
            c.checked.to_string(),
            c.findings.to_string(),
        ]);
    }
    out.push_str(&table.render());
    findings(&report.findings, total, limits, all, &mut out);
    if !report.unchecked.is_empty() {
        let objects: usize = report.unchecked.iter().map(|u| u.objects).sum();
        _ = writeln!(
            out,
            "\n{objects} objects of {} kinds were not checked: no CustomResourceDefinition of theirs is in the repository (--crds names more)",
            report.unchecked.len()
        );
        let mut table = Table::new(&["KIND", "OBJECTS", "FIRST", "CLUSTERS"]);
        for u in report.unchecked.iter().take(limits.units) {
            table.row(vec![
                format!("{} {}", u.api_version, u.kind),
                u.objects.to_string(),
                u.first.to_string(),
                some(&u.clusters, total, limits),
            ]);
        }
        out.push_str(&table.render());
        if report.unchecked.len() > limits.units {
            _ = writeln!(out, "and {} more kinds (--all shows every one)", report.unchecked.len() - limits.units);
        }
    }
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let sum =
        |of: fn(&driftless_render::validate::ClusterCounts) -> usize| report.clusters.iter().map(of).sum::<usize>();
    _ = writeln!(
        out,
        "\n{}: {total} clusters, {} of {} objects checked; {} distinct errors, {} distinct warnings",
        report.revision,
        sum(|c| c.checked),
        sum(|c| c.objects),
        count(Severity::Error),
        count(Severity::Warning),
    );
    out
}
