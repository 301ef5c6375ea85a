//! What was done to objects: taken from reports as they come, bounded per unit and in time.

use driftless_protocol::id::{Digest, UnitKind};
use driftless_protocol::report::{RecentEvent, UnitReport};

use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::error::StoreError;
use crate::model::{HistoryQuery, StoredEvent};

/// Most entries kept of one unit in one cluster.
pub(crate) const PER_UNIT: u64 = 1000;

/// How far an agent's clock may be ahead, in milliseconds.
const CLOCKS_DIFFER: u64 = 300_000;

/// An entry as text and by digest.
pub(crate) fn entry(event: &RecentEvent) -> Result<(String, String), StoreError> {
    let text = to_json("an event", event)?;
    let digest = Digest::of(text.as_bytes()).to_string();
    Ok((text, digest))
}

/// What a report tells, but for what its agent claims of the future: one wrong clock would hide all that comes after.
pub(crate) fn plausible(report: &UnitReport, received: u64) -> impl Iterator<Item = &RecentEvent> {
    report.recent.iter().filter(move |event| event.at <= received.saturating_add(CLOCKS_DIFFER))
}

/// Keeps what a report tells that is not older than what is known of its unit: a report tells the last twenty each time.
pub(crate) async fn keep(conn: &mut Conn<'_>, cluster: &str, report: &UnitReport, received: u64) -> Outcome<()> {
    let Some(newest) = plausible(report, received).map(|event| event.at).max() else { return Ok(()) };
    let (namespace, name, kind) = (&*report.unit.namespace, &*report.unit.name, report.unit.kind.as_str());
    let sql = "SELECT MAX(at) AS at FROM history WHERE cluster = $1 AND namespace = $2 AND name = $3 AND kind = $4";
    let row = conn.row(sql, args![cluster, namespace, name, kind]).await?;
    let known = row.map(|row| row.num_opt("at")).transpose()?.flatten().unwrap_or_default();
    if newest < known {
        return Ok(());
    }
    let mut new = 0;
    for event in plausible(report, received).filter(|event| event.at >= known) {
        let (text, digest) = entry(event)?;
        new += conn
            .execute(
                "INSERT INTO history (cluster, namespace, name, kind, at, digest, entry) VALUES ($1, $2, $3, $4, $5, $6, $7) \
                 ON CONFLICT (cluster, namespace, name, kind, at, digest) DO NOTHING",
                args![cluster, namespace, name, kind, event.at, digest, text],
            )
            .await?;
    }
    if new > 0 {
        conn.execute(
            "DELETE FROM history WHERE cluster = $1 AND namespace = $2 AND name = $3 AND kind = $4 AND at < \
             (SELECT at FROM history WHERE cluster = $1 AND namespace = $2 AND name = $3 AND kind = $4 \
             ORDER BY at DESC LIMIT 1 OFFSET $5)",
            args![cluster, namespace, name, kind, PER_UNIT - 1],
        )
        .await?;
    }
    Ok(())
}

/// Newest first.
pub(crate) async fn list(conn: &mut Conn<'_>, query: HistoryQuery) -> Outcome<Vec<StoredEvent>> {
    // An empty text stands for all: no cluster, namespace, name or kind is empty.
    let (cluster, namespace, name, kind) = query.columns();
    let rows = conn
        .rows(
            "SELECT cluster, namespace, name, kind, entry FROM history WHERE at >= $1 AND ($2 = '' OR cluster = $2) \
             AND ($3 = '' OR namespace = $3) AND ($4 = '' OR name = $4) AND ($5 = '' OR kind = $5) \
             ORDER BY at DESC, cluster, namespace, name, kind, digest LIMIT $6",
            args![query.since, cluster, namespace, name, kind, query.limit],
        )
        .await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Outcome<StoredEvent> {
    let kind = row.text("kind")?;
    let kind = [UnitKind::Kustomization, UnitKind::HelmRelease].into_iter().find(|known| known.as_str() == kind);
    let kind = kind.ok_or_else(|| StoreError::damaged("a value in kind", "no kind of unit"))?;
    let unit = driftless_protocol::id::UnitId { namespace: row.text("namespace")?, name: row.text("name")?, kind };
    Ok(StoredEvent { cluster: row.parse("cluster")?, unit, event: row.json("entry")? })
}

/// Drops what happened before this time; how many.
pub(crate) async fn forget(conn: &mut Conn<'_>, before: u64) -> Outcome<u64> {
    Ok(conn.execute("DELETE FROM history WHERE at < $1", args![before]).await?)
}
