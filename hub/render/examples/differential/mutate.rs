//! Changes to real trees: another field, another value, another line.

use crate::case::{Case, is_kustomization};
use crate::grammar::{at, one_field};
use crate::objects;
use crate::rng::Rng;
use crate::value::Value;
use crate::words::SCALARS;

/// Changes a tree once or a few times.
pub(crate) fn mutate(rng: &mut Rng, case: &mut Case) {
    for _ in 0..rng.between(1, 3) {
        match rng.below(10) {
            0..=4 => add_field(rng, case),
            5..=7 => bend(rng, case),
            _ => edit_text(rng, case),
        }
    }
}

fn pick_file(rng: &mut Rng, case: &Case, wanted: impl Fn(&str) -> bool) -> Option<String> {
    let list: Vec<&String> = case.files.keys().filter(|p| wanted(p)).collect();
    if list.is_empty() { None } else { Some(list[rng.below(list.len())].clone()) }
}

fn yaml(path: &str) -> bool {
    [".yaml", ".yml"].iter().any(|e| path.ends_with(e)) || path.ends_with("Kustomization")
}

/// Adds a field of the grammar to a kustomization file.
fn add_field(rng: &mut Rng, case: &mut Case) {
    let own = case.dir.clone();
    let Some(path) = pick_file(rng, case, |p| {
        let (dir, name) = p.rsplit_once('/').unwrap_or(("", p));
        is_kustomization(name) && (dir == own || p.len() % 2 == 0)
    }) else {
        return;
    };
    let dir = path.rsplit_once('/').map_or("", |(d, _)| d).to_owned();
    let text = String::from_utf8_lossy(&case.files[&path]).into_owned();
    let Some(mut value) = objects::parsed(&text) else { return };
    let known: Vec<String> = case.files.keys().filter(|p| yaml(p) && **p != path).cloned().collect();
    let (key, field) = one_field(rng, case, &dir, &known);
    let Value::Map(entries) = &mut value else { return };
    match entries.iter_mut().find(|(k, _)| *k == key) {
        Some((_, Value::Seq(list))) => match field {
            Value::Seq(more) => list.extend(more),
            other => list.push(other),
        },
        Some((_, there)) => *there = field,
        None => {
            // As text behind what is there, so that nothing else of the file changes.
            let mut out = text;
            if !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(&Value::Map(vec![(key, field)]).write(rng));
            case.files.insert(path, out.into());
            return;
        }
    }
    let text = value.write(rng);
    case.files.insert(path, text.into());
}

/// Changes a value of a document.
fn bend(rng: &mut Rng, case: &mut Case) {
    let Some(path) = pick_file(rng, case, yaml) else { return };
    let text = String::from_utf8_lossy(&case.files[&path]).into_owned();
    let mut documents: Vec<String> = text.split("\n---\n").map(str::to_owned).collect();
    let which = rng.below(documents.len());
    let Some(mut value) = objects::parsed(&documents[which]) else { return };
    value.mutate(rng);
    documents[which] = value.write(rng).trim_end_matches('\n').to_owned();
    let mut out = documents.join("\n---\n");
    out.push('\n');
    case.files.insert(path, out.into());
}

/// Changes the text of a file.
fn edit_text(rng: &mut Rng, case: &mut Case) {
    let Some(path) = pick_file(rng, case, |_| true) else { return };
    let text = String::from_utf8_lossy(&case.files[&path]).into_owned();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.is_empty() {
        return;
    }
    let n = rng.below(lines.len());
    match rng.below(9) {
        0 => {
            lines.remove(n);
        }
        1 => lines.insert(n, lines[n].clone()),
        2 => lines[n] = format!("  {}", lines[n]),
        3 => lines[n] = lines[n].trim_start_matches("  ").to_owned(),
        4 => lines.insert(n, rng.pick(&["---\n", "# c\n", "\n", "...\n", "  # c\n", "--- # c\n"]).to_owned()),
        5 => {
            if let Some((key, _)) = lines[n].clone().split_once(": ") {
                let scalar = rng.pick(SCALARS);
                if !scalar.contains('\n') {
                    lines[n] = format!("{key}: {scalar}\n");
                }
            }
        }
        6 => {
            let last = lines.len() - 1;
            lines[last] = lines[last].trim_end().to_owned();
        }
        7 => lines[n] = lines[n].replace('\n', "\r\n"),
        _ => {
            let (a, b) = (n, rng.below(lines.len()));
            lines.swap(a, b);
        }
    }
    case.files.insert(path, lines.concat().into());
}

/// The part of a large tree that a build of `dir` could read: its own folder and what our build touches outside.
pub(crate) fn part(whole: &Case, dir: &str, reads: &[String]) -> Case {
    let mut out = Case { dir: dir.to_owned(), ..Case::default() };
    for path in reads {
        if let Some(bytes) = whole.files.get(path) {
            out.files.insert(path.clone(), bytes.clone());
        }
        if let Some(target) = whole.links.get(path) {
            out.links.insert(path.clone(), target.clone());
        }
    }
    let prefix = at(dir, "");
    let own: Vec<(&String, &Vec<u8>)> = whole.files.iter().filter(|(p, _)| p.starts_with(&prefix)).collect();
    if own.len() < 60 {
        out.files.extend(own.into_iter().map(|(p, b)| (p.clone(), b.clone())));
    }
    out
}
