//! Real repositories whole: every folder with a kustomization file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use driftless_yaml::{Dialect, Limits};

use super::job::{Contestant, Form};
use super::peers::{Outcome, Peers, ours, outcomes, time};
use super::table::{Report, mib, middle, seconds, times};

/// How often ours is repeated within a turn.
const REPEAT: usize = 3;

/// How outputs of one folder compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Bytes,
    Objects,
    Errors,
    /// The program fails because it may neither fetch nor run anything here, and so do we.
    Different,
}

pub(super) fn run(paths: &[PathBuf], rounds: usize, list: bool) -> Result<Report> {
    let peers = Peers::prepare()?;
    let mut report = Report {
        title: "Real repositories whole: every folder with a kustomization file".into(),
        equal: true,
        gate: format!(
            "What kustomize would fetch or run fails for all contestants. Folders that fail count in all times. CPU \
             for all folders; the middle of {rounds} rounds."
        ),
        columns: vec![
            "repository",
            "folders",
            "bytes equal",
            "objects equal",
            "errors agree",
            "different",
            "program",
            "library",
            "Driftless, text",
            "program / text",
            "library / text",
            "our peak memory",
        ],
        rows: Vec::new(),
        notes: Vec::new(),
    };
    for path in paths {
        let root = path.canonicalize().with_context(|| format!("find {}", path.display()))?;
        let mut dirs = Vec::new();
        find(&root, &root, &mut dirs)?;
        dirs.sort();
        ensure!(!dirs.is_empty(), "{}: no folder has a kustomization file", path.display());
        let verdicts = compare(&peers, &root, &dirs)?;
        if list {
            for (dir, verdict) in dirs.iter().zip(&verdicts) {
                println!("{}: {dir}: {verdict:?}", path.display());
            }
        }
        let count = |wanted: Verdict| verdicts.iter().filter(|v| **v == wanted).count();
        for (dir, _) in dirs.iter().zip(&verdicts).filter(|(_, v)| **v == Verdict::Different) {
            report.equal = false;
            report.notes.push(format!("{}: {dir:?} differs", path.display()));
        }
        let contestants = [peers.program.clone(), peers.library.clone(), ours(Form::Yaml)];
        let mut figures: [Vec<f64>; 3] = Default::default();
        let mut peak = 0;
        for _ in 0..rounds {
            for (contestant, figures) in contestants.iter().zip(&mut figures) {
                let is_ours = matches!(contestant, Contestant::Ours { .. });
                let cost = time(contestant, &root, &dirs, if is_ours { REPEAT } else { 1 })?;
                figures.push(cost.cpu);
                if is_ours {
                    peak = peak.max(cost.peak);
                }
            }
        }
        let [program, library, own] = figures.map(|f| middle(&f));
        let name = root.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        report.rows.push(vec![
            name,
            dirs.len().to_string(),
            count(Verdict::Bytes).to_string(),
            count(Verdict::Objects).to_string(),
            count(Verdict::Errors).to_string(),
            count(Verdict::Different).to_string(),
            seconds(program),
            seconds(library),
            seconds(own),
            times(program / own),
            times(library / own),
            mib(peak),
        ]);
    }
    Ok(report)
}

/// Folders that can be built: with a kustomization file that is no Component's. Links are not followed.
fn find(root: &Path, folder: &Path, out: &mut Vec<String>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && entry.file_name() != ".git" {
            find(root, &path, out)?;
        }
        let named =
            ["kustomization.yaml", "kustomization.yml", "Kustomization"].iter().any(|n| entry.file_name() == *n);
        if kind.is_file() && named {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let component = text.lines().any(|line| line.trim_end() == "kind: Component");
            let inside = folder.strip_prefix(root).unwrap_or(folder).to_string_lossy().into_owned();
            if !component && !out.contains(&inside) {
                out.push(inside);
            }
        }
    }
    Ok(())
}

fn compare(peers: &Peers, root: &Path, dirs: &[String]) -> Result<Vec<Verdict>> {
    let (theirs, _) = outcomes(&peers.program, root, dirs)?;
    let (own, _) = outcomes(&ours(Form::Yaml), root, dirs)?;
    let verdicts = theirs.iter().zip(&own).map(|(theirs, own)| match (theirs, own) {
        (Outcome::Text(a), Outcome::Text(b)) if a == b => Verdict::Bytes,
        (Outcome::Text(a), Outcome::Text(b)) if objects(a).is_some_and(|a| Some(a) == objects(b)) => Verdict::Objects,
        (Outcome::Error(_), Outcome::Error(_)) => Verdict::Errors,
        _ => Verdict::Different,
    });
    Ok(verdicts.collect())
}

/// Canonical JSON of every document.
fn objects(text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let documents = driftless_yaml::parse_all(text, Dialect::Resource, &Limits::default()).ok()?;
    documents.iter().map(|d| d.node.to_json().ok()).collect()
}
