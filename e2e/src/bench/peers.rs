//! The contestants, and the gate before any of them is timed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::job::{Contestant, Cost, Form, Job};
use crate::tools::{self, Tool, Tools};

/// How many kustomize programs run at a time.
const WORKERS: usize = 2;

/// Both peers, found or built.
pub(super) struct Peers {
    pub(super) program: Contestant,
    pub(super) library: Contestant,
}

impl Peers {
    pub(super) fn prepare() -> Result<Self> {
        let wanted = [Tool::Kustomize, Tool::KustomizeLibrary];
        let tools = Tools::prepare(&wanted, &mut tools::print_progress)?;
        Ok(Self {
            program: Contestant::Program { path: tools.path(Tool::Kustomize)?.to_owned(), workers: WORKERS },
            library: Contestant::Library { path: tools.path(Tool::KustomizeLibrary)?.to_owned() },
        })
    }
}

pub(super) fn ours(form: Form) -> Contestant {
    Contestant::Ours { form }
}

/// What a contestant made of one folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Text(Vec<u8>),
    Error(String),
}

/// What a contestant makes of each folder, and what that cost.
pub(super) fn outcomes(contestant: &Contestant, root: &Path, dirs: &[String]) -> Result<(Vec<Outcome>, Cost)> {
    let out = tempfile::tempdir().context("a folder for results")?;
    let job = Job {
        contestant: contestant.clone(),
        root: root.to_owned(),
        dirs: dirs.to_vec(),
        out: Some(out.path().to_owned()),
        repeat: 1,
    };
    let cost = job.run()?;
    let read = |number: usize| {
        let text = out.path().join(format!("{number:05}.yaml"));
        if text.exists() {
            return fs::read(&text).map(Outcome::Text).with_context(|| format!("read {}", text.display()));
        }
        let error = out.path().join(format!("{number:05}.err"));
        fs::read_to_string(&error).map(Outcome::Error).with_context(|| format!("read {}", error.display()))
    };
    Ok(((0..dirs.len()).map(read).collect::<Result<_>>()?, cost))
}

/// One turn of a contestant, results dropped.
pub(super) fn time(contestant: &Contestant, root: &Path, dirs: &[String], repeat: usize) -> Result<Cost> {
    Job { contestant: contestant.clone(), root: root.to_owned(), dirs: dirs.to_vec(), out: None, repeat }.run()
}
