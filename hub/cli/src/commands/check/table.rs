//! The report of `check repo` for people: what matters first, common things once, the rest counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use driftless_protocol::id::ClusterName;
use driftless_render::check::{Finding, Place, RepoReport};
use driftless_render::report::{Code, Level, Severity, UnitReport};

use super::explain::severity;
use crate::ui::Table;

/// Shown of each kind of thing unless `--all` is given.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) units: usize,
    findings: usize,
    places: usize,
    names: usize,
}

impl Limits {
    pub(crate) const fn new(all: bool) -> Self {
        if all {
            return Self { units: usize::MAX, findings: usize::MAX, places: usize::MAX, names: usize::MAX };
        }
        Self { units: 15, findings: 4, places: 2, names: 4 }
    }
}

pub(super) fn text(report: &RepoReport, all: bool) -> String {
    let limits = Limits::new(all);
    let mut out = String::new();
    clusters(report, &mut out);
    units(report, limits, all, &mut out);
    findings(&report.findings, report.clusters.len(), limits, all, &mut out);
    inputs(report, limits, &mut out);
    surroundings(report, limits, &mut out);
    verdict(report, all, &mut out);
    out
}

fn clusters(report: &RepoReport, out: &mut String) {
    let mut table = Table::new(&[
        "CLUSTER",
        "ROOT",
        "UNITS",
        "EXACT",
        "HANDED THROUGH",
        "PARTLY",
        "SUSPENDED",
        "HELD",
        "OBJECTS",
        "WITHHELD",
    ]);
    for cluster in &report.clusters {
        let t = &cluster.totals;
        let level = |level| cluster.units.iter().filter(|u| u.level == level).count().to_string();
        let root = if cluster.root_path.is_empty() { "." } else { &cluster.root_path };
        table.row(vec![
            cluster.cluster.to_string(),
            root.to_owned(),
            t.units.to_string(),
            level(Level::Exact),
            level(Level::HandedThrough),
            level(Level::Partly),
            level(Level::Suspended),
            level(Level::Held),
            t.objects.to_string(),
            t.withheld.to_string(),
        ]);
    }
    if report.clusters.len() > 1 {
        let (t, level) = (&report.totals, |level| report.levels.get(&level).copied().unwrap_or(0).to_string());
        table.row(vec![
            "all".to_owned(),
            String::new(),
            t.units.to_string(),
            level(Level::Exact),
            level(Level::HandedThrough),
            level(Level::Partly),
            level(Level::Suspended),
            level(Level::Held),
            t.objects.to_string(),
            t.withheld.to_string(),
        ]);
    }
    out.push_str(&table.render());
}

fn units(report: &RepoReport, limits: Limits, all: bool, out: &mut String) {
    let fine = |level| matches!(level, Level::Exact | Level::HandedThrough);
    let mut list = report.units_by_level();
    list.retain(|unit| all || !fine(unit.level));
    if list.is_empty() {
        return;
    }
    let mut table = Table::new(&["LEVEL", "UNIT", "CLUSTERS", "WHY"]);
    for unit in list.iter().take(limits.units) {
        let names: BTreeSet<ClusterName> = unit.reports.iter().map(|(name, _)| (*name).clone()).collect();
        table.row(vec![
            word(unit.level).to_owned(),
            unit.id.to_string(),
            some(&names, report.clusters.len(), limits),
            why(unit.level, &unit.reports),
        ]);
    }
    _ = write!(out, "\n{}", table.render());
    if list.len() > limits.units {
        _ = writeln!(out, "and {} more units (--all shows every unit)", list.len() - limits.units);
    }
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Exact => "exact",
        Level::HandedThrough => "handed through",
        Level::Partly => "partly",
        Level::Suspended => "suspended",
        Level::Held => "held",
    }
}

/// The codes behind a level, with counts: the most in any one cluster.
fn why(level: Level, places: &[(&ClusterName, &UnitReport)]) -> String {
    let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
    for (_, unit) in places {
        let mut own: BTreeMap<Code, usize> = BTreeMap::new();
        for problem in unit.problems.iter().filter(|p| p.severity() > Severity::Info) {
            *own.entry(problem.code).or_default() += 1;
        }
        for (code, count) in own {
            let most = counts.entry(code).or_default();
            *most = count.max(*most);
        }
    }
    let mut list: Vec<_> = counts.into_iter().collect();
    list.sort_by_key(|(code, count)| (std::cmp::Reverse(code.severity()), std::cmp::Reverse(*count)));
    let one = |(code, count): (Code, usize)| if count > 1 { format!("{code} ({count})") } else { code.to_string() };
    let text = list.into_iter().map(one).collect::<Vec<_>>().join(", ");
    if text.is_empty() && level == Level::Suspended { "suspended in Git".to_owned() } else { text }
}

/// Findings by code, worst first. Notes are shown with `--all`; fields honoured beyond Flux always are.
pub(crate) fn findings(list: &[Finding], clusters: usize, limits: Limits, all: bool, out: &mut String) {
    let shown = |f: &&Finding| all || f.severity > Severity::Info || f.code == Code::FieldExtension;
    let mut codes: Vec<Code> = Vec::new();
    for finding in list.iter().filter(shown) {
        if !codes.contains(&finding.code) {
            codes.push(finding.code);
        }
    }
    for code in codes {
        let all_of_it: Vec<&Finding> = list.iter().filter(|f| f.code == code).collect();
        let places: usize = all_of_it.iter().map(|f| f.places.len()).sum();
        let named: BTreeSet<ClusterName> = all_of_it.iter().flat_map(|f| f.clusters.iter().cloned()).collect();
        let times = if places == 1 { String::new() } else { format!(" at {places} places") };
        let mark = severity(code.severity()).to_uppercase();
        _ = writeln!(out, "\n{mark} {code}{times} in {}", some(&named, clusters, limits));
        _ = writeln!(out, "  {}", code.meaning());
        if !code.remedy().is_empty() {
            _ = writeln!(out, "  {}", code.remedy());
        }
        // With --all nothing is put together: every finding is a line of its own.
        let alike = alike(&all_of_it, all);
        for findings in alike.iter().take(limits.findings) {
            several(findings, clusters, limits, out);
        }
        let rest: usize = alike.iter().skip(limits.findings).map(Vec::len).sum();
        if rest > 0 {
            _ = writeln!(out, "  - and {rest} more (--all shows every one)");
        }
    }
}

/// Findings that say the same of different objects, in the order of the first of each.
fn alike<'a>(findings: &[&'a Finding], each: bool) -> Vec<Vec<&'a Finding>> {
    let mut out: Vec<(String, Vec<&Finding>)> = Vec::new();
    for finding in findings {
        let words = finding.message.split(' ').map(|w| if is_name(w) { "" } else { w });
        let key = words.collect::<Vec<_>>().join(" ");
        match out.iter_mut().find(|(known, _)| !each && *known == key) {
            Some((_, list)) => list.push(finding),
            None => out.push((key, vec![finding])),
        }
    }
    out.into_iter().map(|(_, list)| list).collect()
}

/// `namespace/name` or a path, as messages name objects and folders.
fn is_name(word: &str) -> bool {
    word.contains('/') && !word.contains("://")
}

fn several(findings: &[&Finding], clusters: usize, limits: Limits, out: &mut String) {
    let Some((first, others)) = findings.split_first() else { return };
    one(first, clusters, limits, out);
    if others.is_empty() {
        return;
    }
    let names =
        |f: &Finding| f.message.split(' ').filter(|w| is_name(w)).map(str::to_owned).collect::<BTreeSet<String>>();
    let own = names(first);
    let named: BTreeSet<String> = others.iter().flat_map(|f| names(f)).filter(|n| !own.contains(n)).collect();
    let shown: Vec<&str> =
        named.iter().take(limits.names).map(|n| n.trim_matches([',', ';', ':', '(', ')', '"'])).collect();
    let more = if named.len() > shown.len() { ", ..." } else { "" };
    _ = writeln!(out, "      and {} alike: {}{more}", others.len(), shown.join(", "));
}

fn one(finding: &Finding, clusters: usize, limits: Limits, out: &mut String) {
    let at = |place: &Place| {
        let at = place.at.as_ref().map_or_else(|| "in the cluster as a whole".to_owned(), ToString::to_string);
        let units: Vec<String> = place.units.iter().take(limits.names).map(ToString::to_string).collect();
        let more = place.units.len().saturating_sub(limits.names);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let units = if units.is_empty() { String::new() } else { format!(", unit {}{more}", units.join(", ")) };
        let within =
            if clusters > 1 { format!(", {}", some(&place.clusters, clusters, limits)) } else { String::new() };
        format!("{at}{units}{within}")
    };
    _ = writeln!(out, "  - {}", clean(&finding.message));
    for place in finding.places.iter().take(limits.places) {
        _ = writeln!(out, "      {}", at(place));
    }
    if finding.places.len() > limits.places {
        _ = writeln!(out, "      and {} more places", finding.places.len() - limits.places);
    }
}

/// What substitution reads in the clusters.
fn inputs(report: &RepoReport, limits: Limits, out: &mut String) {
    if report.inputs.is_empty() {
        return;
    }
    _ = writeln!(out, "\nOnly the clusters have these inputs of substituteFrom:");
    let mut table = Table::new(&["INPUT", "VARIABLES LEFT OPEN", "UNITS", "CLUSTERS", "FIRST NAMED"]);
    for input in report.inputs.iter().take(limits.units) {
        let shown: Vec<&str> = input.variables.iter().take(limits.names).map(String::as_str).collect();
        let more = input.variables.len().saturating_sub(limits.names);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let optional = if input.optional { " (optional)" } else { "" };
        table.row(vec![
            format!("{} {}{optional}", input.kind, input.name),
            format!("{}{more}", shown.join(", ")),
            input.units.len().to_string(),
            some(&input.clusters, report.clusters.len(), limits),
            input.at.values().next().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    out.push_str(&table.render());
    if report.inputs.len() > limits.units {
        _ = writeln!(out, "and {} more (--all shows every one)", report.inputs.len() - limits.units);
    }
    if report.inputs.iter().any(|i| i.kind == "ConfigMap") {
        _ = writeln!(
            out,
            "To check with values: --facts-template FILE writes the ConfigMaps to fill in, --facts FILE uses them."
        );
    }
}

/// A Secret or ConfigMap that handed-through objects need, by its name.
#[derive(Default)]
struct Need<'a> {
    namespaces: BTreeSet<&'a str>,
    clusters: BTreeSet<ClusterName>,
    kinds: BTreeSet<&'a str>,
}

/// What lies around the units: flags, controllers, other repositories.
fn surroundings(report: &RepoReport, limits: Limits, out: &mut String) {
    let total = report.clusters.len();
    if !report.controllers.is_empty() {
        let mut table = Table::new(&["HANDED THROUGH", "OBJECTS", "ACTED ON BY", "CLUSTERS"]);
        for c in &report.controllers {
            let by = if c.controller.is_empty() { "its own controller" } else { &c.controller };
            table.row(vec![c.kind.clone(), c.objects.to_string(), by.to_owned(), some(&c.clusters, total, limits)]);
        }
        _ = write!(out, "\nThese controllers must go on running in the clusters:\n{}", table.render());
    }
    let mut needs: BTreeMap<&str, (BTreeSet<ClusterName>, BTreeSet<&str>)> = BTreeMap::new();
    for controller in &report.controllers {
        for (need, clusters) in &controller.needs {
            let entry = needs.entry(need).or_default();
            entry.0.extend(clusters.iter().cloned());
            entry.1.insert(controller.kind.split('.').next().unwrap_or_default());
        }
    }
    if !needs.is_empty() {
        _ = writeln!(out, "\nThey also need, and Git does not bring in plain:");
        // The same Secret in many namespaces is one line.
        let mut by_name: BTreeMap<String, Need<'_>> = BTreeMap::new();
        for (need, (clusters, kinds)) in needs {
            let (kind, key) = need.split_once(' ').unwrap_or_default();
            let (namespace, name) = key.split_once('/').unwrap_or_default();
            let entry = by_name.entry(format!("{kind} {name}")).or_default();
            entry.namespaces.insert(namespace);
            entry.clusters.extend(clusters);
            entry.kinds.extend(kinds);
        }
        for (name, need) in by_name.iter().take(limits.units) {
            let (kind, name) = name.split_once(' ').unwrap_or_default();
            let kinds: Vec<&str> = need.kinds.iter().copied().collect();
            let shown: Vec<&str> = need.namespaces.iter().copied().take(limits.names).collect();
            let what = match shown.as_slice() {
                [namespace] => format!("{kind} {namespace}/{name}"),
                _ if need.namespaces.len() > shown.len() => {
                    format!("{kind} {name} in {} namespaces ({}, ...)", need.namespaces.len(), shown.join(", "))
                }
                _ => format!("{kind} {name} in the namespaces {}", shown.join(", ")),
            };
            _ = writeln!(out, "  {what}  for {}, in {}", kinds.join(", "), some(&need.clusters, total, limits));
        }
        if by_name.len() > limits.units {
            _ = writeln!(out, "  and {} more (--all shows every one)", by_name.len() - limits.units);
        }
    }
    let mut flags: BTreeMap<String, BTreeSet<ClusterName>> = BTreeMap::new();
    for cluster in &report.clusters {
        let l = &cluster.lockdown;
        let account = l.default_service_account.as_ref().map(|a| format!("--default-service-account={a}"));
        let cross = l.no_cross_namespace_refs.then(|| "--no-cross-namespace-refs".to_owned());
        let honoured = l.feature_gates.iter().filter(|(name, _)| *name == "StrictPostBuildSubstitutions");
        let gates = honoured.map(|(name, on)| format!("--feature-gates={name}={on}"));
        for flag in account.into_iter().chain(cross).chain(gates) {
            flags.entry(flag).or_default().insert(cluster.cluster.clone());
        }
    }
    if !flags.is_empty() {
        _ = writeln!(out, "\nFlags of Flux's controllers that are the clusters' defaults here too:");
        for (flag, clusters) in flags {
            _ = writeln!(out, "  {flag}  in {}", some(&clusters, total, limits));
        }
    }
    let mut sources: BTreeMap<String, BTreeSet<ClusterName>> = BTreeMap::new();
    for cluster in &report.clusters {
        for source in &cluster.wanted_sources {
            let text = format!("{} {} ({}, {})", source.kind, source.id, source.url, source.reference);
            sources.entry(text).or_default().insert(cluster.cluster.clone());
        }
    }
    if !sources.is_empty() {
        _ = writeln!(out, "\nOther sources that the hub must be able to fetch:");
        for (source, clusters) in sources {
            _ = writeln!(out, "  {source}  for {}", some(&clusters, total, limits));
        }
    }
}

fn verdict(report: &RepoReport, all: bool, out: &mut String) {
    let count = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let notes =
        report.findings.iter().filter(|f| f.severity == Severity::Info && f.code != Code::FieldExtension).count();
    let hidden = if all || notes == 0 { String::new() } else { format!(", {notes} notes (--all shows them)") };
    _ = writeln!(
        out,
        "\n{}: {} clusters, {} units, {} objects; {} distinct errors, {} distinct warnings{hidden}",
        report.revision,
        report.clusters.len(),
        report.totals.units,
        report.totals.objects,
        count(Severity::Error),
        count(Severity::Warning),
    );
}

/// Some names of a set, and how many more there are.
pub(crate) fn some(names: &BTreeSet<ClusterName>, all: usize, limits: Limits) -> String {
    if names.len() == all && all > 1 {
        return format!("all {all} clusters");
    }
    let shown: Vec<&str> = names.iter().take(limits.names).map(ClusterName::as_str).collect();
    let more = names.len().saturating_sub(limits.names);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

/// One line, no control characters.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
