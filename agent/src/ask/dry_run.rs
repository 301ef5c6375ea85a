//! Applies proposed objects with `dryRun=All`, and in no other way.
//!
//! The question is not signed, so whoever holds the hub can have any object tried, as any account the agent may act as.
//! A dry run stores nothing; it does pass admission, so webhooks see the object. Answers name fields and quote the API
//! server; of Secrets they quote nothing, and conflicts are not asked for, since whether a value conflicts tells whether it
//! was guessed. Whoever installs the agent can switch dry runs off.

use driftless_protocol::ask::{
    Answer, DRY_RUN_BYTES, DRY_RUN_OBJECTS, DryRunAnswer, DryRunObject, DryRunOutcome, DryRunQuestion, DryRunResult,
    FieldTaken, cut_text, refusal,
};
use driftless_protocol::canonical;
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::dryrun;
use serde_json::Value;

use super::Look;
use crate::cluster::api::{Actor, ApiError};
use crate::cluster::discovery::Served;

/// Fields and warnings told of one object.
const LISTED: usize = 50;

pub(super) async fn answer(look: &Look, question: DryRunQuestion) -> Result<Answer, Answer> {
    if !look.setup.dry_run {
        let why = "dry runs are switched off in this cluster (dryRun.enabled of the agent's chart)";
        return Err(Answer::refused(refusal::DISABLED, why));
    }
    let bytes: usize = question.objects.iter().map(|o| o.body.len()).sum();
    if question.objects.len() > DRY_RUN_OBJECTS || bytes > DRY_RUN_BYTES {
        let why = format!(
            "{} objects with {bytes} bytes in one question, at most {DRY_RUN_OBJECTS} with {DRY_RUN_BYTES} are allowed",
            question.objects.len()
        );
        return Err(Answer::refused(refusal::TOO_MUCH, why));
    }
    let served = look.served().await?;
    let mut results = Vec::new();
    for object in &question.objects {
        let mut result = if look.is_over() {
            result(&object.key, DryRunOutcome::NotTried, "the time was over before it was tried")
        } else {
            one(look, &served, object).await
        };
        cut_text(&mut result.message);
        result.takes.truncate(LISTED);
        result.warnings.truncate(LISTED);
        result.warnings.iter_mut().for_each(cut_text);
        results.push(result);
    }
    Ok(Answer::DryRun(DryRunAnswer { results }))
}

fn result(key: &ObjectKey, outcome: DryRunOutcome, message: impl Into<String>) -> DryRunResult {
    DryRunResult { key: key.clone(), outcome, message: message.into(), takes: Vec::new(), warnings: Vec::new() }
}

async fn one(look: &Look, served: &Served, object: &DryRunObject) -> DryRunResult {
    let key = &object.key;
    let Ok(parsed) = canonical::parse(object.body.as_bytes()) else {
        return result(key, DryRunOutcome::NotTried, "its body is not canonical JSON");
    };
    if ObjectKey::of(&parsed).as_ref() != Some(key) {
        return result(key, DryRunOutcome::NotTried, "its body is of another object");
    }
    let api_version = parsed.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let Some(resource) = served.resource(api_version, &key.kind) else {
        let message = format!("the cluster does not serve {} in {api_version}", key.kind);
        return result(key, DryRunOutcome::NotServed, message);
    };
    if resource.namespaced && key.namespace.is_empty() {
        let message = "namespace not specified; set metadata.namespace, or the unit's targetNamespace";
        return result(key, DryRunOutcome::Invalid, message);
    }
    let actor = match &object.account {
        Some(account) => Actor::Account(account.clone()),
        None => look.actor.clone(),
    };
    let body = object.body.as_bytes();
    let try_it = async |force| look.api.dry_run(&actor, resource, &key.namespace, &key.name, body, force).await;
    let secret = key.is_secret();
    let mut takes: Vec<FieldTaken> = Vec::new();
    let mut tried = try_it(secret).await;
    if !secret && let Err(ApiError::Refused { status: 409, about: Some(about), .. }) = &tried {
        let causes: Vec<(String, String)> = about.fields.iter().cloned().zip(about.words.iter().cloned()).collect();
        takes = dryrun::takes(&causes);
        if !takes.is_empty() {
            tried = try_it(true).await;
        }
    }
    match tried {
        Ok(_) if secret => result(key, DryRunOutcome::Accepted, ""),
        Ok(warnings) => DryRunResult { takes, warnings, ..result(key, DryRunOutcome::Accepted, "") },
        Err(error) => {
            let reason = match &error {
                ApiError::Refused { reason, .. } => reason.as_str(),
                _ => "",
            };
            let outcome = dryrun::outcome(error.status(), reason, &error.to_string());
            let message = if secret { without_words(&error) } else { error.to_string() };
            DryRunResult { takes, ..result(key, outcome, message) }
        }
    }
}

/// What may be said of a Secret that was refused.
fn without_words(error: &ApiError) -> String {
    match error {
        ApiError::Refused { status, reason, about, .. } => {
            let reason = if reason.is_empty() { format!("status {status}") } else { reason.clone() };
            let fields = about.as_ref().map(|about| about.fields.join(", ")).filter(|fields| !fields.is_empty());
            let at = fields.map(|fields| format!(" at {fields}")).unwrap_or_default();
            format!("refused ({reason}){at}; its words are not shown, since they may quote a value")
        }
        other => other.to_string(),
    }
}
