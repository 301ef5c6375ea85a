//! A plan as a comment on a pull request: what to look at first, a table, and details to unfold.
//!
//! Text of a repository is quoted, so that it can neither close a block nor mention people. What does not fit is left out,
//! the least important first, and a line says so.

use std::fmt::Write as _;

use driftless_render::plan::{Action, Counts, Plan};

use super::lines::{self, Detail, Line};
use super::{Entry, entries, held_in_both, names, one_line, plural, revision, summary, warnings};

/// What GitHub takes for one comment, in characters; bytes are never fewer.
pub const COMMENT_LIMIT: usize = 65_536;

/// Rows of the table.
const ROWS: usize = 40;
/// Warnings shown.
const WARNINGS: usize = 40;
/// Bytes of one warning.
const WARNING: usize = 600;
/// Characters of a line on units that cannot be built.
const HELD: usize = 600;
/// Kept free for the last lines.
const RESERVE: usize = 700;

/// The plan as Markdown of at most `limit` bytes, when `limit` is at least some 2,000.
#[must_use]
pub fn render(plan: &Plan, limit: usize) -> String {
    let mut out = head(plan);
    let mut tail = String::new();
    if !plan.unaffected.is_empty() && !plan.groups.is_empty() {
        _ = writeln!(tail, "\nNot affected: {}.", names(plan.unaffected.iter().map(|u| &u.cluster), 20));
    }
    for line in held_in_both(plan) {
        let line = if line.len() > HELD { line.chars().take(HELD).collect::<String>() + "..." } else { line };
        _ = writeln!(tail, "\n{}", quoted(&line));
        if tail.len() > limit / 8 {
            break;
        }
    }
    let room = limit.saturating_sub(tail.len() + RESERVE);
    let table = table(plan);
    let mut cut = Cut::default();
    // The table tells how much there is even where the rest is cut.
    let warnings = warnings_text(plan, room.saturating_sub(out.len() + table.len()) / 2, &mut cut);
    out.push_str(&warnings);
    if out.len() + table.len() <= room {
        out.push_str(&table);
    } else {
        cut.table = true;
    }
    live(plan, room, &mut out, &mut cut);
    details(&entries(plan), room, &mut out, &mut cut);
    out.push_str(&cut.line(plan, limit));
    out.push_str(&tail);
    if out.len() > limit {
        // Only where the limit is smaller than what must be said.
        let mut end = limit;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
    }
    out
}

#[derive(Default)]
struct Cut {
    warnings: usize,
    live: usize,
    table: bool,
    shortened: usize,
    partly: usize,
    left_out: usize,
    /// Deleted objects that are not named.
    deleted: usize,
}

impl Cut {
    fn line(&self, plan: &Plan, limit: usize) -> String {
        let mut what = Vec::new();
        if self.warnings > 0 {
            what.push(plural(self.warnings, "warning"));
        }
        if self.table {
            what.push("the table".to_owned());
        }
        if self.live > 0 {
            what.push(plural(self.live, "line of the dry run"));
        }
        if self.deleted > 0 {
            what.push(format!("the names of {}", plural(self.deleted, "deleted object")));
        }
        if self.partly > 0 {
            what.push(format!("objects of {}", plural(self.partly, "unit")));
        }
        if self.left_out > 0 {
            what.push(format!("the details of {}", plural(self.left_out, "unit")));
        }
        if self.shortened > 0 {
            what.push(format!("the fields of {}", plural(self.shortened, "unit")));
        }
        if what.is_empty() {
            return String::new();
        }
        let base = plan.base.commit.as_deref().unwrap_or(&plan.base.name);
        let head = plan.head.commit.as_deref().unwrap_or(&plan.head.name);
        format!(
            "\n> **Cut** at {limit} characters: {} left out. All of it: {}\n",
            what.join(", "),
            quoted(&format!(
                "driftless plan --base {base} --head {head}{}",
                if plan.live.is_empty() { "" } else { " --live" }
            ))
        )
    }
}

fn head(plan: &Plan) -> String {
    let affected: usize = plan.groups.iter().map(|g| g.clusters.len()).sum();
    let all = affected + plan.unaffected.len();
    let mut out = String::from("### Driftless plan\n\n");
    let between = format!("From {} to {}", quoted(&revision(&plan.base)), quoted(&revision(&plan.head)));
    if affected == 0 {
        let known = super::as_far_as_known(plan);
        _ = writeln!(out, "{between}: **nothing changes** in {}{known}.", plural(all, "cluster"));
    } else {
        _ = writeln!(
            out,
            "{between}: **{affected} of {} changed**; {}.",
            plural(all, "cluster"),
            in_words(&plan.counts)
        );
    }
    out
}

/// What becomes of objects, in words: nobody looks up signs in a comment.
fn in_words(counts: &Counts) -> String {
    let mut parts = Vec::new();
    for (n, word) in [(counts.creates, "created"), (counts.changes, "changed"), (counts.deletes, "deleted")] {
        match (n, parts.is_empty()) {
            (0, _) => {}
            (n, true) => parts.push(format!("{} {word}", plural(n, "object"))),
            (n, false) => parts.push(format!("{n} {word}")),
        }
    }
    let other = Counts { creates: 0, changes: 0, deletes: 0, ..*counts };
    if parts.is_empty() {
        return summary(&other);
    }
    if other_than_units(&other) {
        parts.push(summary(&other));
    }
    parts.join(", ")
}

fn other_than_units(counts: &Counts) -> bool {
    counts.moves + counts.replaces + counts.applies + counts.approvals + counts.kept + counts.refusals > 0
}

fn warnings_text(plan: &Plan, room: usize, cut: &mut Cut) -> String {
    let all = warnings(plan);
    if all.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n#### Look at these first\n\n");
    for (n, (warning, clusters)) in all.iter().enumerate() {
        let at = warning.at.as_ref().filter(|at| !at.file.is_empty()).map(|at| format!(" ({at})")).unwrap_or_default();
        let mut message = one_line(&warning.message);
        if message.len() > WARNING {
            message = message.chars().take(WARNING).collect::<String>() + "...";
        }
        let line =
            format!("- :warning: **{}**: {}\n", names(clusters.iter().copied(), 5), quoted(&format!("{message}{at}")));
        if n >= WARNINGS || out.len() + line.len() > room {
            cut.warnings = all.len() - n;
            break;
        }
        out.push_str(&line);
    }
    out
}

fn table(plan: &Plan) -> String {
    if plan.groups.is_empty() {
        return String::new();
    }
    let mut out = String::from(
        "\n| Clusters | Units | Created | Changed | Deleted | Moved | Replaced | To approve | Warnings |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    let mut row = |clusters: &str, c: &Counts| {
        let n = |n: usize| if n == 0 { String::new() } else { n.to_string() };
        let cells =
            [c.units, c.creates + c.applies, c.changes, c.deletes, c.moves, c.replaces, c.approvals, c.warnings].map(n);
        _ = writeln!(out, "| {clusters} | {} |", cells.join(" | "));
    };
    for group in plan.groups.iter().take(ROWS) {
        row(&names(group.clusters.iter(), 8), &group.plan.counts);
    }
    if plan.groups.len() > ROWS {
        let mut rest = Counts::default();
        let more = plan.groups.iter().skip(ROWS);
        more.clone().for_each(|g| rest.add(&g.plan.counts));
        let clusters: usize = more.map(|g| g.clusters.len()).sum();
        row(&format!("{clusters} more"), &rest);
    }
    out
}

/// What the API servers say, in at most half of the room.
fn live(plan: &Plan, room: usize, out: &mut String, cut: &mut Cut) {
    let sections = super::live::sections(plan);
    if sections.is_empty() {
        return;
    }
    let most = out.len() + room.saturating_sub(out.len()) / 2;
    out.push_str("\n#### What the API servers say (a dry run)\n");
    for (heading, lines) in sections {
        let heading = format!("\n{}\n\n", quoted(&heading));
        if out.len() + heading.len() > most {
            cut.live += 1 + lines.len();
            continue;
        }
        out.push_str(&heading);
        for line in &lines {
            let (mark, text) = match line {
                Line::Warn(text) => (":x: ", text),
                Line::Note(text) => ("", text),
                _ => continue,
            };
            let mut text = text.clone();
            if text.len() > WARNING {
                text = text.chars().take(WARNING).collect::<String>() + "...";
            }
            let line = format!("- {mark}{}\n", quoted(&text));
            if out.len() + line.len() > most {
                cut.live += 1;
            } else {
                out.push_str(&line);
            }
        }
    }
}

/// Units while there is room. Where it is not enough for every object, those that are deleted are named first of all.
fn details(entries: &[Entry<'_>], room: usize, out: &mut String, cut: &mut Cut) {
    let before = out.len();
    let counts = blocks(entries, room, out);
    if counts.partly + counts.left_out == 0 {
        cut.shortened = counts.shortened;
        return;
    }
    out.truncate(before);
    cut.deleted = deleted(entries, room, out);
    let counts = blocks(entries, room, out);
    (cut.shortened, cut.partly, cut.left_out) = (counts.shortened, counts.partly, counts.left_out);
}

/// Every object that is deleted or made anew, in at most half of the room. Gives how many are not named.
fn deleted(entries: &[Entry<'_>], room: usize, out: &mut String) -> usize {
    let most = out.len() + room.saturating_sub(out.len()) / 2;
    let gone = |action| matches!(action, Action::Delete | Action::Replace);
    let all = || entries.iter().flat_map(|e| e.unit.objects.iter().filter(|o| gone(o.action)).map(move |o| (e, o)));
    let heading = "\n#### Deleted\n\n";
    if all().next().is_none() || out.len() + heading.len() > most {
        return all().count();
    }
    out.push_str(heading);
    let mut unnamed = 0;
    for (entry, object) in all() {
        let name = object.was.as_ref().unwrap_or(&object.key);
        let how = if object.action == Action::Replace { ", replaced" } else { "" };
        let text = quoted(&format!("{name} of unit {}{how}", entry.unit.unit));
        let line = format!("- **{}**: {text}\n", names(entry.clusters.iter().copied(), 5));
        if out.len() + line.len() > most {
            unnamed += 1;
        } else {
            out.push_str(&line);
        }
    }
    unnamed
}

/// Each unit whole, else with fewer lines, else with as many of its objects as fit, else not at all.
fn blocks(entries: &[Entry<'_>], room: usize, out: &mut String) -> Cut {
    let mut cut = Cut::default();
    // What all that follow need to have their objects named.
    let mut needed: Vec<usize> = vec![0];
    for entry in entries.iter().rev() {
        let after = needed.last().copied().unwrap_or_default();
        needed.push(after.saturating_add(block(entry, Detail::Objects).len()));
    }
    for (n, entry) in entries.iter().enumerate() {
        let left = room.saturating_sub(out.len());
        let others = needed.get(entries.len() - n - 1).copied().unwrap_or_default();
        let with_others = needed.get(entries.len() - n).copied().unwrap_or_default();
        // One unit must not take the room of all others, and may have what they do not need.
        let spare = left.saturating_sub(others);
        let share = if left >= with_others { spare } else { spare.max(left / 2) };
        let fits = [Detail::Whole, Detail::Fields, Detail::Objects].into_iter().find_map(|detail| {
            let block = block(entry, detail);
            (block.len() <= share).then_some((block, detail))
        });
        match fits {
            Some((block, detail)) => {
                out.push_str(&block);
                let shorter = detail == Detail::Objects && !entry.unit.objects.iter().all(|o| o.fields.is_empty());
                cut.shortened += usize::from(shorter);
            }
            None => match part(entry, share) {
                Some(block) => {
                    out.push_str(&block);
                    cut.partly += 1;
                }
                None => cut.left_out += 1,
            },
        }
    }
    cut
}

/// A unit with as many of its objects as fit, those first that lose most; `None` when none fits.
fn part(entry: &Entry<'_>, room: usize) -> Option<String> {
    let empty = framed(entry, &[]).len() + "```diff\n\n```\n".len() + 80;
    let mut left = room.checked_sub(empty)?;
    let mut shown = Vec::new();
    let mut unnamed = std::collections::BTreeMap::new();
    for (action, line) in lines::objects_by_loss(entry.unit) {
        let size: usize = dressed(&line).iter().map(|text| text.len() + 1).sum();
        match left.checked_sub(size).filter(|_| unnamed.is_empty()) {
            Some(rest) => {
                left = rest;
                shown.push(line);
            }
            None => *unnamed.entry(action).or_insert(0_usize) += 1,
        }
    }
    if shown.is_empty() {
        return None;
    }
    let more: Vec<String> = unnamed.iter().map(|(action, n)| format!("{n} {}", past(*action))).collect();
    shown.push(Line::Note(format!("and {} more", more.join(", "))));
    let block = framed(entry, &shown);
    (block.len() <= room).then_some(block)
}

const fn past(action: Action) -> &'static str {
    match action {
        Action::Create => "created",
        Action::Apply => "applied",
        Action::Change => "changed",
        Action::Replace => "replaced",
        Action::Move => "moved",
        Action::Delete => "deleted",
    }
}

fn block(entry: &Entry<'_>, detail: Detail) -> String {
    framed(entry, &lines::unit(entry.unit, detail))
}

fn framed(entry: &Entry<'_>, lines: &[Line]) -> String {
    let unit = entry.unit;
    let clusters = names(entry.clusters.iter().copied(), 5);
    let state = lines::state(unit).map(|s| format!(" · {}", html(&s))).unwrap_or_default();
    let mut out = format!(
        "\n<details><summary><b>{clusters}</b> · unit <code>{}</code>{state} · {}</summary>\n\n",
        html(&unit.unit.to_string()),
        html(&summary(&unit.counts))
    );
    if entry.clusters.len() > 6 {
        _ = writeln!(out, "In {}.\n", names(entry.clusters.iter().copied(), 100));
    }
    if !lines.is_empty() {
        let body: Vec<String> = lines.iter().flat_map(dressed).collect();
        let body = body.join("\n");
        let fence = "`".repeat(longest_run(&body).max(2) + 1);
        _ = writeln!(out, "{fence}diff\n{body}\n{fence}");
    }
    out.push_str("\n</details>\n");
    out
}

/// Lines of a `diff` block: what it colours by is the first character.
fn dressed(line: &Line) -> Vec<String> {
    match line {
        Line::Object(action, text) => {
            let (mark, word) = match action {
                Action::Create => ("+", "create"),
                Action::Apply => ("!", "apply"),
                Action::Change => ("!", "change"),
                Action::Replace => ("!", "replace"),
                Action::Move => ("!", "move"),
                Action::Delete => ("-", "delete"),
            };
            vec![format!("{mark} {word} {text}")]
        }
        Line::Field { path, old, new } => {
            let mut out = vec![format!("@@ {path} @@")];
            out.extend(old.iter().map(|old| format!("-   {old}")));
            out.extend(new.iter().map(|new| format!("+   {new}")));
            out
        }
        Line::Option(text) => vec![format!("! option {text}")],
        Line::Text(path) => vec![format!("@@ {path} @@")],
        Line::Old(text) => vec![format!("-   {text}")],
        Line::New(text) => vec![format!("+   {text}")],
        Line::Same(text) => vec![format!("    {text}")],
        Line::Note(text) => vec![format!("#   {text}")],
        Line::Warn(text) => vec![format!("!   {text}")],
    }
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Text as code, in which nothing is markup and nobody is mentioned.
fn quoted(text: &str) -> String {
    let text = one_line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

fn html(text: &str) -> String {
    one_line(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('@', "&#64;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use driftless_render::plan::{Plan, PlanRevision};
    use serde_json::json;

    fn plan(units: usize, value: &str) -> Plan {
        let unit = |n: usize| {
            json!({
                "unit": {"namespace": "flux-system", "name": format!("u{n}"), "kind": "Kustomization"},
                "definedAt": {"source": "s", "file": "f.yaml", "line": 1}, "path": "p",
                "state": {"before": "built", "after": "built"},
                "objects": [{
                    "action": "change", "apiVersion": "v1",
                    "key": {"group": "", "kind": "ConfigMap", "namespace": "n", "name": format!("c{n}")},
                    "at": {"source": "s", "file": "f.yaml", "line": 3},
                    "fields": [{"path": "data.k", "old": "x", "new": value}]
                }],
                "counts": counts(1)
            })
        };
        let units: Vec<_> = (0..units).map(unit).collect();
        let warnings: Vec<_> =
            (0..60).map(|n| json!({"code": "deletesHeld", "message": format!("{n} {value}")})).collect();
        let json = json!({
            "format": 1, "base": {"name": "main", "commit": "1".repeat(40)}, "head": {"name": "HEAD", "commit": "2".repeat(40)},
            "counts": counts(units.len()), "unaffected": [{"cluster": "other"}],
            "groups": [{"clusters": ["a", "b"], "plan": {"change": "stays", "counts": counts(units.len()), "warnings": warnings, "units": units}}]
        });
        serde_json::from_value(json).unwrap()
    }

    fn counts(n: usize) -> serde_json::Value {
        json!({"units": n, "creates": 0, "applies": 0, "changes": n, "replaces": 0, "moves": 0, "deletes": 0, "approvals": 0,
            "kept": 0, "refusals": 0, "warnings": 60})
    }

    #[test]
    fn a_comment_never_passes_the_limit_and_says_what_is_cut() {
        for (units, value) in
            [(1, "y".to_owned()), (400, "y".repeat(150)), (3, "line\n".repeat(5000)), (5000, "é".repeat(100))]
        {
            for limit in [3000, 20_000, COMMENT_LIMIT] {
                let text = render(&plan(units, &value), limit);
                assert!(text.len() <= limit, "{} > {limit}", text.len());
                assert!(text.contains("2 of 3 clusters changed"), "{text}");
                assert!(text.contains("Not affected: other."), "{text}");
                let whole = units == 1 && limit > 20_000;
                assert_eq!(
                    text.contains("**Cut** at"),
                    !whole || text.matches(":warning:").count() < 60,
                    "{units} {limit}"
                );
                assert_eq!(text.matches("<details>").count(), text.matches("</details>").count());
            }
        }
    }

    /// A unit too big for the comment: what is deleted is named whatever else is left out, then what is new, then changes.
    #[test]
    fn objects_of_a_big_unit_are_named_as_far_as_they_go() {
        let big = |deleted: usize| {
            let mut plan = plan(1, "y");
            let unit = &mut plan.groups[0].plan.units[0];
            let one = unit.objects.remove(0);
            let mut add = |action: Action, count: usize, name: &str| {
                for n in 0..count {
                    let mut object = one.clone();
                    object.action = action;
                    object.key.name = format!("{name}{n}").into();
                    unit.objects.push(object);
                }
            };
            add(Action::Change, 4000, "changed");
            add(Action::Create, 3, "new");
            add(Action::Delete, deleted, "gone");
            plan.groups[0].plan.warnings.clear();
            plan
        };
        let text = render(&big(2), COMMENT_LIMIT);
        assert!(text.len() <= COMMENT_LIMIT);
        assert!(text.contains("#### Deleted\n\n- **a, b**: `ConfigMap n/gone0 of unit flux-system/u0`\n"), "{text}");
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} not in\n{text}"));
        assert!(at("- delete ConfigMap n/gone1") < at("+ create ConfigMap n/new0"));
        assert!(at("+ create ConfigMap n/new2") < at("! change ConfigMap n/changed0"));
        let named = text.matches("! change ConfigMap").count();
        assert!(named > 500 && named < 4000, "{named}");
        assert!(text.contains(&format!("#   and {} changed more", 4000 - named)), "{text}");
        assert!(text.contains("objects of 1 unit left out"), "{text}");
        // With small units beside it every one of them is named.
        let mut plan = big(2);
        let small = self::plan(30, "y").groups.remove(0).plan.units;
        plan.groups[0].plan.units.extend(small);
        let text = render(&plan, COMMENT_LIMIT);
        assert_eq!(text.matches("<details>").count(), 31, "{text}");
        // More deletes than fit: as many as fit, and how many are not named.
        let text = render(&big(3000), COMMENT_LIMIT);
        assert!(text.len() <= COMMENT_LIMIT && text.contains("deleted objects"), "{text}");
    }

    #[test]
    fn text_of_a_repository_cannot_leave_its_block_or_mention_anybody() {
        let nasty = "```\n</details>\n@everyone <img src=x> | `code` ``more``";
        let text = render(&plan(1, nasty), COMMENT_LIMIT);
        let fence = text.lines().find(|l| l.ends_with("diff")).unwrap().trim_end_matches("diff");
        assert!(fence.len() > 3 && fence.chars().all(|c| c == '`'), "{fence}");
        assert_eq!(text.lines().filter(|l| l.trim_end() == fence).count(), 1, "one end of the block");
        // Outside of blocks it is code.
        for line in text.lines().filter(|l| l.starts_with("- :warning:")) {
            let code = line.split_once("**: ").unwrap().1;
            assert!(code.starts_with("```") && code.ends_with("```"), "{code}");
        }
        assert_eq!(quoted("a`b"), "``a`b``");
        assert_eq!(quoted("`"), "`` ` ``");
        assert_eq!(html("<a@b>&"), "&lt;a&#64;b&gt;&amp;");
    }

    #[test]
    fn nothing_to_say_is_said_in_two_lines() {
        let revision = |name: &str| PlanRevision { name: name.into(), commit: None };
        let plan = Plan::of(revision("a"), revision("b"), Vec::new());
        assert_eq!(render(&plan, COMMENT_LIMIT).lines().count(), 3);
    }
}
