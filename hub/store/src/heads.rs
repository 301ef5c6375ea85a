//! Heads and the blobs they reference.

use driftless_protocol::bundle::BlobRef;
use driftless_protocol::id::{ClusterId, Digest, Generation};
use driftless_protocol::signing::Signed;

use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::error::StoreError;
use crate::model::{BundleBlob, Head, Offer};
use crate::trust::{signatures_from_json, signatures_to_json};

/// zstd level of stored blobs: objects are small, and the writer must not wait.
const LEVEL: i32 = 3;

fn read(row: &Row) -> Outcome<Head> {
    let refused = match (row.text_opt("refused_code")?, row.text_opt("refused_message")?) {
        (Some(code), Some(message)) => Some((code, message)),
        _ => None,
    };
    Ok(Head {
        cluster: row.parse("cluster")?,
        generation: Generation {
            trust_epoch: row.num("trust_epoch")?,
            epoch: row.num("epoch")?,
            sequence: row.num("sequence")?,
        },
        head: Signed { bytes: row.bytes("statement")?, signatures: signatures_from_json(&row.text("signatures")?)? },
        index: row.parse("index_digest")?,
        content: row.parse("content")?,
        revisions: row.json("revisions")?,
        offered_at: row.num("offered_at")?,
        expires: row.num("expires")?,
        taken_at: row.num_opt("taken_at")?,
        refused,
    })
}

/// The last heads of every cluster, newest first within a cluster.
pub(crate) async fn list(conn: &mut Conn<'_>) -> Outcome<Vec<Head>> {
    let sql = "SELECT * FROM head ORDER BY cluster, trust_epoch DESC, epoch DESC, sequence DESC";
    conn.rows(sql, args![]).await?.iter().map(read).collect()
}

/// The last heads of one cluster, newest first.
pub(crate) async fn of_cluster(conn: &mut Conn<'_>, cluster: ClusterId) -> Outcome<Vec<Head>> {
    let sql = "SELECT * FROM head WHERE cluster = $1 ORDER BY trust_epoch DESC, epoch DESC, sequence DESC";
    conn.rows(sql, args![cluster.to_string()]).await?.iter().map(read).collect()
}

pub(crate) async fn offer(conn: &mut Conn<'_>, offer: Offer) -> Outcome<()> {
    const OPERATION: &str = "store an offer";
    if conn.is_postgres() {
        // Collecting garbage waits for us and we for it: what is referenced here is not collected meanwhile.
        conn.execute("LOCK TABLE blob IN ROW EXCLUSIVE MODE", args![]).await?;
    }
    let cluster = offer.cluster.to_string();
    // Locks the cluster against an offer by another hub.
    let active =
        conn.execute("UPDATE cluster SET state = state WHERE id = $1 AND state = 'active'", args![&*cluster]).await?;
    if active != 1 {
        return Err(StoreError::conflict(OPERATION, "the cluster is not enrolled").into());
    }
    let last = of_cluster(conn, offer.cluster).await?.first().map(|h| h.generation);
    if last != offer.after {
        return Err(StoreError::conflict(OPERATION, "another generation was offered meanwhile").into());
    }
    if last.is_some_and(|last| offer.generation <= last) {
        return Err(StoreError::conflict(OPERATION, "its generation is not above the last one").into());
    }
    put_tree(conn, &offer).await?;
    let Generation { trust_epoch, epoch, sequence } = offer.generation;
    conn.execute(
        "INSERT INTO head (cluster, trust_epoch, epoch, sequence, index_digest, content, revisions, statement, signatures, \
         offered_at, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        args![
            &*cluster,
            trust_epoch,
            epoch,
            sequence,
            offer.index.blob.digest.to_string(),
            offer.content.blob.digest.to_string(),
            to_json("revisions", &offer.revisions)?,
            offer.head.bytes,
            signatures_to_json(&offer.head.signatures)?,
            offer.now,
            offer.expires
        ],
    )
    .await?;
    if let Some(keep) = offer.after {
        conn.execute(
            "DELETE FROM head WHERE cluster = $1 AND NOT (trust_epoch = $2 AND epoch = $3 AND sequence = $4) \
             AND NOT (trust_epoch = $5 AND epoch = $6 AND sequence = $7)",
            args![cluster, trust_epoch, epoch, sequence, keep.trust_epoch, keep.epoch, keep.sequence],
        )
        .await?;
    }
    Ok(())
}

/// Stores indexes, bodies and objects that are not there yet. A body that is there has its objects there.
async fn put_tree(conn: &mut Conn<'_>, offer: &Offer) -> Outcome<()> {
    for body in &offer.bodies {
        if put_node(conn, body).await? {
            for child in &body.children {
                match offer.objects.get(child) {
                    Some(bytes) => {
                        put_bytes(conn, BlobRef { digest: *child, len: bytes.len() as u64 }, bytes).await?;
                    }
                    None if exists(conn, *child).await? => {}
                    None => {
                        let what = format!("object {child} of body {} is not given", body.blob.digest);
                        return Err(StoreError::conflict("store an offer", what).into());
                    }
                }
            }
        }
    }
    for index in [&offer.index, &offer.content] {
        for body in &index.children {
            if !exists(conn, *body).await? {
                let what = format!("body {body} of index {} is not given", index.blob.digest);
                return Err(StoreError::conflict("store an offer", what).into());
            }
        }
        put_node(conn, index).await?;
    }
    Ok(())
}

/// Whether it is new.
async fn put_node(conn: &mut Conn<'_>, node: &BundleBlob) -> Outcome<bool> {
    if !put_bytes(conn, node.blob, &node.bytes).await? {
        return Ok(false);
    }
    for child in &node.children {
        conn.execute(
            "INSERT INTO blob_link (parent, child) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            args![node.blob.digest.to_string(), child.to_string()],
        )
        .await?;
    }
    Ok(true)
}

async fn put_bytes(conn: &mut Conn<'_>, blob: BlobRef, bytes: &[u8]) -> Outcome<bool> {
    if exists(conn, blob.digest).await? {
        return Ok(false);
    }
    let packed = zstd::bulk::compress(bytes, LEVEL)
        .map_err(|e| StoreError::Unrepresentable { what: "a blob", reason: e.to_string() })?;
    let new = conn
        .execute(
            "INSERT INTO blob (digest, raw_len, bytes) VALUES ($1, $2, $3) ON CONFLICT (digest) DO NOTHING",
            args![blob.digest.to_string(), blob.len, packed],
        )
        .await?;
    Ok(new == 1)
}

async fn exists(conn: &mut Conn<'_>, digest: Digest) -> Outcome<bool> {
    Ok(conn.row("SELECT 1 AS one FROM blob WHERE digest = $1", args![digest.to_string()]).await?.is_some())
}

/// The agent has it, or will not have it. Says nothing about a generation that is no longer kept.
pub(crate) async fn settle(
    conn: &mut Conn<'_>,
    cluster: ClusterId,
    generation: Generation,
    refused: Option<(String, String)>,
    now: u64,
) -> Outcome<()> {
    let Generation { trust_epoch, epoch, sequence } = generation;
    let (code, message) = refused.unzip();
    let taken = code.is_none().then_some(now);
    conn.execute(
        "UPDATE head SET taken_at = $5, refused_code = $6, refused_message = $7 \
         WHERE cluster = $1 AND trust_epoch = $2 AND epoch = $3 AND sequence = $4",
        args![cluster.to_string(), trust_epoch, epoch, sequence, taken, code, message],
    )
    .await?;
    Ok(())
}

/// The bytes of these blobs, in this order; those not there are left out.
pub(crate) async fn blobs(conn: &mut Conn<'_>, digests: Vec<Digest>) -> Outcome<Vec<(Digest, Vec<u8>)>> {
    let mut out = Vec::with_capacity(digests.len());
    for digest in digests {
        let row = conn.row("SELECT raw_len, bytes FROM blob WHERE digest = $1", args![digest.to_string()]).await?;
        let Some(row) = row else { continue };
        let len = usize::try_from(row.num("raw_len")?).unwrap_or(0);
        let bytes = zstd::bulk::decompress(&row.bytes("bytes")?, len)
            .map_err(|e| StoreError::damaged(format!("blob {digest}"), e))?;
        if Digest::of(&bytes) != digest {
            return Err(StoreError::damaged(format!("blob {digest}"), "its bytes have another digest").into());
        }
        out.push((digest, bytes));
    }
    Ok(out)
}

/// Every digest that an index references, itself included, at any level.
pub(crate) async fn closure(conn: &mut Conn<'_>, index: Digest) -> Outcome<std::collections::BTreeSet<Digest>> {
    let rows = conn
        .rows(
            "WITH RECURSIVE live (digest) AS (SELECT digest FROM blob WHERE digest = $1 \
             UNION SELECT blob_link.child FROM blob_link JOIN live ON blob_link.parent = live.digest) \
             SELECT digest FROM live",
            args![index.to_string()],
        )
        .await?;
    rows.iter().map(|row| row.parse("digest")).collect()
}

/// Removes what no head references; how many blobs.
pub(crate) async fn collect(conn: &mut Conn<'_>) -> Outcome<u64> {
    if conn.is_postgres() {
        // Waits for running offers and holds up new ones: each either sees a blob and references it, or stores it anew.
        conn.execute("LOCK TABLE blob IN EXCLUSIVE MODE", args![]).await?;
    }
    let removed = conn
        .execute(
            "WITH RECURSIVE live (digest) AS (SELECT index_digest FROM head UNION SELECT content FROM head \
             UNION SELECT blob_link.child FROM blob_link JOIN live ON blob_link.parent = live.digest) \
             DELETE FROM blob WHERE digest NOT IN (SELECT digest FROM live)",
            args![],
        )
        .await?;
    if removed > 0 {
        conn.execute("DELETE FROM blob_link WHERE parent NOT IN (SELECT digest FROM blob)", args![]).await?;
    }
    Ok(removed)
}
