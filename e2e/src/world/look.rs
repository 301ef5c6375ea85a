//! What an operator sees through `driftless`, and waiting for it.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use driftless_protocol::api::{FleetStatus, SourceRow, Stage, Step, UnitDetail, UnitRow, Why};
use driftless_protocol::report::Ready;

use super::World;
use crate::wait::{self, Seen};

/// Long enough for a machine that does other things too; nothing waits that long when it works.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

impl World {
    /// What `driftless` prints for people.
    ///
    /// # Errors
    /// It failed.
    pub async fn text(&self, args: &[&str]) -> Result<String> {
        let answer = self.cli(args).await?;
        ensure!(
            answer.code == Some(0),
            "driftless {} ended with {:?}: {}",
            args.join(" "),
            answer.code,
            answer.stderr.trim()
        );
        Ok(answer.stdout)
    }

    /// `driftless status`.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn status(&self) -> Result<FleetStatus> {
        self.ask(&["status"]).await
    }

    /// The hub's one source.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn source(&self) -> Result<SourceRow> {
        let rows: Vec<SourceRow> = self.ask(&["get", "sources"]).await?;
        rows.into_iter().next().context("no source")
    }

    /// Every unit of every cluster.
    ///
    /// # Errors
    /// The hub does not answer.
    pub async fn units(&self) -> Result<Vec<UnitRow>> {
        self.ask(&["get", "units"]).await
    }

    /// One unit.
    ///
    /// # Errors
    /// It is not there, or the hub does not answer.
    pub async fn unit(&self, cluster: &str, name: &str) -> Result<UnitRow> {
        let rows: Vec<UnitRow> = self.ask(&["get", "units", "--cluster", cluster]).await?;
        rows.into_iter().find(|u| u.unit.name == name).with_context(|| format!("no unit {name} in {cluster}"))
    }

    /// `driftless describe`, as data.
    ///
    /// # Errors
    /// It is not there, or the hub does not answer.
    pub async fn detail(&self, cluster: &str, name: &str) -> Result<UnitDetail> {
        self.ask(&["describe", name, "--cluster", cluster]).await
    }

    /// One link of `driftless why`.
    ///
    /// # Errors
    /// It is not there, or the hub does not answer.
    pub async fn step(&self, cluster: &str, name: &str, stage: Stage) -> Result<Step> {
        let why: Why = self.ask(&["why", name, "--cluster", cluster]).await?;
        why.steps.into_iter().find(|s| s.stage == stage).with_context(|| format!("why has no step {stage:?}"))
    }

    /// Waits until a unit is as asked, and answers with its row.
    ///
    /// # Errors
    /// It did not become so; the message has what was seen last.
    pub async fn wait_unit(
        &self,
        cluster: &str,
        name: &str,
        what: &str,
        holds: impl Fn(&UnitRow) -> bool,
    ) -> Result<UnitRow> {
        let holds = &holds;
        let row = wait::until(PATIENCE, format!("{name} in {cluster} {what}"), || async move {
            match self.unit(cluster, name).await {
                Ok(row) if holds(&row) => Seen::Done(row),
                Ok(row) => Seen::NotYet(format!(
                    "{:?} {}: {} (revision {:?}, {} drifted, {} held deletes)",
                    row.ready, row.reason, row.message, row.revision, row.drifted, row.held_deletes
                )),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            }
        })
        .await?;
        Ok(row)
    }

    /// Waits until every unit of every cluster runs this commit and is ready, without drift and without held deletes.
    ///
    /// # Errors
    /// It did not become so; the message names the units.
    pub async fn wait_at(&self, commit: &str) -> Result<()> {
        self.wait_at_except(commit, &[]).await
    }

    /// The same but for units of these names.
    ///
    /// # Errors
    /// As [`World::wait_at`].
    pub async fn wait_at_except(&self, commit: &str, but: &[&str]) -> Result<()> {
        wait::until(PATIENCE, format!("all units to run commit {}", &commit[..8]), || async {
            let fleet = self.status().await?;
            for cluster in &self.clusters {
                let row = fleet.clusters.iter().find(|c| c.name.as_str() == cluster.name());
                if row.is_none_or(|c| !c.connected || c.units.total == 0) {
                    bail!("cluster {} is not there, not connected or has no units: {row:?}", cluster.name());
                }
            }
            let waiting: Vec<String> = self
                .units()
                .await?
                .iter()
                .filter(|u| !but.contains(&u.unit.name.as_str()) && !settled(u, commit))
                .map(|u| {
                    let revision = u.revision.as_deref().unwrap_or("none");
                    let open = format!("{} drifted, {} held deletes", u.drifted, u.held_deletes);
                    format!("{} {} {:?} at {revision}, {open}: {}", u.cluster, u.unit.name, u.ready, u.message)
                })
                .collect();
            if !waiting.is_empty() {
                bail!("{}", waiting.join("; "));
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Waits until the hub has fetched this commit.
    ///
    /// # Errors
    /// It did not.
    pub async fn wait_fetched(&self, commit: &str) -> Result<()> {
        wait::until(PATIENCE, format!("the hub to fetch commit {}", &commit[..8]), || async {
            let source = self.source().await?;
            if !source.revision.as_deref().is_some_and(|r| r.ends_with(commit)) {
                bail!("{:?} {}", source.revision, source.message);
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Waits until a field of an object in a cluster has this value.
    ///
    /// # Errors
    /// It did not get it.
    pub async fn wait_field(
        &self,
        cluster: &str,
        namespace: &str,
        object: &str,
        path: &str,
        value: &str,
    ) -> Result<()> {
        wait::until(PATIENCE, format!("{path} of {object} in {namespace} of {cluster} to be {value:?}"), || async {
            match self.cluster(cluster).field(namespace, object, path).await {
                Ok(seen) if seen == value => Seen::Done(()),
                Ok(seen) => Seen::NotYet(format!("{seen:?}")),
                Err(error) => Seen::NotYet(format!("{error:#}")),
            }
        })
        .await?;
        Ok(())
    }
}

fn settled(unit: &UnitRow, commit: &str) -> bool {
    unit.ready == Ready::True
        && !unit.suspended
        && !unit.stale
        && unit.drifted == 0
        && unit.held_deletes == 0
        && unit.revision.as_deref().is_some_and(|r| r.ends_with(commit))
}
