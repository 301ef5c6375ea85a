//! A long test on one world, as named steps: each is timed, and one that fails does not hide the others.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::World;

/// Runs only the steps whose names contain this text.
const ONLY: &str = "DRIFTLESS_E2E_ONLY";

/// What the steps came to.
#[derive(Debug)]
pub struct Steps {
    only: Option<String>,
    done: Vec<(String, Duration, Option<String>)>,
}

impl Default for Steps {
    fn default() -> Self {
        Self::new()
    }
}

impl Steps {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { only: std::env::var(ONLY).ok().filter(|o| !o.is_empty()), done: Vec::new() }
    }

    /// Runs one step; its failure is kept for [`Steps::finish`].
    pub async fn run(&mut self, name: impl Into<String>, step: impl Future<Output = Result<()>>) {
        let name = name.into();
        if self.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            return;
        }
        let begin = Instant::now();
        let failure = step.await.err().map(|e| format!("{e:#}"));
        let took = begin.elapsed();
        println!("{:>7} ms  {}  {name}", took.as_millis(), if failure.is_some() { "FAILED" } else { "ok    " });
        if let Some(failure) = &failure {
            println!("            {failure}");
        }
        self.done.push((name, took, failure));
    }

    /// Ends the world and fails when a step did, with the ends of all logs.
    ///
    /// # Errors
    /// A step failed, or the world could not be ended in order.
    pub async fn finish(self, world: World) -> Result<()> {
        let failures: Vec<String> =
            self.done.iter().filter_map(|(n, _, f)| f.as_ref().map(|f| format!("- {n}: {f}"))).collect();
        let logs = if failures.is_empty() { String::new() } else { world.logs(60).await };
        world.stop().await?;
        if !failures.is_empty() {
            bail!("{} of {} steps failed:\n{}\n{logs}", failures.len(), self.done.len(), failures.join("\n"));
        }
        Ok(())
    }
}
