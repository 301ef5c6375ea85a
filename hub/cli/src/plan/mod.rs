//! A plan as people read it: in a terminal, and as Markdown for a pull request.

mod lines;
mod live;
pub mod markdown;
pub mod terminal;

use std::collections::BTreeMap;

use driftless_protocol::id::{ClusterName, Digest, UnitId};
use driftless_render::plan::{Counts, Plan, PlanRevision, UnitPlan, Warning};
use driftless_render::report::Code;

/// A unit's plan and the clusters it is the same in.
struct Entry<'a> {
    clusters: Vec<&'a ClusterName>,
    unit: &'a UnitPlan,
}

/// Every distinct unit plan once, in the order of the clusters: clusters that differ in one unit share the others.
fn entries(plan: &Plan) -> Vec<Entry<'_>> {
    let mut out: Vec<Entry<'_>> = Vec::new();
    let mut known: BTreeMap<Digest, usize> = BTreeMap::new();
    for group in &plan.groups {
        for unit in &group.plan.units {
            let place = *known.entry(unit.shape()).or_insert(out.len());
            match out.get_mut(place) {
                Some(entry) => entry.clusters.extend(&group.clusters),
                None => out.push(Entry { clusters: group.clusters.iter().collect(), unit }),
            }
        }
    }
    out.iter_mut().for_each(|entry| entry.clusters.sort());
    out
}

/// Every distinct warning once, the gravest first, with its clusters.
fn warnings(plan: &Plan) -> Vec<(&Warning, Vec<&ClusterName>)> {
    let mut all: BTreeMap<_, (&Warning, Vec<&ClusterName>)> = BTreeMap::new();
    for group in &plan.groups {
        for warning in &group.plan.warnings {
            let same = (warning.code, &warning.unit, &warning.message);
            all.entry(same).or_insert_with(|| (warning, Vec::new())).1.extend(&group.clusters);
        }
    }
    all.values_mut().for_each(|(_, clusters)| clusters.sort());
    all.into_values().collect()
}

/// What the head line of an empty plan adds where something could not be looked at.
fn as_far_as_known(plan: &Plan) -> &'static str {
    if held_in_both(plan).is_empty() {
        ""
    } else {
        ", as far as is known: some units could not be built, before and after"
    }
}

/// Units that could be built neither before nor after, a line for each reason and set of clusters.
fn held_in_both(plan: &Plan) -> Vec<String> {
    let mut units: BTreeMap<(&UnitId, Code), Vec<&ClusterName>> = BTreeMap::new();
    let changed = plan.groups.iter().flat_map(|g| {
        g.plan.held_in_both.iter().flat_map(|held| g.clusters.iter().map(move |cluster| (held, cluster)))
    });
    let same = plan.unaffected.iter().flat_map(|u| u.held.iter().map(move |held| (held, &u.cluster)));
    for (held, cluster) in changed.chain(same) {
        units.entry((&held.unit, held.why.code)).or_default().push(cluster);
    }
    let mut lines: BTreeMap<(Code, Vec<&ClusterName>), Vec<&UnitId>> = BTreeMap::new();
    for ((unit, code), mut clusters) in units {
        clusters.sort();
        lines.entry((code, clusters)).or_default().push(unit);
    }
    let line = |((code, clusters), units): ((Code, Vec<&ClusterName>), Vec<&UnitId>)| {
        let units: Vec<String> = units.iter().map(ToString::to_string).collect();
        let clusters = names(clusters.into_iter(), 20);
        format!(
            "Held before and after ({code}), so whether they change is not known: {} in {clusters}",
            units.join(", ")
        )
    };
    lines.into_iter().map(line).collect()
}

/// Names, as many as fit a line: `a, b, c and 12 more`.
fn names<'a>(all: impl ExactSizeIterator<Item = &'a ClusterName>, at_most: usize) -> String {
    let total = all.len();
    // One more name takes no more room than saying that there is one more.
    let shown = if total <= at_most + 1 { total } else { at_most };
    let mut text = all.take(shown).map(ClusterName::as_str).collect::<Vec<_>>().join(", ");
    if shown < total {
        text.push_str(&format!(" and {} more", total - shown));
    }
    text
}

/// `main (1a2b3c4d5e6f)`.
fn revision(revision: &PlanRevision) -> String {
    match &revision.commit {
        Some(commit) => {
            let short = commit.get(..12).unwrap_or(commit);
            if commit.starts_with(&revision.name) { short.to_owned() } else { format!("{} ({short})", revision.name) }
        }
        None => "the files on disk".to_owned(),
    }
}

/// `+3 ~12 -1, 2 moved, 1 replaced`, without what is nothing.
fn summary(counts: &Counts) -> String {
    let mut signs = Vec::new();
    for (sign, n) in [("+", counts.creates), ("~", counts.changes), ("-", counts.deletes)] {
        if n > 0 {
            signs.push(format!("{sign}{n}"));
        }
    }
    let mut parts = Vec::new();
    if !signs.is_empty() {
        parts.push(signs.join(" "));
    }
    for (n, word) in [
        (counts.moves, "moved"),
        (counts.replaces, "replaced"),
        (counts.applies, "applied again"),
        (counts.approvals, "to approve"),
        (counts.kept, "kept"),
        (counts.refusals, "refused"),
    ] {
        if n > 0 {
            parts.push(format!("{n} {word}"));
        }
    }
    if parts.is_empty() { "options or states of units only".to_owned() } else { parts.join(", ") }
}

fn plural(n: usize, word: &str) -> String {
    if n == 1 { format!("1 {word}") } else { format!("{n} {word}s") }
}

/// Text from a repository on one line: control characters, which could move a cursor, and characters that change the
/// direction of writing, which could make a value look like another, are shown as escapes.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let tricky =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        match c {
            '\t' => out.push('\t'),
            c if c.is_control() || tricky => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_of_names_are_cut() {
        let all: Vec<ClusterName> = ["a", "b", "c", "d"].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(names(all.iter(), 9), "a, b, c, d");
        assert_eq!(names(all.iter(), 3), "a, b, c, d", "one more name is as short as `and 1 more`");
        assert_eq!(names(all.iter(), 2), "a, b and 2 more");
    }

    #[test]
    fn tricky_characters_are_shown() {
        assert_eq!(one_line("a\u{1b}[2Jb\u{202e}c\td"), "a\\u{1b}[2Jb\\u{202e}c\td");
    }

    #[test]
    fn revisions_show_name_and_short_commit() {
        let of = |name: &str, commit: Option<&str>| {
            revision(&PlanRevision { name: name.into(), commit: commit.map(str::to_owned) })
        };
        let id = "1234567890abcdef1234567890abcdef12345678";
        assert_eq!(of("main", Some(id)), "main (1234567890ab)");
        assert_eq!(of("1234567", Some(id)), "1234567890ab");
        assert_eq!(of("worktree", None), "the files on disk");
    }
}
