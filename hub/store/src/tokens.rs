//! Join tokens and their single redemption.

use driftless_protocol::id::TokenId;

use crate::audit;
use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::error::StoreError;
use crate::model::{Act, Enrolled, Enrollment, TOKEN_FAILURES, Token, TokenRecord};

fn read(row: &Row) -> Outcome<TokenRecord> {
    let hash = row.bytes("hash")?;
    let used = match (row.num_opt("used_at")?, row.text_opt("used_by")?) {
        (Some(at), Some(by)) => Some((at, by.parse().map_err(|e| StoreError::damaged("a token's cluster", e))?)),
        _ => None,
    };
    Ok(TokenRecord {
        token: Token {
            id: row.parse("id")?,
            hash: hash.try_into().map_err(|_| StoreError::damaged("a token's hash", "it has not 32 bytes"))?,
            name: row.parse("name")?,
            labels: row.json("labels")?,
            created: row.num("created")?,
            created_by: row.text("created_by")?,
            expires: row.num("expires")?,
        },
        failures: row.num("failures")?,
        used,
    })
}

pub(crate) async fn create(conn: &mut Conn<'_>, token: Token, act: Act) -> Outcome<()> {
    let labels = to_json("labels", &token.labels)?;
    conn.execute(
        "INSERT INTO join_token (id, hash, name, labels, created, created_by, expires, failures) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, 0)",
        args![
            token.id.to_string(),
            token.hash.to_vec(),
            token.name.as_str(),
            labels,
            token.created,
            token.created_by,
            token.expires
        ],
    )
    .await?;
    audit::append(conn, &act).await
}

pub(crate) async fn get(conn: &mut Conn<'_>, id: TokenId) -> Outcome<Option<TokenRecord>> {
    conn.row("SELECT * FROM join_token WHERE id = $1", args![id.to_string()]).await?.as_ref().map(read).transpose()
}

pub(crate) async fn list(conn: &mut Conn<'_>) -> Outcome<Vec<TokenRecord>> {
    conn.rows("SELECT * FROM join_token ORDER BY expires, id", args![]).await?.iter().map(read).collect()
}

/// A wrong secret was given for this token.
pub(crate) async fn failed(conn: &mut Conn<'_>, id: TokenId) -> Outcome<()> {
    conn.execute("UPDATE join_token SET failures = failures + 1 WHERE id = $1", args![id.to_string()]).await?;
    Ok(())
}

/// Drops tokens that expired before this time.
pub(crate) async fn forget(conn: &mut Conn<'_>, before: u64) -> Outcome<u64> {
    Ok(conn.execute("DELETE FROM join_token WHERE expires < $1", args![before]).await?)
}

pub(crate) async fn redeem(conn: &mut Conn<'_>, enrollment: Enrollment) -> Outcome<Enrolled> {
    let Enrollment { token: id, cluster, kube_uid, agent_key, now } = enrollment;
    let key = id.to_string();
    let Some(record) = get(conn, id).await? else { return Ok(Enrolled::Unknown) };
    let TokenRecord { token, failures, used } = record;
    if failures >= TOKEN_FAILURES {
        return Ok(Enrolled::Unknown);
    }
    if token.expires <= now {
        return Ok(Enrolled::Expired);
    }
    if let Some((_, by)) = used {
        // The answer to a redemption can be lost: the same key and cluster may ask again while the token lasts.
        let same = conn
            .row(
                "SELECT id FROM cluster WHERE id = $1 AND kube_uid = $2 AND agent_key = $3 AND state = 'active' \
                 AND session = 0",
                args![by.to_string(), kube_uid, agent_key.to_string()],
            )
            .await?;
        return Ok(match same {
            Some(_) => Enrolled::Granted { cluster: by, name: token.name, new: false },
            None => Enrolled::Used,
        });
    }
    if taken(conn, "SELECT name FROM cluster WHERE name = $1 AND state = 'active'", token.name.as_str())
        .await?
        .is_some()
    {
        return Ok(Enrolled::NameTaken(token.name));
    }
    let by_uid = "SELECT name FROM cluster WHERE kube_uid = $1 AND state = 'active'";
    if let Some(row) = taken(conn, by_uid, &kube_uid).await? {
        return Ok(Enrolled::UidTaken(row.parse("name")?));
    }
    let won = conn
        .execute(
            "UPDATE join_token SET used_at = $2, used_by = $3 \
             WHERE id = $1 AND used_at IS NULL AND expires > $2 AND failures < $4",
            args![&*key, now, cluster.to_string(), TOKEN_FAILURES],
        )
        .await?;
    if won != 1 {
        return Ok(Enrolled::Used);
    }
    conn.execute(
        "INSERT INTO cluster (id, name, labels, kube_uid, state, agent_key, certificate, certificate_serial, \
         certificate_expires, certificate_count, session, reports_taken, reports_session, created) \
         VALUES ($1, $2, $3, $4, 'active', $5, $6, '', 0, 0, 0, 0, 0, $7)",
        args![
            cluster.to_string(),
            token.name.as_str(),
            to_json("labels", &token.labels)?,
            kube_uid,
            agent_key.to_string(),
            // No certificate yet: an address that no certificate has.
            driftless_protocol::id::Digest::from_bytes([0; 32]).to_string(),
            now
        ],
    )
    .await?;
    Ok(Enrolled::Granted { cluster, name: token.name, new: true })
}

async fn taken(conn: &mut Conn<'_>, sql: &'static str, value: &str) -> Outcome<Option<Row>> {
    Ok(conn.row(sql, args![value]).await?)
}
