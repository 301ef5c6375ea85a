//! `driftless status`, `get units`, `get sources`, `cluster list`: rows.

use std::process::ExitCode;

use driftless_protocol::api::{AuditEntry, ClusterRow, FleetStatus, List, SourceRow, UnitCounts, UnitRow};
use driftless_protocol::report::{PauseReport, Ready};

use super::unit::line;
use crate::args::Output;
use crate::client::{Client, escape};
use crate::error::CliError;
use crate::ui::{self, Table, ago};

/// `driftless status`.
pub async fn status(client: &Client, output: Output, check: bool) -> Result<ExitCode, CliError> {
    let fleet: FleetStatus = client.get("/status").await?;
    ui::print(output, &fleet, || status_text(&fleet))?;
    let in_order =
        fleet.clusters.iter().all(|c| c.ready == Ready::True) && fleet.sources.iter().all(|s| s.ready == Ready::True);
    Ok(if check && !in_order { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `driftless facts export`: a facts file on stdout.
pub async fn facts(client: &Client, output: Output, cluster: &str) -> Result<ExitCode, CliError> {
    // Whatever this hub knows of, in its own words: the file is read back by the same name.
    let facts: serde_json::Value = client.get(&format!("/clusters/{}/facts", escape(cluster))).await?;
    let output = if output == Output::Table { Output::Yaml } else { output };
    ui::print(output, &facts, String::new)?;
    Ok(ExitCode::SUCCESS)
}

fn status_text(fleet: &FleetStatus) -> String {
    let connected = fleet.clusters.iter().filter(|c| c.connected).count();
    let mut u = UnitCounts::default();
    for counts in fleet.clusters.iter().map(|c| c.units) {
        u.total += counts.total;
        u.ready += counts.ready;
        u.failed += counts.failed;
        u.progressing += counts.progressing;
        u.suspended += counts.suspended;
        u.drifted += counts.drifted;
        u.held_deletes += counts.held_deletes;
        u.paused += counts.paused;
    }
    let mut text = format!(
        "{} clusters, {connected} connected; {} units: {} ready, {} failed, {} in progress, {} suspended, {} drifted\n",
        fleet.clusters.len(),
        u.total,
        u.ready,
        u.failed,
        u.progressing,
        u.suspended,
        u.drifted
    );
    if u.held_deletes > 0 {
        text.push_str(&format!("{} deletes wait for approval (driftless get deletes)\n", u.held_deletes));
    }
    if u.paused > 0 {
        text.push_str(&format!("{} units are paused in their clusters\n", u.paused));
    }
    for cluster in &fleet.clusters {
        for pause in &cluster.pauses {
            text.push_str(&format!("{}\n", line(&format!("{}: {}", cluster.name, pause_text(pause, fleet.now)))));
        }
    }
    if let Some(frozen) = &fleet.frozen {
        text.push_str(&format!(
            "FROZEN for {} by {}: {}\n",
            ago(fleet.now, frozen.since),
            frozen.actor,
            if frozen.reason.is_empty() { "no reason given" } else { &frozen.reason }
        ));
    }
    // The freeze is told above.
    for reason in fleet.rollout.iter().filter(|r| fleet.frozen.is_none() || r.code != "FleetFrozen") {
        text.push_str(&format!("rollout: {}: {}\n", reason.code, reason.message));
    }
    if !fleet.pending.is_empty() {
        let names: Vec<String> = fleet.pending.iter().map(ToString::to_string).collect();
        text.push_str(&format!("not enrolled yet: {}\n", names.join(", ")));
    }
    text.push('\n');
    text.push_str(&clusters_table(&fleet.clusters, fleet.now));
    text.push('\n');
    text.push_str(&sources_table(&fleet.sources, fleet.now));
    text
}

/// `driftless cluster list`.
pub async fn clusters(client: &Client, output: Output, now: u64) -> Result<ExitCode, CliError> {
    let clusters: List<ClusterRow> = client.get("/clusters").await?;
    ui::print(output, &clusters.items, || clusters_table(&clusters.items, now))?;
    Ok(ExitCode::SUCCESS)
}

fn clusters_table(clusters: &[ClusterRow], now: u64) -> String {
    let mut table = Table::new(&["CLUSTER", "READY", "CONNECTED", "UNITS", "REVISION", "LABELS", "MESSAGE"]);
    for c in clusters {
        let connected = match (c.connected, c.last_seen) {
            (true, _) => "yes".to_owned(),
            (false, Some(seen)) => format!("no, {} ago", ago(now, seen)),
            (false, None) => "never".to_owned(),
        };
        let labels: Vec<String> = c.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let frozen = if c.frozen { "frozen; " } else { "" };
        table.row(vec![
            c.name.to_string(),
            format!("{:?}", c.ready),
            connected,
            format!("{}/{} ready", c.units.ready, c.units.total),
            short_revision(c.revision.as_deref()),
            if labels.is_empty() { "-".to_owned() } else { labels.join(",") },
            format!("{frozen}{}", c.message),
        ]);
    }
    table.render()
}

/// `driftless get sources`.
pub async fn sources(client: &Client, output: Output, now: u64) -> Result<ExitCode, CliError> {
    let sources: List<SourceRow> = client.get("/sources").await?;
    ui::print(output, &sources.items, || sources_table(&sources.items, now))?;
    Ok(ExitCode::SUCCESS)
}

fn sources_table(sources: &[SourceRow], now: u64) -> String {
    let mut table = Table::new(&["KIND", "SOURCE", "READY", "REVISION", "FETCHED", "URL", "MESSAGE"]);
    for s in sources {
        table.row(vec![
            s.kind.clone(),
            s.id.strip_prefix(&format!("{}/", s.kind)).unwrap_or(&s.id).to_owned(),
            format!("{:?}", s.ready),
            short_revision(s.revision.as_deref()),
            s.fetched_at.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at))),
            s.url.clone(),
            s.message.clone(),
        ]);
    }
    table.render()
}

/// `driftless get units`.
pub async fn units(
    client: &Client,
    output: Output,
    cluster: Option<&str>,
    namespace: Option<&str>,
    not_ready: bool,
    now: u64,
) -> Result<ExitCode, CliError> {
    let mut query = Vec::new();
    if let Some(cluster) = cluster {
        query.push(format!("cluster={}", crate::client::escape(cluster)));
    }
    if let Some(namespace) = namespace {
        query.push(format!("namespace={}", crate::client::escape(namespace)));
    }
    let path = if query.is_empty() { "/units".to_owned() } else { format!("/units?{}", query.join("&")) };
    let List { items: mut units } = client.get::<List<UnitRow>>(&path).await?;
    if not_ready {
        units.retain(|u| u.ready != Ready::True);
    }
    ui::print(output, &units, || units_table(&units, now))?;
    if units.is_empty() && output == Output::Table {
        ui::note("no units");
    }
    Ok(ExitCode::SUCCESS)
}

fn units_table(units: &[UnitRow], now: u64) -> String {
    let mut table =
        Table::new(&["CLUSTER", "NAMESPACE", "NAME", "READY", "REVISION", "APPLIED", "SUSPENDED", "DRIFT", "MESSAGE"]);
    for u in units {
        table.row(vec![
            u.cluster.to_string(),
            u.unit.namespace.clone(),
            u.unit.name.clone(),
            format!("{:?}", u.ready),
            short_revision(u.revision.as_deref()),
            u.last_applied.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at))),
            if u.suspended { "True" } else { "False" }.to_owned(),
            if u.drifted == 0 { "-".to_owned() } else { u.drifted.to_string() },
            units_message(u),
        ]);
    }
    table.render()
}

/// `driftless audit`: every row after a number, page by page.
pub async fn audit(client: &Client, output: Output, after: u64, now: u64) -> Result<ExitCode, CliError> {
    let (mut rows, mut last) = (Vec::new(), after);
    loop {
        let page: List<AuditEntry> = client.get(&format!("/audit?after={last}")).await?;
        match page.items.last() {
            Some(row) if row.n > last => last = row.n,
            _ => break,
        }
        rows.extend(page.items);
    }
    ui::print(output, &rows, || {
        let mut table = Table::new(&["N", "AGE", "WHO", "ACTION", "TARGET", "DETAIL"]);
        for row in &rows {
            let (n, age) = (row.n.to_string(), ago(now, row.at));
            table.row(vec![n, age, row.actor.clone(), row.action.clone(), row.target.clone(), row.detail.clone()]);
        }
        table.render()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `PAUSED shop/web by shop/incident (by hand), ends in 2h5m`, or why it holds back nothing.
pub(super) fn pause_text(pause: &PauseReport, now: u64) -> String {
    let PauseReport { name, covers, reason, expires, .. } = pause;
    match &pause.problem {
        Some(problem) => format!("Pause {name} holds back nothing: {problem}"),
        None if *expires > now => {
            format!("PAUSED {covers} by Pause {name} ({reason}), ends in {}", ago(*expires, now))
        }
        None => format!("PAUSED {covers} by Pause {name} ({reason}), as last heard; its time is over"),
    }
}

fn units_message(unit: &UnitRow) -> String {
    let mut text = if unit.stale { format!("(as last heard) {}", unit.message) } else { unit.message.clone() };
    if let Some(pause) = &unit.paused {
        text.push_str(&format!("; PAUSED by {}", pause.name));
    }
    if unit.held_deletes > 0 {
        text.push_str(&format!("; {} deletes wait for approval (driftless get deletes)", unit.held_deletes));
    }
    text
}

/// `main@sha1:0123abcd` as Flux shortens it.
#[must_use]
pub fn short_revision(revision: Option<&str>) -> String {
    let Some(revision) = revision else { return "-".to_owned() };
    match revision.rsplit_once(':') {
        Some((head, commit)) => format!("{head}:{}", commit.get(..8).unwrap_or(commit)),
        None => revision.to_owned(),
    }
}
