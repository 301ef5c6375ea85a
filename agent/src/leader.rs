//! Leadership by Lease: at most one pod of the agent acts, and none beyond its right.
//!
//! A Lease does not fence: a request sent just before the lease ends may arrive after the next leader began. So a
//! request may start only until `renewed + duration - margin`, and its own deadline is shorter than the margin; two
//! agents overlap by at most one request, and the ratchet makes the newest state win.

use std::time::Duration;

use driftless_protocol::marks;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::api::{Actor, Api, ApiError, leases};

/// The Lease's name.
pub const LEASE: &str = "driftless-agent";
/// Unanswered renewals that are remembered: each step looks before it writes again, so there are hardly two.
const MOST_RENEWALS: usize = 8;

/// The timing of leadership. The default hands over within 20 s and survives an API server that is silent for 8 s.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a renewal is worth.
    pub duration: Duration,
    /// No request starts this close to the end; every request's deadline is shorter.
    pub margin: Duration,
    /// Pause between renewals (leader) and looks (followers).
    pub every: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { duration: Duration::from_secs(20), margin: Duration::from_secs(8), every: Duration::from_secs(3) }
    }
}

/// Whether this pod may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// Another pod leads, or nobody yet.
    Follower,
    /// This pod leads; no request may start after `until`.
    Leader {
        /// Which time in a row without another leader: what one term knows is not true in the next.
        term: u64,
        /// The last moment at which a request may start.
        until: Instant,
    },
}

impl Leadership {
    /// Whether a request may start now.
    #[must_use]
    pub fn may_act(self, now: Instant) -> bool {
        matches!(self, Self::Leader { until, .. } if now < until)
    }

    /// The term in which this pod leads.
    #[must_use]
    pub fn term(self) -> Option<u64> {
        match self {
            Self::Leader { term, .. } => Some(term),
            Self::Follower => None,
        }
    }
}

/// Competes for the Lease until cancelled, then gives it up so that the next pod need not wait.
pub async fn run(
    api: Api,
    holder: String,
    timing: Timing,
    state: watch::Sender<Leadership>,
    cancel: CancellationToken,
) {
    let mut seen = SeenLease::default();
    // What the last look said; `None` before the first.
    let mut led: Option<bool> = None;
    let mut term = 0;
    loop {
        let asked = Instant::now();
        match step(&api, &holder, timing, asked, &mut seen).await {
            Ok(leads) => {
                match (led.replace(leads), leads) {
                    (Some(true), false) => tracing::warn!(holder, "this pod does not lead any more"),
                    (None, false) => tracing::info!(holder, "another pod leads; this one follows"),
                    (None | Some(false), true) => {
                        tracing::info!(holder, "this pod leads");
                        term += 1;
                    }
                    _ => {}
                }
                state.send_replace(if leads {
                    Leadership::Leader { term, until: asked + timing.duration - timing.margin }
                } else {
                    seen.held = None;
                    Leadership::Follower
                });
            }
            // Keep what the last renewal gave: `until` ends it by itself.
            Err(error) => tracing::warn!(%error, lease = LEASE, "cannot renew the lease; trying again"),
        }
        tokio::select! {
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(timing.every) => {}
        }
    }
    let led = matches!(state.send_replace(Leadership::Follower), Leadership::Leader { .. });
    if led && let Err(error) = release(&api, &holder).await {
        tracing::warn!(%error, lease = LEASE, "cannot give up the lease; it ends by itself");
    }
}

/// What was seen of the Lease.
#[derive(Debug, Default)]
struct SeenLease {
    /// The version a rival holds it at, and since when.
    rival: Option<(String, Instant)>,
    /// As our last renewal left it: the next needs no look first.
    ours: Option<Value>,
    /// The version our last renewal left it at.
    version: Option<u64>,
    /// While this pod leads: how its own writes may have left the Lease.
    held: Option<Held>,
}

/// The Lease by our own writes, those without an answer among them.
#[derive(Debug)]
struct Held {
    transitions: Value,
    /// The times of the last answered renewal and of those since.
    renewals: Vec<Value>,
}

impl Held {
    /// Nobody else held it since: another pod that did has counted a transition, and left its own time, or none that we know.
    fn still(&self, lease: &Value, holder: &str) -> bool {
        let spec = |field: &str| lease.get("spec").and_then(|spec| spec.get(field)).unwrap_or(&Value::Null);
        spec("holderIdentity") == holder
            && *spec("leaseTransitions") == self.transitions
            && self.renewals.contains(spec("renewTime"))
    }
}

impl SeenLease {
    fn renewed(lease: Value) -> Self {
        let spec = |field: &str| lease.pointer(&format!("/spec/{field}")).cloned().unwrap_or(Value::Null);
        let held = Held { transitions: spec("leaseTransitions"), renewals: vec![spec("renewTime")] };
        Self { rival: None, version: version(&lease), held: Some(held), ours: Some(lease) }
    }

    /// A renewal is sent, which may arrive without an answer.
    fn sends(&mut self, lease: &Value) {
        if let (Some(held), Some(time)) = (&mut self.held, lease.pointer("/spec/renewTime")) {
            held.renewals.push(time.clone());
            held.renewals.drain(..held.renewals.len().saturating_sub(MOST_RENEWALS));
        }
    }

    /// The Lease is older than our last renewal left it. Versions only grow (they are etcd's revisions), so the cluster's
    /// store is one of before: it was restored from a snapshot.
    fn went_back(&self, lease: &Value) -> bool {
        matches!((self.version, version(lease)), (Some(ours), Some(live)) if live < ours)
    }
}

fn version(lease: &Value) -> Option<u64> {
    lease.pointer("/metadata/resourceVersion")?.as_str()?.parse().ok()
}

/// One renewal; or one look at the Lease, and one write when it is ours to take. `true`: this pod holds it.
async fn step(api: &Api, holder: &str, timing: Timing, now: Instant, seen: &mut SeenLease) -> Result<bool, ApiError> {
    let resource = leases();
    // Whatever becomes of it, the next step looks first unless this one is answered.
    if let Some(mut lease) = seen.ours.take() {
        let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
        lease["spec"] = spec(holder, timing, transitions, lease.pointer("/spec/acquireTime").cloned());
        seen.sends(&lease);
        match api.replace(&Actor::Agent, &resource, &lease).await {
            Ok(renewed) => {
                *seen = SeenLease::renewed(renewed);
                return Ok(true);
            }
            // Somebody wrote it: look whose it is.
            Err(e) if e.is_conflict() || e.is_not_found() => {}
            Err(e) => return Err(e),
        }
    }
    let Some(mut lease) = api.get(&Actor::Agent, &resource, marks::AGENT_NAMESPACE, LEASE).await? else {
        if seen.held.take().is_some() {
            tracing::warn!(lease = LEASE, "the lease this pod held is gone; beginning again");
            return Ok(false);
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "name": LEASE, "namespace": marks::AGENT_NAMESPACE },
            "spec": spec(holder, timing, 0, None),
        });
        return match api.create(&Actor::Agent, &resource, &lease).await {
            Ok(made) => {
                *seen = SeenLease::renewed(made);
                Ok(true)
            }
            Err(e) if e.is_conflict() => Ok(false),
            Err(e) => Err(e),
        };
    };
    if seen.went_back(&lease) {
        // Watches would wait for versions that are to come, and what is known here has not been. To follow for one look ends
        // the leading; the next begins from what is stored.
        tracing::warn!(
            lease = LEASE,
            "the cluster's store is older than it was: restored from a snapshot; beginning again"
        );
        *seen = SeenLease::default();
        return Ok(false);
    }
    let current = lease.pointer("/spec/holderIdentity").and_then(Value::as_str).unwrap_or_default().to_owned();
    let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64).unwrap_or(0);
    let free = current.is_empty() || current == holder;
    if free && seen.held.as_ref().is_some_and(|held| !held.still(&lease, holder)) {
        // Another pod may have led and given it up since: to follow for one look ends the leading, which begins again from
        // what is stored.
        tracing::warn!(lease = LEASE, "the lease is not as this pod left it: another may have led; beginning again");
        seen.held = None;
        return Ok(false);
    }
    let next = if current == holder {
        let acquired = lease.pointer("/spec/acquireTime").cloned();
        spec(holder, timing, transitions, acquired)
    } else if current.is_empty() || expired(&lease, &mut seen.rival, now, timing) {
        spec(holder, timing, transitions + 1, None)
    } else {
        return Ok(false);
    };
    lease["spec"] = next;
    seen.sends(&lease);
    match api.replace(&Actor::Agent, &resource, &lease).await {
        Ok(taken) => {
            *seen = SeenLease::renewed(taken);
            Ok(true)
        }
        Err(e) if e.is_conflict() => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether the holder has let its lease lapse: judged by our own clock since we last saw it change, never by comparing
/// clocks of two nodes.
fn expired(lease: &Value, rival: &mut Option<(String, Instant)>, now: Instant, timing: Timing) -> bool {
    let version = lease.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    match rival {
        Some((seen, since)) if seen == version => {
            let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_u64);
            now.duration_since(*since) >= seconds.map_or(timing.duration, Duration::from_secs)
        }
        _ => {
            *rival = Some((version.to_owned(), now));
            false
        }
    }
}

fn spec(holder: &str, timing: Timing, transitions: i64, acquired: Option<Value>) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": timing.duration.as_secs(),
        "acquireTime": acquired.unwrap_or_else(|| now.clone().into()),
        "renewTime": now,
        "leaseTransitions": transitions,
    })
}

async fn release(api: &Api, holder: &str) -> Result<(), ApiError> {
    let resource = leases();
    let Some(mut lease) = api.get(&Actor::Agent, &resource, marks::AGENT_NAMESPACE, LEASE).await? else {
        return Ok(());
    };
    if lease.pointer("/spec/holderIdentity").and_then(Value::as_str) != Some(holder) {
        return Ok(());
    }
    lease["spec"]["holderIdentity"] = "".into();
    match api.replace(&Actor::Agent, &resource, &lease).await {
        Ok(_) => Ok(()),
        Err(e) if e.is_conflict() => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex, MutexGuard};

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;

    use super::*;

    fn lease(version: &str) -> Value {
        json!({ "metadata": { "resourceVersion": version }, "spec": { "leaseDurationSeconds": 20 } })
    }

    #[test]
    fn a_store_that_went_back_is_known_by_its_lease() {
        let seen = SeenLease::renewed(lease("7"));
        for (live, went_back) in [("6", true), ("7", false), ("8", false), ("", false)] {
            assert_eq!(seen.went_back(&lease(live)), went_back, "{live}");
        }
        assert!(!SeenLease::default().went_back(&lease("6")), "nothing was renewed yet");
    }

    #[test]
    fn a_rival_expires_only_after_a_whole_duration_without_change() {
        let (timing, start, mut rival) = (Timing::default(), Instant::now(), None);
        let at = |s| start + Duration::from_secs(s);
        assert!(!expired(&lease("1"), &mut rival, at(0), timing), "first seen");
        assert!(!expired(&lease("1"), &mut rival, at(19), timing), "not yet");
        assert!(!expired(&lease("2"), &mut rival, at(20), timing), "renewed");
        assert!(!expired(&lease("2"), &mut rival, at(39), timing), "counted from the renewal");
        assert!(expired(&lease("2"), &mut rival, at(40), timing), "lapsed");
    }

    #[test]
    fn leadership_ends_by_itself() {
        let now = Instant::now();
        let leader = Leadership::Leader { term: 1, until: now + Duration::from_secs(1) };
        assert!(leader.may_act(now));
        assert!(!leader.may_act(now + Duration::from_secs(1)));
        assert!(!Leadership::Follower.may_act(now));
    }

    /// An API server with one Lease.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        live: Option<Value>,
        counter: u64,
        /// The next write is carried out without an answer.
        loses: bool,
        /// Nothing is answered.
        away: bool,
    }

    impl Server {
        fn api(&self) -> Api {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.expect("a body").to_bytes();
                    let (status, answer) = server.answer(&head.method, serde_json::from_slice(&body).ok());
                    let answer = Body::from(answer.to_string().into_bytes());
                    Ok::<_, Infallible>(Response::builder().status(status).body(answer).expect("a response"))
                }
            });
            Api::new(kube::Client::new(service, "driftless-system"), Duration::from_secs(1))
        }

        fn answer(&self, method: &Method, body: Option<Value>) -> (u16, Value) {
            let mut state = self.state();
            if state.away {
                return (503, json!({}));
            }
            let Some(mut body) = body else {
                return state.live.clone().map_or((404, json!({})), |live| (200, live));
            };
            let version = state.live.as_ref().map(|live| live["metadata"]["resourceVersion"].clone());
            let conflict = match version {
                Some(version) => method == Method::POST || version != body["metadata"]["resourceVersion"],
                None => method == Method::PUT,
            };
            if conflict {
                return (409, json!({}));
            }
            state.counter += 1;
            body["metadata"]["resourceVersion"] = state.counter.to_string().into();
            state.live = Some(body.clone());
            if std::mem::take(&mut state.loses) { (503, json!({})) } else { (200, body) }
        }

        fn state(&self) -> MutexGuard<'_, State> {
            self.0.lock().expect("the state")
        }

        fn edit(&self, edit: impl FnOnce(&mut Value)) {
            let mut live = self.state().live.clone().expect("a lease");
            edit(&mut live);
            assert_eq!(self.answer(&Method::PUT, Some(live)).0, 200);
        }
    }

    /// One look: whether this pod leads; `None` where there was no answer.
    async fn look(server: &Server, holder: &str, seen: &mut SeenLease) -> Option<bool> {
        step(&server.api(), holder, Timing::default(), Instant::now(), seen).await.ok()
    }

    #[tokio::test]
    async fn an_unanswered_renewal_and_a_note_on_the_lease_end_no_leading() {
        let (server, mut seen) = (Server::default(), SeenLease::default());
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "made");
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "renewed");
        server.state().loses = true;
        assert_eq!(look(&server, "a", &mut seen).await, None, "stored, and no answer");
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "its own time stands there");
        server.edit(|lease| lease["metadata"]["annotations"] = json!({"seen-by": "somebody"}));
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "nobody else held it");
    }

    #[tokio::test]
    async fn who_led_and_finds_the_lease_otherwise_follows_first() {
        // Another pod led meanwhile and gave it up; somebody deleted it; it was written in our name, but not by us.
        let (server, mut seen) = (Server::default(), SeenLease::default());
        assert_eq!(look(&server, "a", &mut seen).await, Some(true));
        server.state().away = true;
        assert_eq!(look(&server, "a", &mut seen).await, None, "away");
        server.state().away = false;
        server.edit(|lease| {
            lease["spec"]["holderIdentity"] = "".into();
            lease["spec"]["leaseTransitions"] = 1.into();
        });
        assert_eq!(look(&server, "a", &mut seen).await, Some(false), "given up by another");
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "a new term");
        server.state().live = None;
        assert_eq!(look(&server, "a", &mut seen).await, Some(false), "deleted");
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "a new term");
        server.edit(|lease| lease["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z".into());
        assert_eq!(look(&server, "a", &mut seen).await, Some(false), "not our write");
        assert_eq!(look(&server, "a", &mut seen).await, Some(true), "a new term");
        // A pod that has not led takes it at once.
        server.edit(|lease| lease["spec"]["holderIdentity"] = "".into());
        assert_eq!(look(&server, "b", &mut SeenLease::default()).await, Some(true));
        assert_eq!(look(&server, "a", &mut seen).await, Some(false), "held by another");
    }
}
