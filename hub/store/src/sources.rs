//! Sources: the last good revision and the last attempt.

use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::model::SourceStatus;

fn read(row: &Row) -> Outcome<SourceStatus> {
    let last_good = match (row.text_opt("last_good")?, row.num_opt("last_good_at")?) {
        (Some(_), Some(at)) => Some((row.json("last_good")?, at)),
        _ => None,
    };
    Ok(SourceStatus {
        id: row.text("id")?,
        url: row.text("url")?,
        reference: row.text("reference")?,
        last_good,
        code: row.text("code")?,
        message: row.text("message")?,
        attempted_at: row.num("attempted_at")?,
        since: row.num("since")?,
    })
}

pub(crate) async fn list(conn: &mut Conn<'_>) -> Outcome<Vec<SourceStatus>> {
    conn.rows("SELECT * FROM source ORDER BY id", args![]).await?.iter().map(read).collect()
}

/// The newest status. One without a good revision keeps the last one known, unless it is of another repository.
pub(crate) async fn put(conn: &mut Conn<'_>, status: SourceStatus) -> Outcome<()> {
    let (last, at) = match &status.last_good {
        Some((revision, at)) => (Some(to_json("a revision", revision)?), Some(*at)),
        None => (None, None),
    };
    conn.execute(
        "INSERT INTO source (id, url, reference, last_good, last_good_at, code, message, attempted_at, since) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) \
         ON CONFLICT (id) DO UPDATE SET \
         last_good = CASE WHEN $4 IS NULL AND source.url = $2 AND source.reference = $3 THEN source.last_good ELSE $4 END, \
         last_good_at = CASE WHEN $4 IS NULL AND source.url = $2 AND source.reference = $3 THEN source.last_good_at ELSE $5 END, \
         url = $2, reference = $3, code = $6, message = $7, attempted_at = $8, \
         since = CASE WHEN source.code = $6 THEN source.since ELSE $8 END",
        args![status.id, status.url, status.reference, last, at, status.code, status.message, status.attempted_at],
    )
    .await?;
    Ok(())
}

pub(crate) async fn remove(conn: &mut Conn<'_>, id: String) -> Outcome<()> {
    conn.execute("DELETE FROM source WHERE id = $1", args![id]).await?;
    Ok(())
}
