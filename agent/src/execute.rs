//! One step, carried out. Nothing is decided here: a step is complete in itself.

use std::sync::Arc;

use driftless_protocol::bundle::{Bundle, ServiceAccount};
use driftless_protocol::marks;
use driftless_reconcile::fill::Fill;
use driftless_reconcile::step::{Action, Apply, Delete, Failure, Outcome, SuspendFlux, TakeOver};
use driftless_reconcile::{edit, ownership, retry, rules::Rules};
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::cluster::api::{Actor, Api, ApiError, Resource};
use crate::cluster::discovery::Served;
use crate::leader::Leadership;
use crate::ledger::Stored;
use crate::records::{Records, WriteError};

/// How often a take-over is made for an object that changes meanwhile.
const TAKE_OVER_TRIES: u32 = 5;

/// What a step came to, owned, until the engine looks at it.
#[derive(Debug)]
pub enum Answer {
    /// The server's answer.
    Object(Value),
    /// It is there, and nothing was written.
    Present(Value),
    /// Done.
    Ok,
    /// No such object.
    NotFound,
    /// Refused or failed.
    Failed(Failure),
    /// Not tried, or unknown what became of it.
    Unknown,
    /// Another pod wrote the records, this one among them: what is believed here is not what is stored.
    Raced(String),
}

impl Answer {
    /// As the engine takes it.
    #[must_use]
    pub fn outcome(&self) -> Outcome<'_> {
        match self {
            Self::Object(value) => Outcome::Object(value),
            Self::Present(value) => Outcome::Present(value),
            Self::Ok => Outcome::Ok,
            Self::NotFound => Outcome::NotFound,
            Self::Failed(failure) => Outcome::Failed(failure.clone()),
            Self::Unknown | Self::Raced(_) => Outcome::Unknown,
        }
    }
}

/// What steps need: cheap to clone, one per step in flight.
#[derive(Clone)]
pub struct Context {
    /// Requests.
    pub api: Api,
    /// Kinds as served when the step began.
    pub served: Arc<Served>,
    /// Blobs of what is enforced.
    pub stored: Arc<Stored>,
    /// The inventory's shards; one writer at a time.
    pub records: Arc<Mutex<Records>>,
    /// Whether requests may start.
    pub leadership: watch::Receiver<Leadership>,
    /// Who writes where no account is named.
    pub applier: ServiceAccount,
    /// For the take-over of other managers' fields.
    pub rules: Arc<Rules>,
}

impl Context {
    /// Carries out one action.
    pub async fn execute(self, action: Action) -> Answer {
        if !self.may_act() {
            return Answer::Unknown;
        }
        if self.rules.shadow && action.writes() {
            // The engine asks for none; whatever it asks for, nothing is written.
            tracing::error!(?action, "a write in shadow mode was not carried out");
            return Answer::Unknown;
        }
        match action {
            Action::WriteInventory { shards } => match self.records.lock().await.write(&shards).await {
                Ok(()) => Answer::Ok,
                Err(WriteError::Api(error)) => failed(&error, ""),
                Err(WriteError::Raced(name)) => Answer::Raced(name),
            },
            Action::Apply(apply) => self.apply(&apply, false).await,
            Action::DryRun(apply) => self.apply(&apply, true).await,
            Action::Delete(delete) => self.delete(&delete).await,
            Action::SuspendFlux(suspend) => self.suspend_flux(&suspend).await,
            Action::Get { key, api_version } => {
                let resource = match &api_version {
                    Some(version) => self.served.resource(version, &key.kind),
                    None => self.served.any_version(&key.group, &key.kind),
                };
                let Some(resource) = resource else { return not_served(&key.kind, &key.group) };
                match self.api.get(&self.actor(None), resource, &key.namespace, &key.name).await {
                    Ok(Some(object)) => Answer::Object(object),
                    Ok(None) => Answer::NotFound,
                    Err(error) => failed(&error, &key.name),
                }
            }
        }
    }

    fn may_act(&self) -> bool {
        self.leadership.borrow().may_act(Instant::now())
    }

    fn actor(&self, account: Option<&ServiceAccount>) -> Actor {
        Actor::Account(account.unwrap_or(&self.applier).clone())
    }

    async fn apply(&self, apply: &Apply, dry_run: bool) -> Answer {
        let key = &apply.key;
        let Some(resource) = self.served.resource(&apply.api_version, &key.kind) else {
            return not_served(&key.kind, &apply.api_version);
        };
        let body = match self.body(apply) {
            Ok(body) => body,
            Err(message) => return Answer::Failed(Failure { message, ..Failure::default() }),
        };
        let actor = self.actor(apply.account.as_ref());
        if apply.only_if_absent {
            match self.api.get(&actor, resource, &key.namespace, &key.name).await {
                Ok(Some(object)) => return Answer::Present(object),
                Ok(None) => {}
                Err(error) => return failed(&error, &key.name),
            }
        }
        if !dry_run
            && (apply.take_over != TakeOver::No || apply.reclaim)
            && let Err(error) = self.take_over(&actor, resource, apply, &body).await
        {
            return failed(&error, &key.name);
        }
        if !self.may_act() {
            return Answer::Unknown;
        }
        let dry = dry_run.then(|| apply.instead_of.as_deref().unwrap_or(marks::FIELD_MANAGER));
        match self.api.apply(&actor, resource, &key.namespace, &key.name, &body.bytes, dry).await {
            Ok(object) => Answer::Object(object),
            Err(error) => match &apply.fill {
                Some(fill) if body.secret => hidden(&error, &key.name, fill),
                _ => failed(&error, &key.name),
            },
        }
    }

    /// The bytes to send: those of the hub, hashed again, filled, with the agent's named edits.
    fn body(&self, apply: &Apply) -> Result<edit::Body, String> {
        let bytes = Bundle::bytes(apply.blob, &*self.stored.blobs)
            .map_err(|e| format!("{} cannot be read from the ledger: {e}", apply.key))?;
        edit::prepare(apply, &bytes)
    }

    /// Makes other managers' fields ours, so that what leaves Git later leaves the cluster too. The patch is guarded by
    /// the resourceVersion it was made for: when a controller wrote in between (status after a scale, mostly), it is made
    /// again a few times before the engine hears of a conflict.
    async fn take_over(
        &self,
        actor: &Actor,
        resource: &Resource,
        apply: &Apply,
        body: &edit::Body,
    ) -> Result<(), ApiError> {
        let key = &apply.key;
        let declared = apply.reclaim.then(|| serde_json::from_slice(&body.bytes).ok()).flatten();
        let mut tries = 0;
        loop {
            let Some(live) = self.api.get(actor, resource, &key.namespace, &key.name).await? else { return Ok(()) };
            let Some(patch) =
                ownership::take_over(&live, apply.take_over, &apply.ignore, declared.as_ref(), &self.rules)
            else {
                return Ok(());
            };
            match self.api.json_patch(actor, resource, &key.namespace, &key.name, &patch).await {
                Ok(_) => return Ok(()),
                // A failed `test` operation comes as 422.
                Err(error) if matches!(error.status(), Some(409 | 422)) => {
                    tries += 1;
                    if tries == TAKE_OVER_TRIES {
                        return Err(ApiError::Refused {
                            status: 409,
                            reason: "Conflict".into(),
                            message: format!("the object changed while its fields were taken over: {error}"),
                            retry_after: None,
                            about: None,
                        });
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Suspends a Kustomization of Flux, if it is still as it was seen.
    async fn suspend_flux(&self, suspend: &SuspendFlux) -> Answer {
        let key = &suspend.key;
        let Some(resource) = self.served.any_version(&key.group, &key.kind) else {
            return not_served(&key.kind, &key.group);
        };
        let patch = json!([
            {"op": "test", "path": "/metadata/uid", "value": suspend.uid},
            {"op": "test", "path": "/metadata/generation", "value": suspend.generation},
            {"op": "add", "path": "/spec/suspend", "value": true},
        ]);
        tracing::info!(kustomization = %key, "Git hands it over and no running parent passes the suspend on: suspended");
        match self.api.json_patch(&self.actor(None), resource, &key.namespace, &key.name, &patch).await {
            Ok(_) => Answer::Ok,
            Err(error) => failed(&error, &key.name),
        }
    }

    async fn delete(&self, delete: &Delete) -> Answer {
        let key = &delete.key;
        let resource = self
            .served
            .resource(&delete.api_version, &key.kind)
            .or_else(|| self.served.any_version(&key.group, &key.kind));
        let Some(resource) = resource else { return not_served(&key.kind, &delete.api_version) };
        let actor = self.actor(delete.account.as_ref());
        let version = Some(delete.resource_version.as_str());
        match self.api.delete(&actor, resource, &key.namespace, &key.name, &delete.uid, version).await {
            Ok(()) => Answer::Ok,
            Err(error) => failed(&error, &key.name),
        }
    }
}

fn not_served(kind: &str, group_or_version: &str) -> Answer {
    Answer::Failed(Failure {
        status: Some(404),
        reason: retry::NOT_SERVED.into(),
        message: format!("the cluster does not serve the kind {kind} ({group_or_version})"),
        ..Failure::default()
    })
}

fn failed(error: &ApiError, name: &str) -> Answer {
    Answer::Failed(failure_of(error, name))
}

/// A failure whose words may quote a value of a Secret.
fn hidden(error: &ApiError, name: &str, fill: &Fill) -> Answer {
    let fields = match error {
        ApiError::Refused { about: Some(about), .. } => about.fields.as_slice(),
        _ => &[],
    };
    Answer::Failed(retry::hide(failure_of(error, name), fields, fill))
}

fn failure_of(error: &ApiError, name: &str) -> Failure {
    let mut failure = Failure { status: error.status(), message: error.to_string(), ..Failure::default() };
    if let ApiError::Refused { reason, retry_after, about, .. } = error {
        failure.reason.clone_from(reason);
        failure.retry_after = retry_after.map(|d| d.as_secs());
        failure.about = about.as_ref().and_then(|about| about.name.clone()).filter(|about| about != name);
    }
    failure
}
