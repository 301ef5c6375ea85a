//! The audit log: append-only, each row's hash covers the one before.

use driftless_protocol::canonical;
use driftless_protocol::id::Digest;

use crate::db::{Conn, Outcome, Row, args};
use crate::error::StoreError;
use crate::model::{Act, AuditBreak, AuditRow};

/// Hash of a row: BLAKE3 over the hash before (empty for the first), the number and the act in canonical JSON.
pub(crate) fn link(before: &str, n: u64, act: &Act) -> Result<Digest, StoreError> {
    let bytes = canonical::to_vec(&(before, n, act))
        .map_err(|e| StoreError::Unrepresentable { what: "an audit row", reason: e.to_string() })?;
    Ok(Digest::of(&bytes))
}

/// Appends one row in the caller's transaction.
pub(crate) async fn append(conn: &mut Conn<'_>, act: &Act) -> Outcome<()> {
    // The update takes the row's lock, so that appends of several hubs queue up here.
    conn.execute("UPDATE audit_head SET n = n + 1 WHERE id = 1", args![]).await?;
    let head = conn.row("SELECT n, hash FROM audit_head WHERE id = 1", args![]).await?;
    let head = head.ok_or_else(|| StoreError::damaged("no end of the audit log", "its row is missing"))?;
    let (n, before) = (head.num("n")?, head.text("hash")?);
    let hash = link(&before, n, act)?.to_string();
    conn.execute(
        "INSERT INTO audit (n, at, actor, action, target, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![n, act.at, &*act.actor, &*act.action, &*act.target, &*act.detail, &*hash],
    )
    .await?;
    conn.execute("UPDATE audit_head SET hash = $1 WHERE id = 1", args![hash]).await?;
    Ok(())
}

pub(crate) async fn act(conn: &mut Conn<'_>, act: Act) -> Outcome<()> {
    append(conn, &act).await
}

fn row(row: &Row) -> Outcome<AuditRow> {
    Ok(AuditRow {
        n: row.num("n")?,
        act: Act {
            at: row.num("at")?,
            actor: row.text("actor")?,
            action: row.text("action")?,
            target: row.text("target")?,
            detail: row.text("detail")?,
        },
        hash: row.parse("hash")?,
    })
}

pub(crate) async fn list(conn: &mut Conn<'_>, after: u64, limit: u64) -> Outcome<Vec<AuditRow>> {
    let rows = conn
        .rows(
            "SELECT n, at, actor, action, target, detail, hash FROM audit WHERE n > $1 ORDER BY n LIMIT $2",
            args![after, limit],
        )
        .await?;
    rows.iter().map(row).collect()
}

/// Walks the whole chain in steps.
pub(crate) async fn verify(conn: &mut Conn<'_>) -> Outcome<Option<AuditBreak>> {
    let head = conn.row("SELECT n, hash FROM audit_head WHERE id = 1", args![]).await?;
    let end = match &head {
        Some(row) => (row.num("n")?, row.text("hash")?),
        None => return Ok(Some(AuditBreak::Missing(0))),
    };
    let (mut n, mut before) = (0, String::new());
    loop {
        let rows = list(conn, n, 1000).await?;
        if rows.is_empty() {
            break;
        }
        for row in rows {
            if let Some(broken) = follows(&mut n, &mut before, &row)? {
                return Ok(Some(broken));
            }
        }
    }
    Ok(if n < end.0 {
        Some(AuditBreak::Missing(n + 1))
    } else if before != end.1 {
        Some(AuditBreak::Changed(n))
    } else {
        None
    })
}

/// Whether `row` follows from what was walked so far.
pub(crate) fn follows(n: &mut u64, before: &mut String, row: &AuditRow) -> Result<Option<AuditBreak>, StoreError> {
    if row.n != *n + 1 {
        return Ok(Some(AuditBreak::Missing(*n + 1)));
    }
    if link(before, row.n, &row.act)? != row.hash {
        return Ok(Some(AuditBreak::Changed(row.n)));
    }
    *n = row.n;
    *before = row.hash.to_string();
    Ok(None)
}
