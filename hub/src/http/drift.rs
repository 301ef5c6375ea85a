//! `POST /drift-mode`: what becomes of drift, whatever Git says.

use axum::Extension;
use axum::extract::State;
use driftless_protocol::api::{Done, DriftModeRequest};
use driftless_protocol::bundle::DriftMode;
use driftless_protocol::id::ClusterId;
use driftless_store::{Intent, IntentRecord};

use super::change::{Hub, act, check_reason, chosen, done, known_unit, record, scope};
use crate::http::Actor;
use crate::http::error::{Answer, Body, Refusal};
use crate::view::Fleet;

/// What this mode means for people.
fn effect(mode: DriftMode) -> &'static str {
    match mode {
        DriftMode::Correct => "drift is healed",
        DriftMode::Warn => "drift is left, shown and alerted; new commits are applied",
        DriftMode::Observe => "drift is left and shown; new commits are applied",
    }
}

pub(crate) async fn set(
    State(shared): Hub,
    Extension(actor): Extension<Actor>,
    Body(request): Body<DriftModeRequest>,
) -> Answer<Done> {
    check_reason(&request.reason)?;
    let fleet = Fleet::load(&shared).await?;
    let clusters = chosen(&fleet, request.cluster.as_ref())?;
    let place = scope(request.cluster.as_ref());
    let what = match &request.unit {
        Some(unit) => format!("unit {unit}"),
        None => "all units".to_owned(),
    };
    let target = act(&actor, "driftMode", &*what, format!("{place}: {}: {}", word(request.mode), request.reason));
    let intent = |cluster: Option<ClusterId>, mode| Intent::DriftMode { cluster, unit: request.unit.clone(), mode };
    let cluster = request.cluster.as_ref().and_then(|_| clusters.first()).map(|c| c.id);
    let Some(mode) = request.mode else {
        // "In all clusters" takes back what was said of single ones, too.
        let mut taken_back = 0;
        for record in fleet.intents.iter().filter(|r| {
            let Intent::DriftMode { cluster: of, unit, .. } = &r.intent else { return false };
            *unit == request.unit && (cluster.is_none() || *of == cluster)
        }) {
            shared.store.remove_intent(record.intent.clone(), target.clone()).await?;
            taken_back += 1;
        }
        if taken_back == 0 {
            let everywhere = |r: &IntentRecord| matches!(&r.intent, Intent::DriftMode { cluster: None, unit, .. } if *unit == request.unit);
            let message = if fleet.intents.iter().any(everywhere) {
                format!("the drift mode of {what} is set for every cluster at once; take it back with --all-clusters")
            } else {
                format!("no operator has set a drift mode for {what} in {place}: it is as Git says")
            };
            return Err(Refusal::conflict(message));
        }
        shared.wake.rollout.notify_one();
        return done(vec![format!("the drift mode of {what} in {place} is as Git says again")]);
    };
    if let Some(unit) = &request.unit {
        known_unit(&fleet, &clusters, unit, &place)?;
    }
    shared.store.put_intent(record(intent(cluster, mode), &actor, request.reason.clone()), target).await?;
    shared.wake.rollout.notify_one();
    done(vec![format!("the drift mode of {what} in {place} is {}: {}", word(request.mode), effect(mode))])
}

fn word(mode: Option<DriftMode>) -> &'static str {
    match mode {
        Some(DriftMode::Correct) => "correct",
        Some(DriftMode::Warn) => "warn",
        Some(DriftMode::Observe) => "observe",
        None => "as Git says",
    }
}
