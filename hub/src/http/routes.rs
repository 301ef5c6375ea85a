//! The table of [`driftless_protocol::api`] as routes.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use driftless_protocol::api::{
    ApproveRequest, AuditEntry, ClusterChange, ClusterDetail, ClusterRow, Done, FleetStatus, FreezeRequest,
    JoinTokenCreated, JoinTokenRequest, List, PREFIX, ReconcileRequest, SourceRow, SuspendRequest, UnitDetail, UnitRow,
    Why,
};
use http::{Method, Uri};

use super::Shared;
use super::backend::{Actor, Answer, AuditQuery, Backend, UnitQuery};
use super::error::HttpError;
use super::extract::{Body, ClusterPath, UnitPath};
use super::guard::panicked;

type App<B> = State<Arc<Shared<B>>>;
type Reply<T> = Result<Json<T>, HttpError>;

/// Every route, under [`PREFIX`].
pub(super) fn routes<B: Backend>() -> Router<Arc<Shared<B>>> {
    let api = Router::new()
        .route("/status", get(status::<B>))
        .route("/clusters", get(clusters::<B>))
        .route("/clusters/{name}", get(cluster::<B>).patch(change_cluster::<B>).delete(revoke_cluster::<B>))
        .route("/clusters/{name}/units/{namespace}/{unit}", get(unit::<B>))
        .route("/clusters/{name}/units/{namespace}/{unit}/why", get(why::<B>))
        .route("/join-tokens", post(create_join_token::<B>))
        .route("/sources", get(sources::<B>))
        .route("/units", get(units::<B>))
        .route("/reconcile", post(reconcile::<B>))
        .route("/suspend", post(suspend::<B>))
        .route("/resume", post(resume::<B>))
        .route("/freeze", post(freeze::<B>))
        .route("/unfreeze", post(unfreeze::<B>))
        .route("/approve", post(approve::<B>))
        .route("/audit", get(audit::<B>));
    Router::new().nest(PREFIX, api).fallback(no_path).method_not_allowed_fallback(no_method)
}

async fn no_path(uri: Uri) -> HttpError {
    let path: String = uri.path().chars().take(200).collect();
    HttpError::not_found(format!("there is nothing at {path}; is the client newer than this hub?"))
}

async fn no_method(method: Method, uri: Uri) -> HttpError {
    let path: String = uri.path().chars().take(200).collect();
    HttpError::method(format!("{path} does not take {method}; the header `allow` says what it takes"))
}

/// Runs a change to its end, whether or not anybody waits for it.
async fn change<B, T, F>(app: &Arc<Shared<B>>, run: impl FnOnce(Arc<B>) -> F) -> Reply<T>
where
    B: Backend,
    T: Send + 'static,
    F: Future<Output = Answer<T>> + Send + 'static,
{
    match app.changes.spawn(run(Arc::clone(&app.backend))).await {
        Ok(answer) => answer.map(Json),
        Err(error) => Err(match error.try_into_panic() {
            Ok(panic) => panicked(&*panic),
            Err(_) => HttpError::unavailable("the hub is stopping; look with `driftless status` once it is back"),
        }),
    }
}

async fn status<B: Backend>(State(app): App<B>) -> Reply<FleetStatus> {
    app.backend.status().await.map(Json)
}

async fn clusters<B: Backend>(State(app): App<B>) -> Reply<List<ClusterRow>> {
    app.backend.clusters().await.map(Json)
}

async fn cluster<B: Backend>(State(app): App<B>, ClusterPath(name): ClusterPath) -> Reply<ClusterDetail> {
    app.backend.cluster(name).await.map(Json)
}

async fn change_cluster<B: Backend>(
    State(app): App<B>,
    actor: Actor,
    ClusterPath(name): ClusterPath,
    Body(request): Body<ClusterChange>,
) -> Reply<ClusterRow> {
    change(&app, |b| async move { b.change_cluster(actor, name, request).await }).await
}

async fn revoke_cluster<B: Backend>(
    State(app): App<B>,
    actor: Actor,
    ClusterPath(name): ClusterPath,
) -> Reply<Done> {
    change(&app, |b| async move { b.revoke_cluster(actor, name).await }).await
}

async fn create_join_token<B: Backend>(
    State(app): App<B>,
    actor: Actor,
    Body(request): Body<JoinTokenRequest>,
) -> Reply<JoinTokenCreated> {
    change(&app, |b| async move { b.create_join_token(actor, request).await }).await
}

async fn sources<B: Backend>(State(app): App<B>) -> Reply<List<SourceRow>> {
    app.backend.sources().await.map(Json)
}

async fn units<B: Backend>(State(app): App<B>, query: UnitQuery) -> Reply<List<UnitRow>> {
    app.backend.units(query).await.map(Json)
}

async fn unit<B: Backend>(State(app): App<B>, UnitPath(cluster, unit): UnitPath) -> Reply<UnitDetail> {
    app.backend.unit(cluster, unit).await.map(Json)
}

async fn why<B: Backend>(State(app): App<B>, UnitPath(cluster, unit): UnitPath) -> Reply<Why> {
    app.backend.why(cluster, unit).await.map(Json)
}

async fn reconcile<B: Backend>(
    State(app): App<B>,
    actor: Actor,
    Body(request): Body<ReconcileRequest>,
) -> Reply<Done> {
    change(&app, |b| async move { b.reconcile(actor, request).await }).await
}

async fn suspend<B: Backend>(State(app): App<B>, actor: Actor, Body(request): Body<SuspendRequest>) -> Reply<Done> {
    change(&app, |b| async move { b.suspend(actor, request).await }).await
}

async fn resume<B: Backend>(State(app): App<B>, actor: Actor, Body(request): Body<SuspendRequest>) -> Reply<Done> {
    change(&app, |b| async move { b.resume(actor, request).await }).await
}

async fn freeze<B: Backend>(State(app): App<B>, actor: Actor, Body(request): Body<FreezeRequest>) -> Reply<Done> {
    change(&app, |b| async move { b.freeze(actor, request).await }).await
}

async fn unfreeze<B: Backend>(State(app): App<B>, actor: Actor, Body(request): Body<FreezeRequest>) -> Reply<Done> {
    change(&app, |b| async move { b.unfreeze(actor, request).await }).await
}

async fn approve<B: Backend>(State(app): App<B>, actor: Actor, Body(request): Body<ApproveRequest>) -> Reply<Done> {
    change(&app, |b| async move { b.approve(actor, request).await }).await
}

async fn audit<B: Backend>(State(app): App<B>, query: AuditQuery) -> Reply<List<AuditEntry>> {
    app.backend.audit(query).await.map(Json)
}
