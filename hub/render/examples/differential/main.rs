//! Compares our builds with those of the real kustomize 5.8.1, on random and on real input.
//!
//! ```text
//! differential --kustomize PROGRAM [--library PROGRAM] [--seed N] [--runs M] [--from DIR]... [--save DIR] [--work DIR]
//! differential --kustomize PROGRAM [--library PROGRAM] --compare DIR [--save DIR]
//! ```
//!
//! Without `--from` every run is a random tree from a grammar of all fields; with it, most runs are real folders below
//! those given, changed once or a few times. `--compare` builds every kustomization folder below DIR as it is. `--library`
//! names a program that holds kustomize's library and answers again and again: it reads the path of a folder from each
//! line of standard input and writes `ok LENGTH` or `err LENGTH`, a line's end and so many bytes. That is some twenty times
//! faster; what differs is asked again from `--kustomize`. Each difference is made smaller and saved below `--save` with
//! both answers. The same seed gives the same inputs. Exit code 1 when anything differs.
//!
//! Three levels count: equal bytes, equal objects, errors on both sides. What differs on purpose is listed in
//! `hub/render/KUSTOMIZE.md`.

mod case;
mod fields;
mod grammar;
mod mutate;
mod objects;
mod oracle;
mod patches;
mod plugins;
mod rng;
mod shrink;
mod value;
mod verdict;
mod words;

use case::Case;
use oracle::{Answer, Oracle};
use rng::Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use verdict::{Ours, Verdict};

struct Arguments {
    kustomize: PathBuf,
    library: Option<PathBuf>,
    seed: u64,
    runs: u64,
    from: Vec<PathBuf>,
    compare: Option<PathBuf>,
    save: Option<PathBuf>,
    work: PathBuf,
}

fn arguments() -> Result<Arguments, String> {
    let mut out = Arguments {
        kustomize: PathBuf::new(),
        library: None,
        seed: 1,
        runs: 1000,
        from: Vec::new(),
        compare: None,
        save: None,
        work: std::env::temp_dir(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
        let number = || value.parse::<u64>().map_err(|e| format!("{name} {value}: {e}"));
        match name.as_str() {
            "--kustomize" => out.kustomize = value.into(),
            "--library" => out.library = Some(value.into()),
            "--seed" => out.seed = number()?,
            "--runs" => out.runs = number()?,
            "--from" => out.from.push(value.into()),
            "--compare" => out.compare = Some(value.into()),
            "--save" => out.save = Some(value.into()),
            "--work" => out.work = value.into(),
            other => return Err(format!("{other} is no option; see the head of this file")),
        }
    }
    if out.kustomize.as_os_str().is_empty() {
        return Err("--kustomize PROGRAM is missing: the real program, version 5.8.1".to_owned());
    }
    Ok(out)
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let args = arguments()?;
    let version = std::process::Command::new(&args.kustomize).arg("version").output()?;
    println!("kustomize {}", String::from_utf8_lossy(&version.stdout).trim());
    let work = args.work.join(format!("driftless-differential-{}", std::process::id()));
    std::fs::create_dir_all(&work)?;
    // Panics are a verdict of their own; their text would only hide the others.
    std::panic::set_hook(Box::new(|_| {}));
    let mut judge = Judge {
        program: Oracle::Program(args.kustomize.clone()),
        library: args.library.clone().map(Oracle::library),
        work: work.join("t"),
    };
    let counts = match &args.compare {
        Some(root) => compare_all(&mut judge, root, args.save.as_deref()),
        None => fuzz(&mut judge, &args),
    };
    std::fs::remove_dir_all(&work)?;
    let counts = counts?;
    let total: usize = counts.values().sum();
    println!("{total} builds");
    for (verdict, count) in &counts {
        println!("{count:>8}  {verdict:?}");
    }
    Ok(if counts.keys().any(|v| v.is_difference()) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

type Counts = BTreeMap<Verdict, usize>;

struct Judge {
    program: Oracle,
    library: Option<Oracle>,
    work: PathBuf,
}

impl Judge {
    fn fast(&mut self) -> &mut Oracle {
        self.library.as_mut().unwrap_or(&mut self.program)
    }

    /// Both answers for an input that is written to the work folder.
    fn judge(&mut self, case: &Case, fast: bool) -> std::io::Result<(Verdict, Ours, Option<Answer>)> {
        if self.work.exists() {
            std::fs::remove_dir_all(&self.work)?;
        }
        std::fs::create_dir_all(&self.work)?;
        case.write(&self.work)?;
        let dir = self.work.join(&case.dir);
        let theirs = if fast { self.fast().build(&dir)? } else { self.program.build(&dir)? };
        let ours = verdict::ours(case);
        Ok((verdict::compare(&ours, theirs.as_ref()), ours, theirs))
    }

    /// As [`Judge::judge`]; a difference is looked at again with the program itself, several times.
    fn judge_well(&mut self, case: &Case) -> std::io::Result<(Verdict, Ours, Option<Answer>)> {
        let (verdict, ours, theirs) = self.judge(case, true)?;
        if !verdict.is_difference() {
            return Ok((verdict, ours, theirs));
        }
        let mut last = self.judge(case, false)?;
        for _ in 0..3 {
            let again = self.judge(case, false)?;
            if again.2.as_ref().map(|a| a.as_ref().ok()) != last.2.as_ref().map(|a| a.as_ref().ok()) {
                return Ok((Verdict::Unsteady, again.1, again.2));
            }
            last = again;
        }
        Ok(last)
    }
}

fn fuzz(judge: &mut Judge, args: &Arguments) -> std::io::Result<Counts> {
    let mut wholes = Vec::new();
    for root in &args.from {
        let whole = Case::read(root)?;
        let folders = whole.folders();
        println!("{}: {} kustomization folders", root.display(), folders.len());
        if !folders.is_empty() {
            wholes.push((whole, folders));
        }
    }
    let mut counts = Counts::new();
    let mut failures: BTreeMap<String, usize> = BTreeMap::new();
    for run in 0..args.runs {
        let seed = args.seed.wrapping_add(run);
        let mut rng = Rng::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let case = if wholes.is_empty() || rng.chance(10) {
            grammar::tree(&mut rng)
        } else {
            let (whole, folders) = &wholes[rng.below(wholes.len())];
            let dir = &folders[rng.below(folders.len())];
            let mut case = mutate::part(whole, dir, &verdict::reads(whole, dir));
            mutate::mutate(&mut rng, &mut case);
            case
        };
        let (verdict, ours, _) = judge.judge_well(&case)?;
        *counts.entry(verdict).or_default() += 1;
        if let (Verdict::ErrorsAgree, Err((_, why))) = (verdict, &ours) {
            *failures.entry(class(why)).or_default() += 1;
        }
        if verdict.is_difference() {
            let smaller = shrink::shrink(&case, &mut |c| judge.judge(c, true).is_ok_and(|(v, ..)| v == verdict));
            let (verdict, ours, theirs) = judge.judge(&smaller, false)?;
            report(&format!("seed-{seed}"), verdict, &smaller, &ours, theirs.as_ref(), args.save.as_deref())?;
        }
        if (run + 1) % 1000 == 0 {
            println!("{} runs: {counts:?}", run + 1);
        }
    }
    let mut failures: Vec<(String, usize)> = failures.into_iter().collect();
    failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!("the commonest failures that both agree on:");
    for (why, count) in failures.iter().take(12) {
        println!("{count:>8}  {why}");
    }
    Ok(counts)
}

/// A failure without places, names and numbers.
fn class(why: &str) -> String {
    let mut out = String::new();
    let mut quoted = false;
    for c in why.split_once(": ").map_or(why, |(_, rest)| rest).chars() {
        match c {
            '"' => quoted = !quoted,
            c if quoted || c.is_ascii_digit() => {}
            c => out.push(c),
        }
    }
    out.chars().take(90).collect()
}

fn report(
    name: &str,
    verdict: Verdict,
    case: &Case,
    ours: &Ours,
    theirs: Option<&Answer>,
    save: Option<&Path>,
) -> std::io::Result<()> {
    let first = |text: &str| text.trim().lines().next_back().unwrap_or_default().chars().take(300).collect::<String>();
    let ours_text = match ours {
        Ok(text) => text.clone(),
        Err((_, why)) => format!("error: {why}\n"),
    };
    let theirs_text = match theirs {
        Some(Ok(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Err(why)) => why.clone(),
        None => "no answer".to_owned(),
    };
    let hint = match verdict {
        Verdict::OnlyOursFails | Verdict::Panic => first(&ours_text),
        Verdict::OnlyTheirsFails => first(&theirs_text),
        _ => {
            let pair = ours_text.lines().zip(theirs_text.lines()).find(|(a, b)| a != b);
            pair.map(|(a, b)| format!("ours {a:?}, theirs {b:?}")).unwrap_or_default()
        }
    };
    println!("{name} {verdict:?}: {hint}");
    if let Some(save) = save {
        let folder = save.join(format!("{verdict:?}-{name}"));
        std::fs::create_dir_all(folder.join("in"))?;
        case.write(&folder.join("in"))?;
        std::fs::write(folder.join("dir"), &case.dir)?;
        std::fs::write(folder.join("ours"), ours_text)?;
        std::fs::write(folder.join("theirs"), theirs_text)?;
    }
    Ok(())
}

/// Builds every kustomization folder below `root` where it is.
fn compare_all(judge: &mut Judge, root: &Path, save: Option<&Path>) -> std::io::Result<Counts> {
    let root = root.canonicalize()?;
    let mut whole = Case::read(&root)?;
    let mut counts = Counts::new();
    for dir in whole.folders() {
        whole.dir.clone_from(&dir);
        let ours = verdict::ours(&whole);
        let theirs = judge.program.build(&root.join(&dir))?;
        let verdict = verdict::compare(&ours, theirs.as_ref());
        *counts.entry(verdict).or_default() += 1;
        if verdict.is_difference() || verdict == Verdict::Deliberate {
            let name = if dir.is_empty() { "root".to_owned() } else { dir.replace('/', "+") };
            let part = mutate::part(&whole, &dir, &verdict::reads(&whole, &dir));
            report(&name, verdict, &part, &ours, theirs.as_ref(), save)?;
        }
    }
    Ok(counts)
}
