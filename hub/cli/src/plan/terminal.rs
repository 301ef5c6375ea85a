//! A plan for a terminal.

use driftless_render::plan::{Action, Plan, WarningCode};

use super::lines::{self, Detail, Line};
use super::live;
use super::{as_far_as_known, entries, held_in_both, names, one_line, plural, revision, summary, warnings};

/// Clusters named on one line.
const NAMED: usize = 30;

/// How a plan is shown in a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With colours.
    pub colour: bool,
    /// With created objects whole.
    pub objects: bool,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The plan as text.
#[must_use]
pub fn render(plan: &Plan, style: Style) -> String {
    let mut out = format!("Plan from {} to {}\n", one_line(&revision(&plan.base)), one_line(&revision(&plan.head)));
    let affected: usize = plan.groups.iter().map(|g| g.clusters.len()).sum();
    let all = affected + plan.unaffected.len();
    if affected == 0 {
        out.push_str(&format!("Nothing changes in {}{}.\n", plural(all, "cluster"), as_far_as_known(plan)));
    } else {
        out.push_str(&format!("{affected} of {} changed: {}\n", plural(all, "cluster"), summary(&plan.counts)));
    }
    let warnings = warnings(plan);
    if !warnings.is_empty() {
        out.push_str(&format!("\n{}\n", style.paint(BOLD, "Look at these first")));
    }
    for (warning, clusters) in &warnings {
        let colour = if warning.code <= WarningCode::UnknownDeletes { RED } else { YELLOW };
        let at = warning.at.as_ref().filter(|at| !at.file.is_empty()).map(|at| format!(" ({at})")).unwrap_or_default();
        out.push_str(&format!(
            "  {} {}: {}{}\n",
            style.paint(colour, "!"),
            names(clusters.iter().copied(), 5),
            one_line(&warning.message),
            style.paint(DIM, &one_line(&at))
        ));
    }
    let detail = if style.objects { Detail::Whole } else { Detail::Fields };
    for entry in entries(plan) {
        let unit = entry.unit;
        let state = lines::state(unit).map(|s| format!("  {}", style.paint(YELLOW, &s))).unwrap_or_default();
        out.push_str(&format!(
            "\n{}{state}\n  {}\n",
            style.paint(BOLD, &format!("unit {}", unit.unit)),
            style
                .paint(DIM, &format!("in {}; {}", names(entry.clusters.iter().copied(), NAMED), summary(&unit.counts)))
        ));
        for line in lines::unit(unit, detail) {
            out.push_str(&dressed(&line, style));
            out.push('\n');
        }
    }
    let live = live::sections(plan);
    if !live.is_empty() {
        out.push_str(&format!("\n{}\n", style.paint(BOLD, "What the API servers say (a dry run)")));
    }
    for (heading, lines) in live {
        out.push_str(&format!("  {}\n", one_line(&heading)));
        for line in lines {
            out.push_str(&dressed(&line, style));
            out.push('\n');
        }
    }
    if !plan.unaffected.is_empty() && affected > 0 {
        let unaffected = plan.unaffected.iter().map(|u| &u.cluster);
        out.push_str(&format!("\nNot affected: {}\n", names(unaffected, NAMED)));
    }
    for line in held_in_both(plan) {
        out.push_str(&style.paint(DIM, &line));
        out.push('\n');
    }
    out
}

fn dressed(line: &Line, style: Style) -> String {
    match line {
        Line::Object(action, text) => {
            let (mark, colour) = match action {
                Action::Create => ("+", GREEN),
                Action::Apply => ("?", YELLOW),
                Action::Change | Action::Replace => ("~", YELLOW),
                Action::Move => (">", CYAN),
                Action::Delete => ("-", RED),
            };
            format!("  {} {text}", style.paint(colour, mark))
        }
        Line::Field { path, old, new } => {
            let (path, red, green) =
                (style.paint(CYAN, path), |t: &String| style.paint(RED, t), |t: &String| style.paint(GREEN, t));
            match (old, new) {
                (Some(old), Some(new)) => format!("      {path}: {} -> {}", red(old), green(new)),
                (Some(old), None) => format!("      {path}: {} -> (not set)", red(old)),
                (None, Some(new)) => format!("      {path}: (not set) -> {}", green(new)),
                (None, None) => format!("      {path}"),
            }
        }
        Line::Option(text) => format!("    option {text}"),
        Line::Text(path) => format!("      {}:", style.paint(CYAN, path)),
        Line::Old(text) => format!("        {}", style.paint(RED, &format!("-{text}"))),
        Line::New(text) => format!("        {}", style.paint(GREEN, &format!("+{text}"))),
        Line::Same(text) => format!("         {text}"),
        Line::Note(text) => format!("      {}", style.paint(DIM, text)),
        Line::Warn(text) => format!("    {} {text}", style.paint(YELLOW, "!")),
    }
}
