//! B1 and B2: builds from nothing.

use anyhow::{Context, Result};

use super::job::{Contestant, Cost, Form};
use super::peers::{Outcome, Peers, ours, outcomes, time};
use super::repo;
use super::table::{Report, mib, middle, seconds, times};

/// How often ours is repeated within a turn of B2, where one build takes milliseconds.
const REPEAT: usize = 10;

struct Entrant {
    name: String,
    contestant: Contestant,
    costs: Vec<Cost>,
}

impl Entrant {
    fn new(name: impl Into<String>, contestant: Contestant) -> Self {
        Self { name: name.into(), contestant, costs: Vec::new() }
    }

    fn cpu(&self) -> f64 {
        middle(&self.costs.iter().map(|c| c.cpu).collect::<Vec<_>>())
    }

    fn wall(&self) -> f64 {
        middle(&self.costs.iter().map(|c| c.wall).collect::<Vec<_>>())
    }

    /// Where ours spends its time.
    fn parts(&self) -> String {
        let part = |at: usize| seconds(middle(&self.costs.iter().map(|c| c.phases[at]).collect::<Vec<_>>()));
        format!("{}: reading files {}, building {}, writing {}.", self.name, part(0), part(1), part(2))
    }

    fn peak(&self) -> u64 {
        self.costs.iter().map(|c| c.peak).max().unwrap_or(0)
    }
}

fn entrants(peers: Peers) -> Vec<Entrant> {
    vec![
        Entrant::new("kustomize, the program, 2 at a time", peers.program),
        Entrant::new("kustomize, the library, one process", peers.library),
        Entrant::new("Driftless, the same text", ours(Form::Yaml)),
        Entrant::new("Driftless, canonical objects and digests", ours(Form::Objects)),
    ]
}

/// All three must give equal bytes for every folder: how many bytes that is, and what it cost program and library.
fn gate(peers: &Peers, root: &std::path::Path, dirs: &[String]) -> Result<(usize, [Cost; 2])> {
    let (expected, program) = outcomes(&peers.program, root, dirs)?;
    let mut costs = [program; 2];
    let mut bytes = 0;
    for (at, contestant) in [(1, &peers.library), (0, &ours(Form::Yaml))] {
        bytes = 0;
        let (outcomes, cost) = outcomes(contestant, root, dirs)?;
        if at == 1 {
            costs[1] = cost;
        }
        for ((dir, theirs), got) in dirs.iter().zip(&expected).zip(outcomes) {
            match (theirs, &got) {
                (Outcome::Text(theirs), Outcome::Text(got)) if theirs == got => bytes += got.len(),
                _ => anyhow::bail!("{dir}: {contestant:?} and the kustomize program differ; nothing was timed"),
            }
        }
    }
    Ok((bytes, costs))
}

/// B1: overlays of 51 objects each.
pub(super) fn b1(overlays: usize, rounds: usize) -> Result<Report> {
    let peers = Peers::prepare()?;
    let folder = tempfile::tempdir().context("a folder for the repository")?;
    let files = repo::overlays(50, overlays);
    repo::write(folder.path(), &files)?;
    let dirs: Vec<String> = (0..overlays).map(repo::overlay_folder).collect();
    let (bytes, _) = gate(&peers, folder.path(), &dirs)?;
    let mut entrants = entrants(peers);
    for round in 0..rounds {
        for entrant in &mut entrants {
            let cost = time(&entrant.contestant, folder.path(), &dirs, 1)?;
            eprintln!("round {}: {}: {} CPU", round + 1, entrant.name, seconds(cost.cpu));
            entrant.costs.push(cost);
        }
    }
    let notes = entrants.iter().skip(2).map(Entrant::parts).collect();
    let best = entrants.last().map_or(0.0, Entrant::cpu);
    let text = entrants[2].cpu();
    Ok(Report {
        title: format!("B1: {overlays} overlays of 51 objects, cold"),
        equal: true,
        gate: format!(
            "All {overlays} outputs equal, byte for byte, with all three ({} each, {} files in the repository). \
             CPU is user and system time; the middle of {rounds} rounds.",
            kib(bytes / overlays.max(1)),
            files.len()
        ),
        columns: vec![
            "contestant",
            "CPU",
            "per overlay",
            "wall",
            "peak memory",
            "against the same text",
            "against objects",
        ],
        rows: entrants
            .iter()
            .map(|e| {
                vec![
                    e.name.clone(),
                    seconds(e.cpu()),
                    seconds(e.cpu() / overlays.max(1) as f64),
                    seconds(e.wall()),
                    mib(e.peak()),
                    times(e.cpu() / text),
                    times(e.cpu() / best),
                ]
            })
            .collect(),
        notes,
    })
}

fn kib(bytes: usize) -> String {
    format!("{:.1} KiB", bytes as f64 / 1024.0)
}

/// B2: one overlay of more and more objects.
pub(super) fn b2(sizes: &[usize], rounds: usize) -> Result<Report> {
    let peers = Peers::prepare()?;
    let mut rows = Vec::new();
    let mut points: Vec<(f64, [f64; 4])> = Vec::new();
    let mut columns = vec!["objects"];
    columns.extend(["program", "library", "Driftless, text", "Driftless, objects", "program / text", "library / text"]);
    for &size in sizes {
        let folder = tempfile::tempdir().context("a folder for the repository")?;
        repo::write(folder.path(), &repo::overlays(size.saturating_sub(1), 1))?;
        let dirs = vec![repo::overlay_folder(0)];
        // The peers take a minute at the largest size, and are far from the noise: the gate is their turn.
        let (_, [program, library]) = gate(&peers, folder.path(), &dirs)?;
        let mut cpu = [0.0; 4];
        let mut figures = [vec![program.cpu], vec![library.cpu], Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (at, form) in [(2, Form::Yaml), (3, Form::Objects)] {
                figures[at].push(time(&ours(form), folder.path(), &dirs, REPEAT)?.cpu);
            }
        }
        for (to, from) in cpu.iter_mut().zip(&figures) {
            *to = middle(from);
        }
        eprintln!("{size} objects: {}", cpu.map(seconds).join(", "));
        let mut row = vec![size.to_string()];
        row.extend(cpu.map(seconds));
        row.push(times(cpu[0] / cpu[2]));
        row.push(times(cpu[1] / cpu[2]));
        rows.push(row);
        points.push((size as f64, cpu));
    }
    let names = ["program", "library", "Driftless, text", "Driftless, objects"];
    let notes = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let curve: Vec<(f64, f64)> = points.iter().map(|(size, cpu)| (*size, cpu[at])).collect();
            let grown = match (curve.first(), curve.last()) {
                (Some(first), Some(last)) => format!("t({})/t({}) = {:.1}", last.0, first.0, last.1 / first.1),
                _ => String::new(),
            };
            format!("{name}: {grown}, exponent of the fit {:.2}", exponent(&curve))
        })
        .collect();
    Ok(Report {
        title: "B2: one overlay, more and more objects".into(),
        equal: true,
        gate: "All outputs equal, byte for byte, at every size. CPU of one build.".into(),
        columns,
        rows,
        notes,
    })
}

/// The slope of the line through the points when both axes are logarithmic.
fn exponent(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let logs: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let (sx, sy) = logs.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (mx, my) = (sx / n, sy / n);
    let (top, bottom) = logs.iter().fold((0.0, 0.0), |(t, b), (x, y)| (t + (x - mx) * (y - my), b + (x - mx).powi(2)));
    if bottom == 0.0 { 0.0 } else { top / bottom }
}

#[cfg(test)]
mod tests {
    use super::exponent;

    #[test]
    fn a_square_has_exponent_two() {
        let points: Vec<(f64, f64)> = [1.0, 2.0, 4.0].iter().map(|x: &f64| (*x, 3.0 * x * x)).collect();
        assert!((exponent(&points) - 2.0).abs() < 1e-9);
    }
}
