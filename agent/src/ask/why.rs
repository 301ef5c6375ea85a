//! Reads what an object made, down to its pods, and lets `driftless-reconcile` judge.

use driftless_protocol::ask::{Answer, WHY_OBJECTS, WhyAnswer, WhyObject, WhyQuestion, refusal};
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::why::{Children, Inquiry, Newest, children, is_owned_by};
use serde_json::Value;

use super::Look;
use crate::cluster::api::{ApiError, PageQuery, Resource, claims, core_events};
use crate::cluster::discovery::Served;

/// Pods (or other children) per page: bounds the memory of an answer.
const PAGE: u32 = 50;
/// Pods looked at of one object; how many there are beyond is said.
const PODS: u64 = 500;
/// Events read of one object.
const EVENTS: u32 = 50;

pub(super) async fn answer(look: &Look, question: WhyQuestion) -> Result<Answer, Answer> {
    let keys = question.objects;
    if keys.len() > WHY_OBJECTS {
        let why = format!("{} objects in one question, at most {WHY_OBJECTS} are allowed", keys.len());
        return Err(Answer::refused(refusal::TOO_MUCH, why));
    }
    let known = look.known(keys.clone()).await?;
    let served = look.served().await?;
    let mut objects = Vec::new();
    for (key, known) in keys.into_iter().zip(known) {
        let problem = |why: String| WhyObject { key: Some(key.clone()), problem: Some(why), ..WhyObject::default() };
        objects.push(if !known {
            problem("no unit of this cluster declares it, and none owns it".to_owned())
        } else if look.is_over() {
            problem("the time was over before it was looked at".to_owned())
        } else {
            match object(look, &served, &key).await {
                Ok(found) => found,
                Err(error) => problem(error),
            }
        });
    }
    Ok(Answer::Why(WhyAnswer { objects }))
}

async fn object(look: &Look, served: &Served, key: &ObjectKey) -> Result<WhyObject, String> {
    let resource = served.any_version(&key.group, &key.kind).ok_or("the cluster does not serve its kind")?;
    let read = look.api.get(&look.actor, resource, &key.namespace, &key.name).await;
    let root = read.map_err(|e| format!("it cannot be read: {e}"))?.ok_or("it is not in the cluster")?;
    let mut inquiry = Inquiry::of(&root, (look.setup.clock)()).ok_or("what the API server answered is no object")?;
    // What could not be read below it is said, and what could is told all the same.
    let mut problem = below(look, served, &root, key, &mut inquiry).await.err();
    for name in inquiry.claims_to_read() {
        match look.api.get(&look.actor, &claims(), &key.namespace, &name).await {
            Ok(Some(claim)) => inquiry.claim(&claim),
            Ok(None) => inquiry.no_claim(&name),
            Err(error) => problem = problem.or(Some(format!("claim {name} cannot be read: {error}"))),
        }
    }
    for closer in inquiry.closer() {
        let Some(uid) = closer.uid.filter(|_| !look.is_over()) else { continue };
        let fields = format!("involvedObject.uid={uid}");
        let query = PageQuery { limit: EVENTS, fields: &fields, ..PageQuery::default() };
        // Events of objects without namespace are written to `default`.
        let namespace = if closer.key.namespace.is_empty() { "default" } else { &closer.key.namespace };
        match look.api.page(&look.actor, &core_events(), namespace, &query).await {
            Ok(page) => page.items.iter().for_each(|event| inquiry.event(&closer.key, event)),
            Err(error) => problem = problem.or(Some(format!("Events cannot be read: {error}"))),
        }
    }
    Ok(WhyObject { problem, ..inquiry.finish() })
}

/// What it made, and what that made.
async fn below(
    look: &Look,
    served: &Served,
    root: &Value,
    key: &ObjectKey,
    inquiry: &mut Inquiry,
) -> Result<(), String> {
    let Some(below) = children(root) else { return Ok(()) };
    if below.kind == "Pod" {
        return pods(look, served, root, &below, key, inquiry).await;
    }
    let mut newest = Newest::default();
    list(look, served, root, &below, key, &mut |child| {
        newest.take(child);
        true
    })
    .await?;
    for child in newest.into_vec() {
        inquiry.controller(&child);
        if let Some(below) = children(&child).filter(|b| b.kind == "Pod") {
            pods(look, served, &child, &below, key, inquiry).await?;
        }
    }
    Ok(())
}

async fn pods(
    look: &Look,
    served: &Served,
    owner: &Value,
    below: &Children,
    key: &ObjectKey,
    inquiry: &mut Inquiry,
) -> Result<(), String> {
    let mut count = 0;
    let more = list(look, served, owner, below, key, &mut |pod| {
        inquiry.pod(&pod);
        count += 1;
        count < PODS
    })
    .await?;
    inquiry.more_pods(more);
    Ok(())
}

/// Reads the children of an object page by page, until `take` says that it has enough; how many there are beyond that.
async fn list(
    look: &Look,
    served: &Served,
    owner: &Value,
    below: &Children,
    key: &ObjectKey,
    take: &mut (dyn FnMut(Value) -> bool + Send),
) -> Result<u64, String> {
    let resource =
        served.any_version(below.group, below.kind).ok_or_else(|| format!("{} is not served", below.kind))?;
    let uid = owner.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let failed = |e: ApiError| format!("{} in {} cannot be listed: {e}", resource.plural, key.namespace);
    let mut from: Option<String> = None;
    loop {
        let query = PageQuery { limit: PAGE, labels: &below.selector, from: from.as_deref(), ..PageQuery::default() };
        let page = look.api.page(&look.actor, resource, &key.namespace, &query).await.map_err(failed)?;
        let (next, remaining) = (page.next(), page.remaining());
        let mut enough = false;
        let mut left = 0;
        for item in page.items {
            if !is_owned_by(&item, uid) {
                continue;
            }
            if enough {
                left += 1;
            } else {
                enough = !take(typed(item, resource));
            }
        }
        match next {
            Some(next) if !enough && !look.is_over() => from = Some(next),
            Some(_) => return Ok(left + remaining),
            None => return Ok(left),
        }
    }
}

/// Items of lists come without `apiVersion` and `kind`.
fn typed(mut item: Value, resource: &Resource) -> Value {
    if let Some(map) = item.as_object_mut() {
        map.insert("apiVersion".into(), resource.api_version().into());
        map.insert("kind".into(), resource.kind.clone().into());
    }
    item
}
