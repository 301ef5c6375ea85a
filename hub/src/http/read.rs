//! What can be asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use driftless_protocol::api::{
    AuditEntry, ClusterDetail, ClusterRow, FleetStatus, HistoryEntry, List, Shadow, SourceRow, UnitDetail, UnitRow,
    Why, WhyLive,
};
use driftless_protocol::ask::{Answer as Asked, Question, WhyQuestion};
use driftless_protocol::facts::Facts;
use driftless_protocol::id::{UnitId, UnitKind};
use driftless_store::HistoryQuery;
use serde::Deserialize;

use crate::clock;
use crate::fleet::ask::{another, ask};
use crate::http::error::{Answer, Refusal};
use crate::http::extract::{Path, Query};
use crate::shared::Shared;
use crate::view::{Fleet, detail, live, rows, shadow, why};

type Hub = State<Arc<Shared>>;

/// Time an agent has to look into its cluster for `why`: below the time of a request.
const WHY: Duration = Duration::from_secs(12);
/// Rows of the audit log in one answer.
const AUDIT_ROWS: u64 = 1000;
/// Entries of the history in one answer.
const HISTORY_ROWS: u64 = 1000;

pub(crate) async fn status(State(shared): Hub) -> Answer<FleetStatus> {
    let fleet = Fleet::load(&shared).await?;
    Ok(Json(rows::status(&fleet)))
}

pub(crate) async fn clusters(State(shared): Hub) -> Answer<List<ClusterRow>> {
    let fleet = Fleet::load(&shared).await?;
    Ok(Json(List { items: fleet.clusters.iter().map(|c| rows::cluster(&fleet, c)).collect() }))
}

pub(crate) async fn cluster(State(shared): Hub, Path(name): Path<String>) -> Answer<ClusterDetail> {
    let fleet = Fleet::load(&shared).await?;
    Ok(Json(detail::cluster(&fleet, fleet.cluster(&name)?)))
}

pub(crate) async fn shadow(State(shared): Hub, Path(name): Path<String>) -> Answer<Shadow> {
    let fleet = Fleet::load(&shared).await?;
    Ok(Json(shadow::shadow(&fleet, fleet.cluster(&name)?)))
}

pub(crate) async fn facts(State(shared): Hub, Path(name): Path<String>) -> Answer<Facts> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&name)?;
    match shared.store.facts(cluster.id).await? {
        Some(stored) => Ok(Json(stored.facts)),
        None => Err(Refusal::not_found(format!(
            "cluster {name} has told no facts yet; its agent does so once it is connected (agents before wire version 2 never do)"
        ))),
    }
}

pub(crate) async fn sources(State(shared): Hub) -> Answer<List<SourceRow>> {
    let fleet = Fleet::load(&shared).await?;
    Ok(Json(List { items: rows::sources(&fleet) }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UnitQuery {
    cluster: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

pub(crate) async fn units(State(shared): Hub, Query(query): Query<UnitQuery>) -> Answer<List<UnitRow>> {
    let fleet = Fleet::load(&shared).await?;
    if let Some(name) = &query.cluster {
        fleet.cluster(name)?;
    }
    let wanted = |want: &Option<String>, is: &str| want.as_ref().is_none_or(|w| w == is);
    let mut items = Vec::new();
    for cluster in fleet.clusters.iter().filter(|c| wanted(&query.cluster, c.name.as_str())) {
        let units = rows::units(&fleet, cluster);
        items.extend(
            units
                .into_iter()
                .filter(|u| wanted(&query.namespace, &u.unit.namespace) && wanted(&query.name, &u.unit.name)),
        );
    }
    Ok(Json(List { items }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KindQuery {
    kind: Option<UnitKind>,
}

type UnitPath = Path<(String, String, String)>;

fn unit_id(namespace: String, name: String, kind: &KindQuery) -> UnitId {
    UnitId { namespace, name, kind: kind.kind.unwrap_or(UnitKind::Kustomization) }
}

pub(crate) async fn unit(
    State(shared): Hub,
    Path((cluster, namespace, name)): UnitPath,
    Query(kind): Query<KindQuery>,
) -> Answer<UnitDetail> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&cluster)?;
    let id = unit_id(namespace, name, &kind);
    detail::unit(&fleet, cluster, &id).map(Json).ok_or_else(|| no_unit(&fleet, cluster, &id))
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WhyQuery {
    kind: Option<UnitKind>,
    /// `deployment/web`: ask the agent about this object, healthy or not.
    object: Option<String>,
    /// Ask the agent at all.
    live: bool,
}

impl Default for WhyQuery {
    fn default() -> Self {
        Self { kind: None, object: None, live: true }
    }
}

pub(crate) async fn why(
    State(shared): Hub,
    Path((cluster, namespace, name)): UnitPath,
    Query(query): Query<WhyQuery>,
) -> Answer<Why> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&cluster)?;
    let id = unit_id(namespace, name, &KindQuery { kind: query.kind });
    if fleet.render(cluster).is_some() && detail::unit(&fleet, cluster, &id).is_none() {
        return Err(no_unit(&fleet, cluster, &id));
    }
    let mut why = why::why(&fleet, cluster, &id);
    let (objects, more) = live::objects(&fleet, cluster, &id, query.object.as_deref())?;
    if query.live && !objects.is_empty() {
        let question = Question::Why(WhyQuestion { objects });
        let asked_at = clock::millis();
        let seen = match ask(&shared, cluster.id, &cluster.name, &question, WHY).await {
            Ok(Asked::Why(answer)) => WhyLive { asked_at, objects: answer.objects, more, not_asked: None },
            // The chain is told all the same.
            Ok(_) => WhyLive { not_asked: Some(another(&cluster.name).to_string()), asked_at, ..WhyLive::default() },
            Err(not) => WhyLive { not_asked: Some(not.to_string()), asked_at, ..WhyLive::default() },
        };
        live::add(&mut why, seen, fleet.render(cluster).and_then(|r| r.units.get(&id)));
    }
    Ok(Json(why))
}

fn no_unit(fleet: &Fleet<'_>, cluster: &driftless_store::Cluster, unit: &UnitId) -> Refusal {
    let namesakes: Vec<String> = rows::units(fleet, cluster)
        .into_iter()
        .filter(|u| u.unit.name == unit.name)
        .map(|u| u.unit.to_string())
        .collect();
    let hint = if namesakes.is_empty() {
        format!("`driftless get units --cluster {}` lists what it has", cluster.name)
    } else {
        format!("it has {}", namesakes.join(", "))
    };
    Refusal::not_found(format!("cluster {} has no unit {unit}; {hint}", cluster.name))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct HistoryParams {
    cluster: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    kind: Option<UnitKind>,
    since: u64,
    limit: Option<u64>,
}

pub(crate) async fn history(State(shared): Hub, Query(query): Query<HistoryParams>) -> Answer<List<HistoryEntry>> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = query.cluster.as_deref().map(|name| fleet.cluster(name)).transpose()?.map(|cluster| cluster.id);
    let unit = match (query.namespace, query.name) {
        (Some(namespace), Some(name)) => Some(unit_id(namespace, name, &KindQuery { kind: query.kind })),
        (None, None) => None,
        _ => return Err(Refusal::bad("a unit has a namespace and a name; give both or neither")),
    };
    let limit = query.limit.unwrap_or(HISTORY_ROWS).min(HISTORY_ROWS);
    let rows = shared.store.history(HistoryQuery { cluster, unit, since: query.since, limit }).await?;
    let names: BTreeMap<_, _> = fleet.clusters.iter().map(|cluster| (cluster.id, &cluster.name)).collect();
    // Of clusters that were removed nothing is shown.
    let items = rows.into_iter().filter_map(|row| {
        let cluster = (*names.get(&row.cluster)?).clone();
        Some(HistoryEntry { cluster, unit: row.unit, event: row.event })
    });
    Ok(Json(List { items: items.collect() }))
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuditQuery {
    after: u64,
    limit: u64,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self { after: 0, limit: AUDIT_ROWS }
    }
}

pub(crate) async fn audit(State(shared): Hub, Query(query): Query<AuditQuery>) -> Answer<List<AuditEntry>> {
    let rows = shared.store.audit_rows(query.after, query.limit.min(AUDIT_ROWS)).await?;
    let items = rows
        .into_iter()
        .map(|row| AuditEntry {
            n: row.n,
            at: row.act.at,
            actor: row.act.actor,
            action: row.act.action,
            target: row.act.target,
            detail: row.act.detail,
            hash: row.hash,
        })
        .collect();
    Ok(Json(List { items }))
}
