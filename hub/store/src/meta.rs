//! The schema's version and the database's epoch.

use crate::audit;
use crate::db::{Conn, Outcome, args};
use crate::error::StoreError;
use crate::model::Act;

/// Every migration, in order; its number is its place, counted from 1. A published one is never changed.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_facts.sql"),
    include_str!("../migrations/0003_history.sql"),
    include_str!("../migrations/0004_unseen.sql"),
];

const SCHEMA: &str = "schema";
const EPOCH: &str = "epoch";

/// The newest schema this program knows.
pub(crate) fn known() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the schema up to date; refuses one that is newer than this program.
pub(crate) async fn migrate(conn: &mut Conn<'_>, now_seconds: u64) -> Outcome<()> {
    if conn.is_postgres() {
        // Several hubs may start at once. Any number of our own serves, as long as it is the same everywhere.
        conn.execute("SELECT pg_advisory_xact_lock(4460741001)", args![]).await?;
    }
    let found = schema(conn).await?;
    if found > known() {
        return Err(StoreError::Newer { found, known: known() }.into());
    }
    for (at, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        conn.script(sql).await?;
        let version = at as u64 + 1;
        if version == 1 {
            conn.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", args![SCHEMA, version]).await?;
            conn.execute("INSERT INTO meta (name, value) VALUES ($1, $2)", args![EPOCH, now_seconds]).await?;
        } else {
            conn.execute("UPDATE meta SET value = $2 WHERE name = $1", args![SCHEMA, version]).await?;
        }
        tracing::info!(schema = version, "the database schema was brought up to date");
    }
    Ok(())
}

async fn schema(conn: &mut Conn<'_>) -> Outcome<i64> {
    let exists = if conn.is_postgres() {
        "SELECT 1 AS one FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'meta'"
    } else {
        "SELECT 1 AS one FROM sqlite_master WHERE type = 'table' AND name = 'meta'"
    };
    if conn.row(exists, args![]).await?.is_none() {
        return Ok(0);
    }
    let row = conn.row("SELECT value FROM meta WHERE name = $1", args![SCHEMA]).await?;
    Ok(row.map_or(Ok(0), |r| r.int("value"))?)
}

pub(crate) async fn epoch(conn: &mut Conn<'_>) -> Outcome<u64> {
    let row = conn.row("SELECT value FROM meta WHERE name = $1", args![EPOCH]).await?;
    let row = row.ok_or_else(|| StoreError::damaged("no epoch", "its row is missing"))?;
    Ok(row.num("value")?)
}

/// At least one above the last, whatever the clock says.
pub(crate) async fn bump_epoch(conn: &mut Conn<'_>, now_seconds: u64, act: Act) -> Outcome<u64> {
    let next = now_seconds.max(epoch(conn).await?.saturating_add(1));
    conn.execute("UPDATE meta SET value = $2 WHERE name = $1 AND value < $2", args![EPOCH, next]).await?;
    audit::append(conn, &act).await?;
    epoch(conn).await
}
