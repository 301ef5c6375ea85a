//! Comments of a text, and which value each belongs to by go-yaml v3's rules.
//!
//! A comment behind a value belongs to it. A run of comment lines belongs to the value that follows, unless it stands
//! right under a value, or is indented less than it, and a blank line follows: then it belongs to what is above.

use std::collections::HashMap;

use super::Written;
use crate::libyaml::Mark;

/// Where a value stands.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) start: Mark,
    pub(super) end: Mark,
    pub(super) scalar: bool,
    pub(super) flow: bool,
    pub(super) key: bool,
    /// The list or map around it.
    pub(super) parent: Option<usize>,
    pub(super) map: bool,
}

/// Comments by the number of their value.
#[derive(Default)]
pub(super) struct Comments {
    head: HashMap<usize, String>,
    line: HashMap<usize, String>,
    foot: HashMap<usize, String>,
}

/// Lines of comment with nothing but blanks before them, and no other line between.
struct Run {
    first: usize,
    last: usize,
    column: usize,
    text: String,
}

impl Comments {
    pub(super) fn new(text: &str, places: &[Place]) -> Self {
        let mut out = Self::default();
        // With other line ends than `\n` the scanner counts lines that are none here: then comments are left out.
        if !text.contains('#') || text.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
            return out;
        }
        let lines: Vec<&str> = text.split('\n').collect();
        let inside = scalar_spans(places, lines.len());
        let mut run: Option<Run> = None;
        let mut runs: Vec<Run> = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let found = comment_start(line, &inside[number]);
            let Some(column) = found else {
                runs.extend(run.take());
                continue;
            };
            let comment = &line[line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)..];
            let comment = comment.trim_end_matches('\r');
            let alone = line.chars().take(column).all(|c| c == ' ' || c == '\t');
            if !alone {
                runs.extend(run.take());
                out.behind(number, column, comment, places);
                continue;
            }
            match &mut run {
                Some(open) if open.column == column => {
                    open.last = number;
                    open.text.push('\n');
                    open.text.push_str(comment);
                }
                _ => {
                    runs.extend(run.take());
                    run = Some(Run { first: number, last: number, column, text: comment.to_owned() });
                }
            }
        }
        runs.extend(run.take());
        for run in &runs {
            out.alone(run, &lines, places);
        }
        out
    }

    /// A comment behind something: of the last value on its line, or of the list or map that ends there.
    fn behind(&mut self, line: usize, column: usize, text: &str, places: &[Place]) {
        let here = |mark: &Mark| mark.line as usize == line && mark.column as usize <= column;
        let last = places
            .iter()
            .enumerate()
            .filter(|(_, p)| (p.scalar || p.flow) && here(&p.end))
            .max_by_key(|(at, p)| (p.end.column, std::cmp::Reverse(*at)));
        match last {
            Some((at, _)) => add(&mut self.line, at, text),
            // Behind a dash: it goes above what follows.
            None => {
                if let Some(next) = places.iter().position(|p| p.start.line as usize > line) {
                    add(&mut self.head, next, text);
                }
            }
        }
    }

    fn alone(&mut self, run: &Run, lines: &[&str], places: &[Place]) {
        let before = places.iter().enumerate().filter(|(_, p)| {
            let end = if p.scalar || p.flow { &p.end } else { &p.start };
            (end.line as usize) < run.first || (end.line as usize == run.first && end.column == 0)
        });
        let before = before.map(|(at, _)| at).next_back();
        let next = places.iter().position(|p| p.start.line as usize > run.last);
        let blank = |line: Option<&&str>| line.is_none_or(|l| l.trim().is_empty());
        let blank_below = blank(lines.get(run.last + 1));
        let right_under = run.first > 0 && !blank(lines.get(run.first - 1));
        let Some(before) = before else {
            if let Some(next) = next {
                add_above(&mut self.head, next, &run.text, blank_below);
            }
            return;
        };
        let indent = indent_of(before, places);
        let dedented = run.column < indent;
        let Some(next) = next else {
            let owner = above(before, run.column, places);
            add(&mut self.foot, owner, &run.text);
            return;
        };
        let waits_for_value = places[before].key;
        if blank_below && (dedented || (right_under && !waits_for_value)) {
            let owner = if dedented { above(before, run.column, places) } else { owner(before, places) };
            add(&mut self.foot, owner, &run.text);
        } else {
            add_above(&mut self.head, next, &run.text, blank_below);
        }
    }

    /// Hands a value its comments.
    pub(super) fn give(&mut self, at: usize, value: &mut Written) {
        for (map, field) in
            [(&mut self.head, &mut value.head), (&mut self.line, &mut value.line), (&mut self.foot, &mut value.foot)]
        {
            if let Some(text) = map.remove(&at) {
                *field = text;
            }
        }
    }
}

fn add(map: &mut HashMap<usize, String>, at: usize, text: &str) {
    let there = map.entry(at).or_default();
    if !there.is_empty() {
        there.push('\n');
    }
    there.push_str(text);
}

/// Adds a run above a value; a blank line between two runs stays.
fn add_above(map: &mut HashMap<usize, String>, at: usize, text: &str, blank_below: bool) {
    add(map, at, text);
    if blank_below {
        map.entry(at).or_default().push('\n');
    }
}

/// The column of the block that a value is in.
fn indent_of(at: usize, places: &[Place]) -> usize {
    let mut around = places[at].parent;
    while let Some(parent) = around {
        if !places[parent].flow {
            return places[parent].start.column as usize;
        }
        around = places[parent].parent;
    }
    0
}

/// What a comment right under a value is the foot of: the key of a map's value, else the value itself.
fn owner(at: usize, places: &[Place]) -> usize {
    match places[at].parent {
        Some(parent) if places[parent].map && !places[at].key => key_before(at, parent, places),
        _ => at,
    }
}

fn key_before(at: usize, parent: usize, places: &[Place]) -> usize {
    (0..at).rev().find(|&i| places[i].parent == Some(parent) && places[i].key).unwrap_or(at)
}

/// What a comment indented less than the value above it is the foot of: the part around it that is at the comment's level.
fn above(mut at: usize, column: usize, places: &[Place]) -> usize {
    loop {
        let Some(parent) = places[at].parent else { return at };
        if !places[parent].flow && places[parent].start.column as usize <= column {
            return owner(at, places);
        }
        at = parent;
    }
}

/// For each line the columns that belong to scalars.
fn scalar_spans(places: &[Place], lines: usize) -> Vec<Vec<(usize, usize)>> {
    let mut out = vec![Vec::new(); lines];
    for place in places.iter().filter(|p| p.scalar) {
        let (start, end) = (place.start.line as usize, place.end.line as usize);
        for (line, spans) in out.iter_mut().enumerate().take(end + 1).skip(start) {
            let from = if line == start { place.start.column as usize } else { 0 };
            let to = if line == end { place.end.column as usize } else { usize::MAX };
            spans.push((from, to));
        }
    }
    out
}

/// The column of the sign that starts a comment on a line.
fn comment_start(line: &str, inside: &[(usize, usize)]) -> Option<usize> {
    let mut before = ' ';
    for (column, c) in line.chars().enumerate() {
        if c == '#' && matches!(before, ' ' | '\t') && !inside.iter().any(|(from, to)| (*from..*to).contains(&column)) {
            return Some(column);
        }
        before = c;
    }
    None
}
