//! Operator intents.

use crate::audit;
use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::model::{Act, Intent, IntentRecord};

fn read(row: &Row) -> Outcome<IntentRecord> {
    Ok(IntentRecord {
        intent: row.json("intent")?,
        actor: row.text("actor")?,
        at: row.num("at")?,
        reason: row.text("reason")?,
    })
}

pub(crate) async fn list(conn: &mut Conn<'_>) -> Outcome<Vec<IntentRecord>> {
    conn.rows("SELECT intent, actor, at, reason FROM intent ORDER BY id", args![]).await?.iter().map(read).collect()
}

pub(crate) async fn put(conn: &mut Conn<'_>, record: IntentRecord, act: Act) -> Outcome<()> {
    conn.execute(
        "INSERT INTO intent (id, intent, actor, at, reason) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (id) DO UPDATE SET intent = $2, actor = $3, at = $4, reason = $5",
        args![record.intent.id(), to_json("an intent", &record.intent)?, record.actor, record.at, record.reason],
    )
    .await?;
    audit::append(conn, &act).await
}

pub(crate) async fn put_all(conn: &mut Conn<'_>, records: Vec<(IntentRecord, Act)>) -> Outcome<()> {
    for (record, act) in records {
        put(conn, record, act).await?;
    }
    Ok(())
}

/// Whether there was one.
pub(crate) async fn remove(conn: &mut Conn<'_>, intent: Intent, act: Act) -> Outcome<bool> {
    let touched = conn.execute("DELETE FROM intent WHERE id = $1", args![intent.id()]).await?;
    audit::append(conn, &act).await?;
    Ok(touched > 0)
}
