//! SARIF 2.1.0: a rule for each code, a result for each distinct finding.

use std::collections::BTreeSet;

use driftless_render::check::Finding;
use driftless_render::report::{Code, Severity};
use driftless_render::validate::ValidateReport;
use serde_json::{Value, json};

use crate::error::{CliError, Kind};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// Where file names are relative to: the top of the checkout.
const BASE: &str = "%SRCROOT%";

pub(super) fn text(report: &ValidateReport) -> Result<String, CliError> {
    let json = serde_json::to_string_pretty(&document(report))
        .map_err(|e| CliError::new(Kind::Failed, format!("cannot write the answer as SARIF: {e}")))?;
    Ok(json + "\n")
}

fn document(report: &ValidateReport) -> Value {
    let mut codes: BTreeSet<Code> = report.findings.iter().map(|f| f.code).collect();
    if !report.unchecked.is_empty() {
        codes.insert(Code::SchemaMissing);
    }
    let codes: Vec<Code> = codes.into_iter().collect();
    let rule = |code: &Code| {
        json!({
            "id": code.as_str(),
            "name": code.as_str(),
            "shortDescription": { "text": code.meaning() },
            "help": { "text": if code.remedy().is_empty() { "There is nothing to do.".to_owned() } else { code.remedy() } },
            "defaultConfiguration": { "level": level(code.severity()) },
        })
    };
    let index = |code: Code| codes.binary_search(&code).unwrap_or_default();
    let mut results: Vec<Value> = report.findings.iter().map(|f| result(f, index(f.code))).collect();
    for kind in &report.unchecked {
        let message = format!(
            "{} objects of {} {} were not checked: no CustomResourceDefinition of theirs is in the repository",
            kind.objects, kind.api_version, kind.kind
        );
        results.push(json!({
            "ruleId": Code::SchemaMissing.as_str(),
            "ruleIndex": index(Code::SchemaMissing),
            "level": "note",
            "message": { "text": message },
            "locations": [location(&kind.first)],
            "properties": { "clusters": kind.clusters },
        }));
    }
    json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "driftless",
                "version": env!("CARGO_PKG_VERSION"),
                "informationUri": "https://driftless.dev",
                "rules": codes.iter().map(rule).collect::<Vec<_>>(),
            }},
            "columnKind": "utf16CodeUnits",
            "results": results,
            "properties": { "revision": report.revision },
        }],
    })
}

fn result(finding: &Finding, index: usize) -> Value {
    let units: BTreeSet<String> = finding.places.iter().flat_map(|p| p.units.iter().map(ToString::to_string)).collect();
    let locations: Vec<Value> = finding.places.iter().filter_map(|p| p.at.as_ref()).map(location).collect();
    json!({
        "ruleId": finding.code.as_str(),
        "ruleIndex": index,
        "level": level(finding.severity),
        "message": { "text": finding.message },
        "locations": locations,
        "properties": { "clusters": finding.clusters, "units": units },
    })
}

fn location(at: &driftless_render::target::Location) -> Value {
    let mut physical = json!({ "artifactLocation": { "uri": uri(&at.file), "uriBaseId": BASE } });
    if at.line > 0 {
        physical["region"] = json!({ "startLine": at.line });
    }
    json!({ "physicalLocation": physical })
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// A relative URI of a path.
fn uri(path: &str) -> String {
    path.split('/').map(crate::client::escape).collect::<Vec<_>>().join("/")
}
