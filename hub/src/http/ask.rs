//! What is passed on to the agents: what nobody declares, and what the API servers would say.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use driftless_protocol::api::DryRunRequest;
use driftless_protocol::ask::{
    Answer, DRY_RUN_OBJECTS, DryRunAnswer, DryRunQuestion, OrphansAnswer, OrphansQuestion, Question,
};
use serde::Deserialize;

use super::change::act;
use crate::fleet::ask::{another, ask};
use crate::http::Actor;
use crate::http::error::Refusal;
use crate::http::error::{Answer as Answers, Body};
use crate::http::extract::{Path, Query};
use crate::shared::Shared;
use crate::view::Fleet;

type Hub = State<Arc<Shared>>;

/// Time an agent has to look at every object of its cluster.
const ORPHANS: Duration = Duration::from_secs(90);
/// Time an agent has to try objects.
const DRY_RUN: Duration = Duration::from_secs(90);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OrphansQuery {
    /// Apart by commas.
    namespaces: Option<String>,
    kinds: Option<String>,
    system: bool,
}

fn parts(text: Option<String>) -> Vec<String> {
    text.iter().flat_map(|t| t.split(',')).filter(|p| !p.is_empty()).map(str::to_owned).collect()
}

pub(crate) async fn orphans(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Query(query): Query<OrphansQuery>,
) -> Answers<OrphansAnswer> {
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&name)?;
    // It tells the names of everything in the cluster.
    shared.store.audit(act(&actor, "orphans", format!("cluster {name}"), "")).await?;
    let question =
        OrphansQuestion { namespaces: parts(query.namespaces), kinds: parts(query.kinds), system: query.system };
    match ask(&shared, cluster.id, &cluster.name, &Question::Orphans(question), ORPHANS).await? {
        Answer::Orphans(answer) => Ok(Json(answer)),
        _ => Err(another(&cluster.name).into()),
    }
}

pub(crate) async fn dry_run(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Path(name): Path<String>,
    Body(request): Body<DryRunRequest>,
) -> Answers<DryRunAnswer> {
    if request.objects.is_empty() || request.objects.len() > DRY_RUN_OBJECTS {
        let count = request.objects.len();
        return Err(Refusal::bad(format!("objects: {count} are given, 1 to {DRY_RUN_OBJECTS} are expected")));
    }
    let fleet = Fleet::load(&shared).await?;
    let cluster = fleet.cluster(&name)?;
    let mut units: Vec<String> = request.objects.iter().map(|o| o.unit.to_string()).collect();
    units.sort();
    units.dedup();
    let count = request.objects.len();
    let detail = format!("{count} objects of {}", units.iter().take(5).cloned().collect::<Vec<_>>().join(", "));
    shared.store.audit(act(&actor, "dryRun", format!("cluster {name}"), detail)).await?;
    let question = Question::DryRun(DryRunQuestion { objects: request.objects });
    match ask(&shared, cluster.id, &cluster.name, &question, DRY_RUN).await? {
        Answer::DryRun(answer) => Ok(Json(answer)),
        _ => Err(another(&cluster.name).into()),
    }
}
