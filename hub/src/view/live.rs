//! From "this object is not healthy" on into the cluster: which objects are asked about, and what the answer adds.

use driftless_protocol::api::{Stage, Step, StepState, Why, WhyLive};
use driftless_protocol::ask::{WHY_OBJECTS, WhyObject};
use driftless_protocol::id::UnitId;
use driftless_protocol::object::ObjectKey;
use driftless_protocol::report::{ObjectState, UnitReport};
use driftless_store::Cluster;

use super::chain::{StepExt as _, step};
use super::{Fleet, chain};
use crate::http::error::Refusal;
use crate::rendered::UnitView;

/// Names shown where nothing fits.
const SHOWN: usize = 8;

/// Objects to ask about, and how many more are not healthy.
pub(crate) fn objects(
    fleet: &Fleet<'_>,
    cluster: &Cluster,
    id: &UnitId,
    named: Option<&str>,
) -> Result<(Vec<ObjectKey>, u32), Refusal> {
    let view = fleet.render(cluster).and_then(|r| r.units.get(id));
    let report = fleet.reports_of(cluster.id).iter().find(|r| r.report.unit == *id).map(|r| &r.report);
    match named {
        Some(text) => Ok((find(text, id, view, report)?, 0)),
        None => Ok(unhealthy(report)),
    }
}

/// Those that failed before those that may only need time.
fn unhealthy(report: Option<&UnitReport>) -> (Vec<ObjectKey>, u32) {
    let of = |state| {
        let all = report.into_iter().flat_map(|r| &r.objects);
        all.filter(move |o| o.state == state).map(|o| o.key.clone())
    };
    let mut keys: Vec<ObjectKey> = of(ObjectState::Unhealthy).chain(of(ObjectState::InProgress)).collect();
    let more = keys.len().saturating_sub(WHY_OBJECTS);
    keys.truncate(WHY_OBJECTS);
    (keys, u32::try_from(more).unwrap_or(u32::MAX))
}

/// Objects of the unit that are called so: `web`, `deployment/web`, `deployment.apps/web`, `deployment/shop/web`.
fn find(
    text: &str,
    id: &UnitId,
    view: Option<&UnitView>,
    report: Option<&UnitReport>,
) -> Result<Vec<ObjectKey>, Refusal> {
    let declared = view.into_iter().flat_map(|v| v.objects.iter().map(|(key, ..)| key));
    let reported = report.into_iter().flat_map(|r| r.objects.iter().map(|o| &o.key));
    let mut all: Vec<&ObjectKey> = declared.chain(reported).collect();
    all.sort();
    all.dedup();
    let parts: Vec<&str> = text.split('/').collect();
    let fits = |key: &&&ObjectKey| match parts.as_slice() {
        [name] => key.name == *name,
        [kind, name] => is_kind(kind, key) && key.name == *name,
        [kind, namespace, name] => is_kind(kind, key) && key.namespace == *namespace && key.name == *name,
        _ => false,
    };
    let mut found: Vec<ObjectKey> = all.iter().filter(fits).map(|key| (*key).clone()).collect();
    if found.is_empty() {
        let names: Vec<String> = all.iter().take(SHOWN).map(ToString::to_string).collect();
        let more = if all.len() > SHOWN { " and more" } else { "" };
        return Err(Refusal::not_found(format!(
            "unit {id} has no object {text}; write KIND/NAME or KIND/NAMESPACE/NAME. It has {}{more}",
            names.join(", ")
        )));
    }
    found.truncate(WHY_OBJECTS);
    Ok(found)
}

/// `Deployment`, `deployment`, `deployments`, each with the group after a dot or without.
fn is_kind(text: &str, key: &ObjectKey) -> bool {
    let (kind, group) = text.split_once('.').map_or((text, None), |(kind, group)| (kind, Some(group)));
    let singular = kind.strip_suffix('s').unwrap_or(kind);
    let named = [kind, singular].iter().any(|k| key.kind.eq_ignore_ascii_case(k))
        || kind
            .to_lowercase()
            .strip_suffix("ies")
            .is_some_and(|stem| key.kind.eq_ignore_ascii_case(&format!("{stem}y")));
    named && group.is_none_or(|group| key.group == group)
}

/// Adds what the agent saw, and sums up anew.
pub(crate) fn add(why: &mut Why, live: WhyLive, view: Option<&UnitView>) {
    let pods = match &live.not_asked {
        Some(not) => step(Stage::Pods, StepState::Unknown, not.clone()),
        None => seen(&live.objects, view),
    };
    let pods = if pods.since.is_none() && live.not_asked.is_none() && pods.state == StepState::Ok {
        pods.since(Some(live.asked_at))
    } else {
        pods
    };
    let at = why.steps.iter().position(|s| s.stage > Stage::Pods).unwrap_or(why.steps.len());
    let leads = pods.state == StepState::Failed || pods.state == StepState::Waiting;
    why.steps.insert(at, pods);
    why.summary = chain::summary(&why.steps, &why.unit, why.wanted.as_deref());
    // In the place of "is not healthy": why not.
    let of_health = why.steps.iter().any(|s| s.stage == Stage::Health && s.message == why.summary);
    if leads
        && of_health
        && let Some(pods) = why.steps.get(at)
    {
        why.summary.clone_from(&pods.message);
    }
    why.live = Some(live);
}

/// The one cause to see to first.
fn seen(objects: &[WhyObject], view: Option<&UnitView>) -> Step {
    let first = objects.iter().find_map(|object| Some((object.key.as_ref()?, object.causes.first()?)));
    if let Some((key, cause)) = first {
        let others = match cause.count {
            0 | 1 => String::new(),
            count => format!(" ({count} alike)"),
        };
        let at = if cause.at == *key { key.to_string() } else { format!("{key}: {}{others}", cause.at) };
        let message = format!("{at}: {}. To do: {}", cause.message.trim_end_matches('.'), cause.hint);
        let step = step(Stage::Pods, StepState::Failed, message).code(&*cause.code).since(cause.since);
        return chain::placed(view, key, step);
    }
    let problem = objects.iter().find_map(|object| Some((object.key.as_ref()?, object.problem.as_ref()?)));
    if let Some((key, problem)) = problem {
        return step(Stage::Pods, StepState::Unknown, format!("{key}: {problem}"));
    }
    match objects.iter().find(|object| !object.healthy) {
        Some(object) => {
            let name = object.key.as_ref().map(ToString::to_string).unwrap_or_default();
            step(Stage::Pods, StepState::Waiting, format!("{name}: {}", object.state))
        }
        None => step(Stage::Pods, StepState::Ok, "by now everything that was asked about is as it should be"),
    }
}

#[cfg(test)]
mod tests {
    use driftless_protocol::ask::Cause;

    use super::*;
    use crate::view::samples;

    #[test]
    fn objects_are_named_as_people_type_them() {
        let view = samples::view();
        let id = UnitId::kustomization("flux-system", "apps");
        for text in ["web", "deployment/web", "Deployments/web", "deployment.apps/web", "deployment/shop/web"] {
            assert_eq!(find(text, &id, Some(&view), None).unwrap(), [samples::key()], "{text}");
        }
        for text in ["", "api", "service/web", "deployment.batch/web", "deployment/other/web", "a/b/c/d"] {
            assert!(find(text, &id, Some(&view), None).is_err(), "{text:?}");
        }
        let policy =
            ObjectKey { group: "".into(), kind: "NetworkPolicy".into(), namespace: "".into(), name: "x".into() };
        assert!(is_kind("networkpolicies", &policy) && !is_kind("networkpolicys.x", &policy));
    }

    #[test]
    fn the_lead_cause_takes_the_place_of_not_healthy() {
        let health = step(Stage::Health, StepState::Failed, "Deployment.apps shop/web: 0 of 1 replicas are ready");
        let drift = step(Stage::Drift, StepState::Ok, "no drift");
        let mut why = Why {
            cluster: "prod".parse().unwrap(),
            unit: UnitId::kustomization("flux-system", "apps"),
            wanted: None,
            revisions: Vec::new(),
            summary: health.message.clone(),
            steps: vec![health, drift],
            reported_at: None,
            live: None,
        };
        let pod = ObjectKey { group: "".into(), kind: "Pod".into(), namespace: "shop".into(), name: "web-1".into() };
        let cause = Cause {
            code: "ImageNotFound".into(),
            at: pod,
            message: "image \"nginx:9\" cannot be pulled".into(),
            hint: "correct the tag".into(),
            since: Some(7),
            count: 3,
        };
        let object = WhyObject { key: Some(samples::key()), causes: vec![cause], ..WhyObject::default() };
        add(&mut why, WhyLive { objects: vec![object], ..WhyLive::default() }, Some(&samples::view()));
        assert_eq!(why.steps.iter().map(|s| s.stage).collect::<Vec<_>>(), [Stage::Health, Stage::Pods, Stage::Drift]);
        let pods = &why.steps[1];
        assert_eq!((pods.state, pods.since, pods.file.as_deref()), (StepState::Failed, Some(7), Some("apps/web.yaml")));
        assert_eq!(why.summary, pods.message);
        for word in ["Pod shop/web-1 (3 alike)", "nginx:9", "correct the tag"] {
            assert!(why.summary.contains(word), "{}", why.summary);
        }
    }
}
