//! JUnit XML: a suite for each cluster, a case for each unit. Errors fail a case; warnings are its output.

use std::fmt::Write as _;

use driftless_protocol::id::UnitId;
use driftless_render::check::Finding;
use driftless_render::flux::RenderState;
use driftless_render::report::Severity;
use driftless_render::validate::{Cluster, ValidateReport};

pub(super) fn text(report: &ValidateReport, clusters: &[Cluster<'_>]) -> String {
    let mut suites = String::new();
    let (mut tests, mut failures) = (0, 0);
    for cluster in clusters {
        let mut cases = String::new();
        let (mut own_tests, mut own_failures, mut own_skipped) = (0, 0, 0);
        for unit in &cluster.rendered.units {
            own_tests += 1;
            let here =
                |f: &&Finding| f.places.iter().any(|p| p.clusters.contains(cluster.name) && p.units.contains(&unit.id));
            let found: Vec<&Finding> = report.findings.iter().filter(here).collect();
            let lines = |severity: Severity| -> Vec<String> {
                found.iter().filter(|f| f.severity == severity).map(|f| line(f, &unit.id)).collect()
            };
            let (errors, warnings) = (lines(Severity::Error), lines(Severity::Warning));
            _ = write!(
                cases,
                "    <testcase classname=\"{}\" name=\"{}\">",
                escape(cluster.name.as_str()),
                escape(&unit.id.to_string())
            );
            if matches!(unit.state, RenderState::Suspended { .. }) && errors.is_empty() {
                own_skipped += 1;
                cases.push_str("<skipped message=\"suspended in Git\"/>");
            }
            if let Some(first) = errors.first() {
                own_failures += 1;
                let code = found.iter().find(|f| f.severity == Severity::Error).map_or("", |f| f.code.as_str());
                _ = write!(
                    cases,
                    "<failure message=\"{}\" type=\"{code}\">{}</failure>",
                    escape(first),
                    escape(&errors.join("\n"))
                );
            }
            if !warnings.is_empty() {
                _ = write!(cases, "<system-out>{}</system-out>", escape(&warnings.join("\n")));
            }
            cases.push_str("</testcase>\n");
        }
        _ = write!(
            suites,
            "  <testsuite name=\"{}\" tests=\"{own_tests}\" failures=\"{own_failures}\" errors=\"0\" skipped=\"{own_skipped}\" time=\"0\">\n{cases}  </testsuite>\n",
            escape(cluster.name.as_str())
        );
        tests += own_tests;
        failures += own_failures;
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"driftless validate\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" time=\"0\">\n{suites}</testsuites>\n"
    )
}

fn line(finding: &Finding, unit: &UnitId) -> String {
    let place = finding.places.iter().find(|p| p.units.contains(unit)).and_then(|p| p.at.as_ref());
    let at = place.map(|at| format!("{at}: ")).unwrap_or_default();
    format!("{at}{}: {}", finding.code, finding.message)
}

/// For text and attributes. Control characters, which XML cannot hold, become spaces.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_is_harmless_in_xml() {
        assert_eq!(escape("a<b> & \"c\" 'd'\u{1b}[2J\n"), "a&lt;b&gt; &amp; &quot;c&quot; &apos;d&apos; [2J\n");
    }
}
