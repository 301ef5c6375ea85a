//! A unit's plan as lines with a meaning, which each output dresses in its own way.

use std::time::Duration;

use driftless_protocol::bundle::ApplyMode;
use driftless_protocol::marks;
use driftless_render::plan::{
    Action, ChangedField, FateKind, ObjectPlan, ObjectText, Outcome, UnitPlan, UnitState, WithheldChange,
};
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use super::one_line;

/// Lines of a created object that are shown.
const CREATED_LINES: usize = 60;
/// Lines of one changed text that are shown.
const TEXT_LINES: usize = 120;
/// Characters of a value on one line.
const WIDTH: usize = 160;
/// Characters of what is equal around a difference.
const AROUND: usize = 40;

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// An object: what is done, which, and what else is to be said.
    Object(Action, String),
    /// An option of the unit before and after.
    Option(String),
    /// A field with a short value before and after.
    Field { path: String, old: Option<String>, new: Option<String> },
    /// A field whose difference follows in lines.
    Text(String),
    /// A line that is gone.
    Old(String),
    /// A line that is new.
    New(String),
    /// A line around them.
    Same(String),
    /// Good to know.
    Note(String),
    /// To look at first.
    Warn(String),
}

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Fields, and created objects whole.
    Whole,
    /// Fields.
    Fields,
    /// Objects only.
    Objects,
}

/// A unit's state, when it is another or worth a word.
pub(super) fn state(unit: &UnitPlan) -> Option<String> {
    use UnitState::{Absent, Built, Held, Suspended};
    if let Some(from) = &unit.renamed_from {
        return Some(format!("was unit {from}"));
    }
    if let Some(to) = &unit.renamed_to {
        return Some(format!("is unit {to} now"));
    }
    let text = match (unit.state.before, unit.state.after) {
        (Absent, Built) => "new",
        (Absent, Held) => "new, held: it cannot be built",
        (Absent, Suspended) => "new, suspended",
        (Built, Absent) => "leaves Git",
        (before, Absent) => return Some(format!("leaves Git; was {}", before.as_str())),
        (Held, Built) => "no longer held: what of it the cluster has already is not known here",
        (Suspended, Built) => "resumed: what of it the cluster has already is not known here",
        (_, Suspended) if unit.state.before != Suspended => "becomes suspended: the cluster keeps what it has",
        (_, Held) if unit.state.before != Held => "becomes held: the cluster keeps what it has",
        _ => return None,
    };
    Some(text.to_owned())
}

/// A unit's plan.
pub(super) fn unit(unit: &UnitPlan, detail: Detail) -> Vec<Line> {
    let mut out = Vec::new();
    if let Some(why) = &unit.held {
        out.push(Line::Warn(one_line(&why.to_string())));
    }
    for option in &unit.options {
        let side = |v: &Option<Value>| v.as_ref().map_or_else(|| "(not set)".to_owned(), scalar_or_json);
        out.push(Line::Option(format!("{}: {} -> {}", option.name, side(&option.old), side(&option.new))));
    }
    let idle = |o: &&ObjectPlan| o.action == Action::Move && o.fields.is_empty();
    let moved: Vec<&ObjectPlan> = unit.objects.iter().filter(idle).collect();
    // A renamed unit takes its objects along: saying each of them would hide what differs.
    let along = unit.renamed_from.as_ref().filter(|_| moved.len() > 1);
    if let Some(from) = along {
        out.push(Line::Note(format!("{} objects move along from unit {from}, unchanged", moved.len())));
    }
    for object in &unit.objects {
        if along.is_some() && object.moved_from.as_ref() == along && idle(&object) {
            continue;
        }
        self::object(object, unit.state.before == UnitState::Built, detail, &mut out);
    }
    reasons(unit, &mut out);
    for leaving in &unit.leaving {
        out.push(Line::Note(format!("{} moves to unit {}", one_line(&leaving.key.to_string()), leaving.to)));
    }
    for withheld in &unit.withheld {
        let what = match withheld.change {
            WithheldChange::New => "new in Git, not sent",
            WithheldChange::NoLongerSent => "no longer sent, kept in the cluster as it is",
            WithheldChange::Content => "its encrypted or withheld content differs; still not sent",
            WithheldChange::Gone => "left Git; it was not sent before either",
        };
        let text = format!("{}: {what} ({})", withheld.key, withheld.why);
        out.push(match withheld.change {
            WithheldChange::Content | WithheldChange::Gone => Line::Note(one_line(&text)),
            _ => Line::Warn(one_line(&text)),
        });
    }
    for problem in &unit.problems {
        out.push(Line::Warn(one_line(&problem.to_string())));
    }
    out
}

/// The objects of a unit, a line each: those first that lose most.
pub(super) fn objects_by_loss(unit: &UnitPlan) -> Vec<(Action, Line)> {
    let rank = |action: Action| match action {
        Action::Delete => 0,
        Action::Replace => 1,
        Action::Create => 2,
        Action::Apply => 3,
        Action::Change => 4,
        Action::Move => 5,
    };
    let mut sorted: Vec<&ObjectPlan> = unit.objects.iter().collect();
    sorted.sort_by_key(|object| rank(object.action));
    let known = unit.state.before == UnitState::Built;
    let line = |object: &ObjectPlan| {
        let mut lines = Vec::new();
        self::object(object, known, Detail::Objects, &mut lines);
        lines.into_iter().next().map(|line| (object.action, line))
    };
    sorted.into_iter().filter_map(line).collect()
}

/// Why objects that left Git are not simply deleted, each reason once.
fn reasons(unit: &UnitPlan, out: &mut Vec<Line>) {
    let mut said: Vec<(FateKind, &str)> = Vec::new();
    for fate in unit.objects.iter().filter_map(|o| o.fate.as_ref()).filter(|f| !f.why.is_empty()) {
        if !said.contains(&(fate.is, &fate.why)) {
            said.push((fate.is, &fate.why));
            out.push(Line::Note(format!("{}: {}", word(fate.is), one_line(&fate.why))));
        }
    }
}

/// What becomes of an object that left Git, in a few words.
const fn word(fate: FateKind) -> &'static str {
    match fate {
        FateKind::Deleted => "deleted",
        FateKind::NeedsApproval => "deleted only when approved",
        FateKind::Waits => "kept for now",
        FateKind::LeftAlone => "left in the cluster",
    }
}

/// An object; `known`: what its unit has in the cluster is known.
fn object(object: &ObjectPlan, known: bool, detail: Detail, out: &mut Vec<Line>) {
    let mut text = object.key.to_string();
    if let Some(from) = &object.moved_from {
        text.push_str(&format!("  moves here from unit {from}"));
    }
    if let Some(was) = &object.was {
        text.push_str(&format!("  replaces {}", was.name));
    }
    // Said once where all of the unit is unknown.
    if object.action == Action::Apply && known {
        text.push_str("  applied; whether the cluster has it is not known here");
    }
    if let Some(fate) = &object.fate {
        match (object.action, fate.is) {
            (Action::Replace, FateKind::Deleted) => {}
            (Action::Replace, is) => text.push_str(&format!("  the old one is {}", word(is))),
            (_, is) => text.push_str(&format!("  {}", word(is))),
        }
    }
    if !object.at.file.is_empty() {
        text.push_str(&format!("  ({})", object.at));
    }
    out.push(Line::Object(object.action, one_line(&text)));
    match object.apply {
        ApplyMode::Override | ApplyMode::Merge => {}
        ApplyMode::IfNotPresent => {
            out.push(Line::Note("only made where it is not there (IfNotPresent): never changed".to_owned()));
        }
        ApplyMode::Ignore => {
            out.push(Line::Note("left alone (a mark on it says so): neither made nor changed".to_owned()))
        }
    }
    for option in &object.options {
        let side = |v: &Option<Value>| v.as_ref().map_or_else(|| "(not set)".to_owned(), scalar_or_json);
        out.push(Line::Note(format!("{}: {} -> {}", option.name, side(&option.old), side(&option.new))));
    }
    for found in &object.immutable {
        let effect = match found.outcome {
            Outcome::Refused => "the API server will refuse this",
            Outcome::Recreated => "deleted and created again, once approved",
        };
        out.push(Line::Warn(format!("{}: {effect}", one_line(&found.why))));
    }
    if detail == Detail::Objects {
        return;
    }
    if let Some(whole) = object.object.as_ref().filter(|_| detail == Detail::Whole) {
        created(whole, out);
    }
    object.fields.iter().for_each(|change| field(change, out));
}

fn created(object: &ObjectText, out: &mut Vec<Line>) {
    let mut value = object.value();
    without_owner(&mut value);
    let text = yaml(&value);
    let lines: Vec<&str> = text.lines().collect();
    out.extend(lines.iter().take(CREATED_LINES).map(|line| Line::New(cut(&one_line(line)))));
    if lines.len() > CREATED_LINES {
        out.push(Line::Note(format!("{} more lines", lines.len() - CREATED_LINES)));
    }
}

/// Takes out the labels that say whose the object is: every object has them, and the heading says it.
fn without_owner(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(labels) = metadata.get_mut("labels").and_then(Value::as_object_mut) else { return };
    for label in [marks::FLUX_OWNER_NAME, marks::FLUX_OWNER_NAMESPACE, marks::UNIT_LABEL] {
        labels.remove(label);
    }
    if labels.is_empty() {
        metadata.remove("labels");
    }
}

fn field(change: &ChangedField, out: &mut Vec<Line>) {
    let mut path = one_line(&change.path.to_string());
    if change.ignored {
        path.push_str(" (left to others by an ignore rule)");
    }
    if let Some(key) = &change.follows {
        out.push(Line::Note(format!("{path} follows {} to {}", one_line(&key.kind), one_line(&key.name))));
        return;
    }
    let short = |v: &Option<Value>| match v {
        Some(Value::Array(items)) if change.reordered => {
            let names: Vec<String> = items.iter().map(scalar_or_json).collect();
            Some(names.join(" "))
        }
        v => v.as_ref().map(scalar_or_json),
    };
    if change.reordered {
        out.push(Line::Field { path: format!("{path} (order)"), old: short(&change.old), new: short(&change.new) });
        return;
    }
    let in_lines = |v: &Value| match v {
        Value::String(text) => text.trim_end_matches('\n').contains('\n'),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        _ => false,
    };
    if change.old.iter().chain(&change.new).any(in_lines) {
        out.push(Line::Text(path));
        let text = |v: &Option<Value>| v.as_ref().map(text_of).unwrap_or_default();
        differing(&text(&change.old), &text(&change.new), out);
        return;
    }
    let (mut old, mut new) = (short(&change.old), short(&change.new));
    if let (Some(a), Some(b)) = (&mut old, &mut new) {
        excerpt(a, b);
    }
    out.push(Line::Field { path, old: old.map(|v| cut(&v)), new: new.map(|v| cut(&v)) });
}

/// The lines that differ between two texts, with a few around them.
fn differing(old: &str, new: &str, out: &mut Vec<Line>) {
    // Beyond that time the difference is found roughly; it is still a difference.
    let diff = TextDiff::configure().timeout(Duration::from_millis(500)).diff_lines(old, new);
    let mut lines = Vec::new();
    for (n, group) in diff.grouped_ops(3).iter().enumerate() {
        if n > 0 {
            lines.push(Line::Same("...".to_owned()));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let text = cut(&one_line(change.value().trim_end_matches('\n')));
            lines.push(match change.tag() {
                ChangeTag::Delete => Line::Old(text),
                ChangeTag::Insert => Line::New(text),
                ChangeTag::Equal => Line::Same(text),
            });
        }
    }
    if old.ends_with('\n') != new.ends_with('\n') && !old.is_empty() && !new.is_empty() {
        let which = if new.ends_with('\n') { "new" } else { "old" };
        lines.push(Line::Note(format!("only the {which} text ends with a line break")));
    }
    let more = lines.len().saturating_sub(TEXT_LINES);
    lines.truncate(TEXT_LINES);
    out.extend(lines);
    if more > 0 {
        out.push(Line::Note(format!("{more} more lines")));
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => yaml(other),
    }
}

/// As YAML, which is what reviewers read everywhere else.
fn yaml(value: &Value) -> String {
    driftless_yaml::from_json(value.to_string().as_bytes(), &driftless_yaml::Limits::default())
        .map_err(|e| e.to_string())
        .and_then(|node| driftless_yaml::to_string(&node).map_err(|e| e.to_string()))
        .unwrap_or_else(|_| value.to_string())
}

/// A value on one line: a text without quotes where nothing is lost by it, all else as JSON.
fn scalar_or_json(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let plain = !text.is_empty()
                && text.trim() == text
                && !text.contains(char::is_control)
                && serde_json::from_str::<Value>(text).is_err();
            if plain { one_line(text) } else { one_line(&value.to_string()) }
        }
        other => one_line(&other.to_string()),
    }
}

/// Takes from two long lines what is equal at both ends, so that the difference is seen.
fn excerpt(old: &mut String, new: &mut String) {
    if old.chars().count() <= WIDTH && new.chars().count() <= WIDTH {
        return;
    }
    let (a, b): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
    let equal =
        |n: usize, at: &dyn Fn(&[char], usize) -> Option<char>| (0..n).take_while(|i| at(&a, *i) == at(&b, *i)).count();
    let shorter = a.len().min(b.len());
    let front = equal(shorter, &|s, i| s.get(i).copied());
    let back = equal(shorter - front, &|s, i| s.get(s.len() - 1 - i).copied());
    let (front, back) = (front.saturating_sub(AROUND), back.saturating_sub(AROUND));
    let part = |chars: &[char]| {
        let inner: String = chars.iter().skip(front).take(chars.len() - front - back).collect();
        format!("{}{inner}{}", if front > 0 { "..." } else { "" }, if back > 0 { "..." } else { "" })
    };
    (*old, *new) = (part(&a), part(&b));
}

/// At most [`WIDTH`] characters, with what is missing.
fn cut(text: &str) -> String {
    let count = text.chars().count();
    if count <= WIDTH * 2 {
        return text.to_owned();
    }
    let start: String = text.chars().take(WIDTH).collect();
    format!("{start}... ({} more characters)", count - WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines(old: Value, new: Value) -> Vec<Line> {
        let side = |v: Value| (!v.is_null()).then_some(v);
        let json = json!({"path": "data.x", "old": old, "new": new});
        let mut change: ChangedField = serde_json::from_value(json).unwrap();
        (change.old, change.new) = (change.old.and_then(side), change.new.and_then(side));
        let mut out = Vec::new();
        field(&change, &mut out);
        out
    }

    fn short(old: &str, new: &str) -> Vec<Line> {
        let side = |v: &str| (!v.is_empty()).then(|| v.to_owned());
        vec![Line::Field { path: "data.x".into(), old: side(old), new: side(new) }]
    }

    #[test]
    fn short_values_stand_on_one_line_and_texts_as_differences() {
        assert_eq!(lines(json!("a:1"), json!("a:2")), short("a:1", "a:2"));
        assert_eq!(lines(json!(80), json!("80")), short("80", "\"80\""), "a number and its text look different");
        assert_eq!(lines(Value::Null, json!(" x")), short("", "\" x\""));
        assert_eq!(lines(json!([]), json!({})), short("[]", "{}"));
        assert_eq!(
            lines(json!("a\nb\nc\n"), json!("a\nB\nc\n")),
            [
                Line::Text("data.x".into()),
                Line::Same("a".into()),
                Line::Old("b".into()),
                Line::New("B".into()),
                Line::Same("c".into()),
            ]
        );
        assert_eq!(
            lines(json!(["x", "z"]), json!(["z"])),
            [Line::Text("data.x".into()), Line::Old("- x".into()), Line::Same("- z".into())]
        );
        let ends = lines(json!("a\nb\n"), json!("a\nb"));
        assert_eq!(ends.last(), Some(&Line::Note("only the old text ends with a line break".into())));
    }

    #[test]
    fn long_lines_show_where_they_differ() {
        let long = |middle: &str| json!(format!("{}{middle}{}", "a".repeat(500), "b".repeat(500)));
        let around = |middle: &str| format!("...{}{middle}{}...", "a".repeat(AROUND), "b".repeat(AROUND));
        assert_eq!(lines(long("ONE"), long("TWO")), short(&around("ONE"), &around("TWO")));
        let Line::Field { new: Some(new), .. } = &lines(Value::Null, long("x"))[0] else { panic!("no field") };
        assert!(new.ends_with("... (841 more characters)"), "{new}");
    }

    #[test]
    fn nothing_in_a_value_can_move_the_cursor() {
        for value in ["a\u{1b}[2J", "x\u{202e}y", "line\rover"] {
            for value in [json!(value), json!(format!("two\n{value}\n")), json!([value])] {
                for line in lines(json!("old"), value) {
                    let text = match line {
                        Line::Object(_, text)
                        | Line::Option(text)
                        | Line::Text(text)
                        | Line::Note(text)
                        | Line::Warn(text) => text,
                        Line::Old(text) | Line::New(text) | Line::Same(text) => text,
                        Line::Field { old, new, .. } => old.unwrap_or_default() + &new.unwrap_or_default(),
                    };
                    assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']), "{text:?}");
                }
            }
        }
    }
}
