//! Clusters: certificates, sessions, labels, revocation. Enrolment is in `tokens`.

use driftless_protocol::id::{ClusterId, Digest};

use crate::audit;
use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::error::StoreError;
use crate::model::{Act, Admission, Certificate, Cluster, ClusterState, Labels, UnseenCertificate};

fn read(row: &Row) -> Outcome<Cluster> {
    Ok(Cluster {
        id: row.parse("id")?,
        name: row.parse("name")?,
        labels: row.json("labels")?,
        kube_uid: row.text("kube_uid")?,
        state: match row.text("state")?.as_str() {
            "active" => ClusterState::Active,
            "revoked" => ClusterState::Revoked,
            other => return Err(StoreError::damaged("a cluster's state", format!("{other:?}")).into()),
        },
        agent_key: row.parse("agent_key")?,
        certificate: Certificate {
            digest: row.parse("certificate")?,
            serial: row.text("certificate_serial")?,
            not_after: row.num("certificate_expires")?,
        },
        certificate_count: row.num("certificate_count")?,
        last_seen: row.num_opt("last_seen")?,
        created: row.num("created")?,
    })
}

pub(crate) async fn list(conn: &mut Conn<'_>) -> Outcome<Vec<Cluster>> {
    conn.rows("SELECT * FROM cluster ORDER BY name, id", args![]).await?.iter().map(read).collect()
}

pub(crate) async fn get(conn: &mut Conn<'_>, id: ClusterId) -> Outcome<Option<Cluster>> {
    conn.row("SELECT * FROM cluster WHERE id = $1", args![id.to_string()]).await?.as_ref().map(read).transpose()
}

/// A certificate was issued; the one before stays good until this one is seen.
pub(crate) async fn issued(
    conn: &mut Conn<'_>,
    id: ClusterId,
    agent_key: Digest,
    certificate: Certificate,
    der: Vec<u8>,
) -> Outcome<bool> {
    let touched = conn
        .execute(
            "UPDATE cluster SET certificate_previous = certificate, certificate = $2, certificate_serial = $3, \
             certificate_expires = $4, certificate_count = certificate_count + 1, agent_key = $5 \
             WHERE id = $1 AND state = 'active'",
            args![
                id.to_string(),
                certificate.digest.to_string(),
                certificate.serial,
                certificate.not_after,
                agent_key.to_string()
            ],
        )
        .await?;
    if touched == 1 {
        conn.execute(
            "INSERT INTO unseen_certificate (cluster, der) VALUES ($1, $2) \
             ON CONFLICT (cluster) DO UPDATE SET der = $2",
            args![id.to_string(), der],
        )
        .await?;
    }
    Ok(touched == 1)
}

pub(crate) async fn unseen(
    conn: &mut Conn<'_>,
    id: ClusterId,
    agent_key: Digest,
) -> Outcome<Option<UnseenCertificate>> {
    let row = conn
        .row(
            "SELECT der, certificate_expires FROM unseen_certificate JOIN cluster ON id = cluster \
             WHERE id = $1 AND state = 'active' AND agent_key = $2",
            args![id.to_string(), agent_key.to_string()],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(UnseenCertificate { der: row.bytes("der")?, not_after: row.num("certificate_expires")? }))
}

pub(crate) async fn admit(conn: &mut Conn<'_>, id: ClusterId, certificate: Digest, now: u64) -> Outcome<Admission> {
    // First the write: it locks the row against a second connection of the same cluster.
    conn.execute(
        "UPDATE cluster SET session = session + 1, last_seen = $3, certificate_previous = CASE WHEN certificate = $2 \
         THEN NULL ELSE certificate_previous END \
         WHERE id = $1 AND state = 'active' AND (certificate = $2 OR certificate_previous = $2)",
        args![id.to_string(), certificate.to_string(), now],
    )
    .await?;
    let Some(row) = conn.row("SELECT * FROM cluster WHERE id = $1", args![id.to_string()]).await? else {
        return Ok(Admission::Unknown);
    };
    let cluster = read(&row)?;
    if cluster.state == ClusterState::Revoked {
        return Ok(Admission::Revoked);
    }
    let previous = row.text_opt("certificate_previous")?;
    if cluster.certificate.digest != certificate && previous.as_deref() != Some(certificate.to_string().as_str()) {
        return Ok(Admission::Superseded);
    }
    if cluster.certificate.digest == certificate {
        conn.execute("DELETE FROM unseen_certificate WHERE cluster = $1", args![id.to_string()]).await?;
    }
    Ok(Admission::Admitted {
        session: row.num("session")?,
        reports_taken: row.num("reports_taken")?,
        cluster: Box::new(cluster),
    })
}

pub(crate) async fn set_labels(conn: &mut Conn<'_>, id: ClusterId, labels: Labels, act: Act) -> Outcome<bool> {
    let labels = to_json("labels", &labels)?;
    let touched = conn
        .execute("UPDATE cluster SET labels = $2 WHERE id = $1 AND state = 'active'", args![id.to_string(), labels])
        .await?;
    audit::append(conn, &act).await?;
    Ok(touched == 1)
}

/// The cluster may never connect again; what it reported, its heads and its intents go. Its row stays.
pub(crate) async fn revoke(conn: &mut Conn<'_>, id: ClusterId, act: Act) -> Outcome<bool> {
    let key = id.to_string();
    let touched =
        conn.execute("UPDATE cluster SET state = 'revoked' WHERE id = $1 AND state = 'active'", args![&*key]).await?;
    if touched == 1 {
        conn.execute("DELETE FROM unseen_certificate WHERE cluster = $1", args![&*key]).await?;
        conn.execute("DELETE FROM head WHERE cluster = $1", args![&*key]).await?;
        conn.execute("DELETE FROM cluster_report WHERE cluster = $1", args![&*key]).await?;
        conn.execute("DELETE FROM unit_report WHERE cluster = $1", args![&*key]).await?;
        conn.execute("DELETE FROM cluster_facts WHERE cluster = $1", args![&*key]).await?;
        for record in crate::intents::list(conn).await? {
            if record.intent.cluster() == Some(id) {
                conn.execute("DELETE FROM intent WHERE id = $1", args![record.intent.id()]).await?;
            }
        }
    }
    audit::append(conn, &act).await?;
    Ok(touched == 1)
}
