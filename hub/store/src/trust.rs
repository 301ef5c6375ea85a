//! Trust documents, version by version. The store keeps bytes; whether they are to be believed is the reader's question.

use driftless_protocol::id::{hex, unhex};
use driftless_protocol::signing::{KeySignature, Signed};

use crate::db::{Conn, Outcome, args, to_json};
use crate::error::StoreError;

/// Signatures as JSON: `[["<key id>", "<signature>"], ...]`, both hex.
pub(crate) fn signatures_to_json(signatures: &[KeySignature]) -> Result<String, StoreError> {
    let pairs: Vec<(String, String)> = signatures.iter().map(|s| (s.key.to_string(), hex(&s.signature))).collect();
    to_json("signatures", &pairs)
}

pub(crate) fn signatures_from_json(text: &str) -> Result<Vec<KeySignature>, StoreError> {
    let damaged = |e: &dyn std::fmt::Display| StoreError::damaged("signatures", e);
    let pairs: Vec<(String, String)> = serde_json::from_str(text).map_err(|e| damaged(&e))?;
    pairs
        .iter()
        .map(|(key, signature)| {
            Ok(KeySignature {
                key: key.parse().map_err(|e| damaged(&e))?,
                signature: unhex(signature).ok_or_else(|| damaged(&"a signature is not 64 bytes in hex"))?,
            })
        })
        .collect()
}

pub(crate) async fn list(conn: &mut Conn<'_>) -> Outcome<Vec<Signed>> {
    let rows = conn.rows("SELECT statement, signatures FROM trust_document ORDER BY version", args![]).await?;
    rows.iter()
        .map(|row| {
            Ok(Signed { bytes: row.bytes("statement")?, signatures: signatures_from_json(&row.text("signatures")?)? })
        })
        .collect()
}

pub(crate) async fn add(conn: &mut Conn<'_>, version: u64, document: Signed) -> Outcome<()> {
    let row = conn.row("SELECT COUNT(*) AS n FROM trust_document", args![]).await?;
    let last = row.map_or(Ok(0), |r| r.num("n"))?;
    if version != last + 1 {
        let what = format!("version {version} does not follow version {last}");
        return Err(StoreError::conflict("add a trust document", what).into());
    }
    conn.execute(
        "INSERT INTO trust_document (version, statement, signatures) VALUES ($1, $2, $3)",
        args![version, document.bytes, signatures_to_json(&document.signatures)?],
    )
    .await?;
    Ok(())
}
