//! Reports: the newest wins, whatever the order of arrival.

use driftless_protocol::id::{ClusterId, Digest, UnitId};

use crate::db::{Conn, Outcome, Row, args, to_json};
use crate::history;
use crate::model::{ReportContent, ReportWrite, StoredClusterReport, StoredFacts, StoredUnitReport};

/// Writes a batch; for each entry whether it was newer than what was there. One that was not changes nothing.
pub(crate) async fn write(conn: &mut Conn<'_>, mut batch: Vec<ReportWrite>) -> Outcome<Vec<bool>> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    // Hubs that lock clusters in one order cannot lock each other out.
    order.sort_by_key(|at| (batch[*at].cluster, batch[*at].session, batch[*at].n));
    let mut taken = vec![false; batch.len()];
    for at in order {
        let placeholder = ReportContent::Units(Vec::new());
        let entry = &mut batch[at];
        let content = std::mem::replace(&mut entry.content, placeholder);
        taken[at] = write_one(conn, entry.cluster, entry.session, entry.n, entry.received, content).await?;
    }
    Ok(taken)
}

async fn write_one(
    conn: &mut Conn<'_>,
    id: ClusterId,
    session: u64,
    n: u64,
    received: u64,
    content: ReportContent,
) -> Outcome<bool> {
    let cluster = id.to_string();
    // Compared in the database: of two hubs that write at once, the older session loses.
    let newer = conn
        .execute(
            "UPDATE cluster SET reports_session = $2, reports_taken = $3, last_seen = $4 \
             WHERE id = $1 AND state = 'active' AND (reports_session < $2 OR (reports_session = $2 AND reports_taken < $3))",
            args![&*cluster, session, n, received],
        )
        .await?;
    if newer != 1 {
        return Ok(false);
    }
    match content {
        ReportContent::Cluster(report) => {
            conn.execute(
                "INSERT INTO cluster_report (cluster, received, report) VALUES ($1, $2, $3) \
                 ON CONFLICT (cluster) DO UPDATE SET received = $2, report = $3",
                args![cluster, received, to_json("a cluster report", &report)?],
            )
            .await?;
        }
        ReportContent::Units(reports) => {
            for report in reports {
                history::keep(conn, &cluster, &report, received).await?;
                conn.execute(
                    "INSERT INTO unit_report (cluster, namespace, name, kind, received, report) \
                     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (cluster, namespace, name, kind) \
                     DO UPDATE SET received = $5, report = $6",
                    args![
                        &*cluster,
                        &*report.unit.namespace,
                        &*report.unit.name,
                        report.unit.kind.as_str(),
                        received,
                        to_json("a unit report", &report)?
                    ],
                )
                .await?;
            }
        }
        ReportContent::Gone(units) => {
            for unit in units {
                remove(conn, &cluster, &unit).await?;
            }
        }
        ReportContent::Facts(facts) => {
            conn.execute(
                "INSERT INTO cluster_facts (cluster, received, digest, facts) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (cluster) DO UPDATE SET received = $2, digest = $3, facts = $4",
                args![cluster, received, facts.digest().to_string(), to_json("facts", &facts)?],
            )
            .await?;
        }
        ReportContent::Snapshot(present) => {
            let known = conn
                .rows("SELECT report FROM unit_report WHERE cluster = $1", args![&*cluster])
                .await?
                .iter()
                .map(|row| row.json("report"))
                .collect::<Outcome<Vec<driftless_protocol::report::UnitReport>>>()?;
            for report in known {
                if !present.contains(&report.unit) {
                    remove(conn, &cluster, &report.unit).await?;
                }
            }
        }
    }
    Ok(true)
}

async fn remove(conn: &mut Conn<'_>, cluster: &str, unit: &UnitId) -> Outcome<()> {
    conn.execute(
        "DELETE FROM unit_report WHERE cluster = $1 AND namespace = $2 AND name = $3 AND kind = $4",
        args![cluster, &*unit.namespace, &*unit.name, unit.kind.as_str()],
    )
    .await?;
    Ok(())
}

fn read_unit(row: &Row) -> Outcome<StoredUnitReport> {
    Ok(StoredUnitReport { cluster: row.parse("cluster")?, received: row.num("received")?, report: row.json("report")? })
}

pub(crate) async fn clusters(conn: &mut Conn<'_>) -> Outcome<Vec<StoredClusterReport>> {
    let rows = conn.rows("SELECT cluster, received, report FROM cluster_report ORDER BY cluster", args![]).await?;
    rows.iter()
        .map(|row| {
            Ok(StoredClusterReport {
                cluster: row.parse("cluster")?,
                received: row.num("received")?,
                report: row.json("report")?,
            })
        })
        .collect()
}

/// Digests of the facts of all clusters that told some.
pub(crate) async fn fact_digests(conn: &mut Conn<'_>) -> Outcome<Vec<(ClusterId, Digest)>> {
    let rows = conn.rows("SELECT cluster, digest FROM cluster_facts ORDER BY cluster", args![]).await?;
    rows.iter().map(|row| Ok((row.parse("cluster")?, row.parse("digest")?))).collect()
}

/// Of one cluster.
pub(crate) async fn facts(conn: &mut Conn<'_>, cluster: ClusterId) -> Outcome<Option<StoredFacts>> {
    let sql = "SELECT cluster, received, digest, facts FROM cluster_facts WHERE cluster = $1";
    let row = conn.row(sql, args![cluster.to_string()]).await?;
    row.map(|row| {
        Ok(StoredFacts {
            cluster: row.parse("cluster")?,
            received: row.num("received")?,
            digest: row.parse("digest")?,
            facts: row.json("facts")?,
        })
    })
    .transpose()
}

/// Of one cluster, or of all.
pub(crate) async fn units(conn: &mut Conn<'_>, cluster: Option<ClusterId>) -> Outcome<Vec<StoredUnitReport>> {
    let rows = match cluster {
        Some(cluster) => {
            let sql =
                "SELECT cluster, received, report FROM unit_report WHERE cluster = $1 ORDER BY namespace, name, kind";
            conn.rows(sql, args![cluster.to_string()]).await?
        }
        None => {
            let sql = "SELECT cluster, received, report FROM unit_report ORDER BY cluster, namespace, name, kind";
            conn.rows(sql, args![]).await?
        }
    };
    rows.iter().map(read_unit).collect()
}
