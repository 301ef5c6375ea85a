//! The `Pause` objects of the cluster: watched as the agent itself, read, and told how they stand.
//!
//! As the agent itself and not as the applier: a platform may narrow the applier, and a pause must work all the same. Where
//! the kind is not served there are none; until that is known, nothing is written. What a pause means is decided in `driftless-reconcile`.

use std::collections::BTreeMap;
use std::time::Duration;

use driftless_protocol::bundle::Reason;
use driftless_protocol::marks;
use driftless_reconcile::input::Millis;
use driftless_reconcile::pause::{self, Pause, Pauses, Unusable};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::api::{Actor, Api, ApiError, Resource};
use crate::cluster::discovery::Served;
use crate::cluster::watch::{Seen, Selection, Watches};
use crate::leader::Leadership;

/// The kind.
const KIND: &str = "Pause";
/// Events that wait for the driver; when full the watch waits.
const SEEN_DEPTH: usize = 64;
/// Most of them that are kept: more than the engine takes, so that it can tell that there are too many.
const MOST: usize = 2 * pause::MOST;
/// Pause after a status could not be written.
const AGAIN: Duration = Duration::from_secs(10);
/// Pause after an API server could not say whether the kind is served.
const PROBE_AGAIN: Duration = Duration::from_secs(2);
/// How long it must say no before that is taken for a right nobody gives: one that starts refuses what it allows later.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Longer than a watch waits before it tries again. One that was whole, and has not failed for so long, works.
const QUIET: Duration = Duration::from_secs(120);
/// The condition that says whether it holds something back.
const ACTIVE: &str = "Active";

/// What the status of a `Pause` says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    generation: i64,
    covers: String,
    active: bool,
    reason: String,
    message: String,
}

/// One of them.
#[derive(Clone, Debug)]
struct Known {
    read: Result<Pause, Unusable>,
    shown: Option<Shown>,
    /// Since when its condition has its status, as it stands there.
    since: Option<String>,
}

type Name = (String, String);

/// The pauses, as the watch has them.
pub struct PauseWatch {
    api: Api,
    leadership: watch::Receiver<Leadership>,
    resource: Option<Resource>,
    watches: Watches,
    seen: mpsc::Receiver<Seen>,
    known: BTreeMap<Name, Known>,
    /// A list under way.
    listing: Option<BTreeMap<Name, Known>>,
    /// They were listed, or there can be none.
    listed: bool,
    /// The watch has listed them, and stands or tries to.
    whole: bool,
    /// The API server says no: since when, and when last.
    refused: Option<(Instant, Instant)>,
    patience: Duration,
    /// Something is new since [`PauseWatch::take`].
    news: bool,
    problem: Option<Reason>,
    /// Asks whether the kind is served, where discovery does not list it.
    probing: JoinSet<Probe>,
    writing: JoinSet<(Name, Result<Value, ApiError>)>,
    write_after: Instant,
}

impl PauseWatch {
    /// Nothing is known before [`PauseWatch::served`].
    #[must_use]
    pub fn new(api: Api, leadership: watch::Receiver<Leadership>) -> Self {
        let (sender, seen) = mpsc::channel(SEEN_DEPTH);
        Self {
            watches: Watches::new(api.client().clone(), sender),
            api,
            leadership,
            resource: None,
            seen,
            known: BTreeMap::new(),
            listing: None,
            listed: false,
            whole: false,
            refused: None,
            patience: REFUSED_FOR,
            news: false,
            problem: None,
            probing: JoinSet::new(),
            writing: JoinSet::new(),
            write_after: Instant::now(),
        }
    }

    /// As it is, with another time for refusals to last.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Discovery was read: begins the watch. That the kind is not listed is no proof that it is not served (an API server
    /// that has just started lists nothing of its definitions), so it is asked for before all pauses count as gone.
    pub fn served(&mut self, served: &Served) {
        match served.any_version(marks::DOMAIN, KIND) {
            Some(resource) => {
                // With it goes what an older question may have come to.
                self.probing = JoinSet::new();
                self.watch(resource.clone());
            }
            None if self.probing.is_empty() => {
                self.probing.spawn(probe(self.api.clone(), self.patience));
            }
            None => {}
        }
    }

    fn watch(&mut self, resource: Resource) {
        self.watches.set(&[(resource.clone(), Selection::All)]);
        self.resource = Some(resource);
    }

    fn probed(&mut self, came: Probe) {
        match came {
            Probe::Served => self.watch(first_version()),
            Probe::Absent => {
                self.watches.set(&[]);
                self.resource = None;
                self.news |= !self.listed || !self.known.is_empty();
                self.known.clear();
                (self.listing, self.listed, self.whole) = (None, true, false);
                self.works();
            }
            Probe::Refused(why) => {
                self.refused_for_good(&why);
                // Discovery may not be read again for long, and the right may be given at any time.
                let (api, wait) = (self.api.clone(), self.patience);
                self.probing.spawn(async move {
                    tokio::time::sleep(wait).await;
                    probe(api, Duration::ZERO).await
                });
            }
        }
    }

    /// Waiting for a right that nobody gives would stop everything.
    fn refused_for_good(&mut self, why: &str) {
        self.news |= !self.listed;
        self.listed = true;
        let what = match self.whole || !self.known.is_empty() {
            true => "cannot be watched, so those that were read last count and changes of them do not",
            false => "cannot be read, so none of them holds anything back",
        };
        self.problem = Some(Reason {
            code: "PausesNotWatched".to_owned(),
            message: format!("Pause objects {what}: {why}; upgrade the agent's chart, which gives the right"),
            file: None,
            line: None,
        });
    }

    fn refused(&mut self, why: &str) {
        let now = Instant::now();
        let (since, last) = self.refused.get_or_insert((now, now));
        *last = now;
        if now.duration_since(*since) >= self.patience {
            self.refused_for_good(why);
        }
    }

    /// Nothing is refused any more.
    fn works(&mut self) {
        (self.refused, self.problem) = (None, None);
    }

    /// Returns when something happened. May be dropped at any time.
    pub async fn next(&mut self) {
        let (writing, probing) = (!self.writing.is_empty(), !self.probing.is_empty());
        // Only a bound where nothing was refused: a status that could not be written is tried again.
        let again = self.write_after.max(Instant::now() + Duration::from_secs(1));
        // A watch that goes on where it broke off says nothing of it before something changes.
        let quiet = self.refused.filter(|_| self.whole).map(|(_, last)| last + QUIET);
        tokio::select! {
            Some(seen) = self.seen.recv() => self.observe(seen),
            Some(done) = self.probing.join_next(), if probing => if let Ok(came) = done {
                self.probed(came);
            },
            Some(done) = self.writing.join_next(), if writing => if let Ok((name, answer)) = done {
                self.written(&name, answer);
            },
            () = tokio::time::sleep_until(again), if self.write_after > Instant::now() => {}
            () = tokio::time::sleep_until(quiet.unwrap_or(again)), if quiet.is_some() => self.works(),
        }
    }

    fn observe(&mut self, seen: Seen) {
        match seen {
            Seen::ListBegins(_) => (self.listing, self.whole) = (Some(BTreeMap::new()), false),
            Seen::Object { object, resource } => {
                let Some(object) = object.value(&resource) else { return };
                let (name, known) = read(&object);
                let into = self.listing.as_mut().unwrap_or(&mut self.known);
                if into.len() < MOST || into.contains_key(&name) || name.0 == marks::AGENT_NAMESPACE {
                    into.insert(name, known);
                }
                self.news |= self.listing.is_none();
                self.answered();
            }
            Seen::ListEnds(_) => {
                if let Some(list) = self.listing.take() {
                    self.known = list;
                    (self.listed, self.news, self.whole) = (true, true, true);
                }
                self.answered();
            }
            Seen::Gone { object, .. } => {
                self.known.remove(&(object.namespace().to_owned(), object.name().to_owned()));
                self.news = true;
                self.answered();
            }
            // The driver sees it too, and begins again.
            Seen::WentBack(_) => {}
            Seen::Failing { message, refused, .. } => {
                tracing::warn!(why = message, "cannot watch pauses; trying again");
                match refused {
                    true => self.refused(&message),
                    // No answer, or another: what was refused before may not be any more.
                    false => self.refused = self.refused.filter(|_| self.problem.is_some()),
                }
            }
        }
    }

    /// The watch brought something. While a list is under way that is no proof that all of it comes.
    fn answered(&mut self) {
        match self.listing {
            None => self.works(),
            Some(_) => self.refused = self.refused.filter(|_| self.problem.is_some()),
        }
    }

    /// All of them, when they are others than at the last call. `None` also while they have not been listed.
    pub fn take(&mut self) -> Option<Vec<Result<Pause, Unusable>>> {
        let news = self.listed && std::mem::take(&mut self.news);
        news.then(|| self.known.values().map(|known| known.read.clone()).collect())
    }

    /// Why they cannot be known, for the cluster's report.
    #[must_use]
    pub fn problem(&self) -> Option<&Reason> {
        self.problem.as_ref()
    }

    /// Writes how they stand into their status, one at a time, where it says something else.
    pub fn tell(&mut self, pauses: &Pauses, idle: &dyn Fn(&Pause) -> bool, now: Millis) {
        let at = Instant::now();
        if self.known.is_empty()
            || !self.writing.is_empty()
            || at < self.write_after
            || !self.leadership.borrow().may_act(at)
        {
            return;
        }
        let Some(resource) = self.resource.clone() else { return };
        for (name, known) in &self.known {
            let wanted = standing(&known.read, pauses, idle, now);
            if known.shown.as_ref() == Some(&wanted) {
                continue;
            }
            let stays = known.shown.as_ref().is_some_and(|shown| shown.active == wanted.active);
            let since = known.since.clone().filter(|_| stays).unwrap_or_else(|| rfc3339(now));
            let (api, name) = (self.api.clone(), name.clone());
            let uid = match &known.read {
                Ok(pause) => &pause.uid,
                Err(unusable) => &unusable.uid,
            };
            let body = status(&resource, &name, uid, &wanted, &since);
            self.writing.spawn(async move {
                let answer = api.apply_own(&resource, &name.0, &name.1, "status", &body).await;
                (name, answer)
            });
            return;
        }
    }

    fn written(&mut self, name: &Name, answer: Result<Value, ApiError>) {
        match answer {
            Ok(object) => {
                // The watch tells it too, later; until then it must not be written again.
                let (_, now) = read(&object);
                if let Some(known) = self.known.get_mut(name) {
                    (known.shown, known.since) = (now.shown, now.since);
                }
            }
            // Gone, or another one of that name: the watch tells.
            Err(error) if error.is_not_found() || error.is_conflict() => self.write_after = Instant::now() + AGAIN,
            Err(error) => {
                tracing::warn!(namespace = name.0, name = name.1, %error, "cannot write the status of a Pause");
                self.write_after = Instant::now() + AGAIN;
            }
        }
    }

    /// Stops the watch and waits until it is gone.
    pub async fn stop(&mut self) {
        self.watches.stop().await;
        self.probing.shutdown().await;
        self.writing.shutdown().await;
    }
}

/// Whether the kind is served.
#[derive(Debug)]
enum Probe {
    Served,
    Absent,
    Refused(String),
}

/// Asks until there is an answer; a no must last.
async fn probe(api: Api, patience: Duration) -> Probe {
    let mut refused: Option<Instant> = None;
    loop {
        match api.raw(&Actor::Agent, &format!("/apis/{}/pauses?limit=1", first_version().api_version())).await {
            Ok(_) => return Probe::Served,
            Err(error) if error.is_not_found() => return Probe::Absent,
            Err(error) if matches!(error.status(), Some(401 | 403)) => {
                if refused.get_or_insert_with(Instant::now).elapsed() >= patience {
                    return Probe::Refused(error.to_string());
                }
            }
            Err(_) => refused = None,
        }
        tokio::time::sleep(PROBE_AGAIN).await;
    }
}

/// The kind as its first definition serves it.
fn first_version() -> Resource {
    Resource {
        group: marks::DOMAIN.to_owned(),
        version: "v1alpha1".to_owned(),
        kind: KIND.to_owned(),
        plural: "pauses".to_owned(),
        namespaced: true,
    }
}

fn read(live: &Value) -> (Name, Known) {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let name =
        (text(live, "/metadata/namespace").unwrap_or_default(), text(live, "/metadata/name").unwrap_or_default());
    let conditions = live.pointer("/status/conditions").and_then(Value::as_array);
    let condition = conditions.into_iter().flatten().find(|c| c.get("type").is_some_and(|kind| kind == ACTIVE));
    let shown = condition.map(|condition| Shown {
        generation: condition.get("observedGeneration").and_then(Value::as_i64).unwrap_or_default(),
        covers: text(live, "/status/covers").unwrap_or_default(),
        active: condition.get("status").is_some_and(|status| status == "True"),
        reason: text(condition, "/reason").unwrap_or_default(),
        message: text(condition, "/message").unwrap_or_default(),
    });
    let since = condition.and_then(|condition| text(condition, "/lastTransitionTime"));
    (name, Known { read: pause::read(live, marks::AGENT_NAMESPACE), shown, since })
}

/// What its status is to say.
fn standing(read: &Result<Pause, Unusable>, pauses: &Pauses, idle: &dyn Fn(&Pause) -> bool, now: Millis) -> Shown {
    let pause = match read {
        Ok(pause) => pause,
        Err(unusable) => {
            return Shown {
                generation: unusable.generation,
                covers: String::new(),
                active: false,
                reason: "Unusable".to_owned(),
                message: unusable.why.clone(),
            };
        }
    };
    let in_force = pauses.active().iter().any(|other| other.uid == pause.uid);
    let (active, reason, message) = if pause.expires <= now {
        (false, "Expired", "its time is over".to_owned())
    } else if !in_force {
        (
            false,
            "TooMany",
            "there are too many Pause objects in the cluster; delete those whose time is over".to_owned(),
        )
    } else if idle(pause) {
        (false, "NothingCovered", "there is no such unit or object of Driftless in this cluster".to_owned())
    } else {
        (true, "Paused", "nothing of what it covers is applied, healed or deleted until it ends".to_owned())
    };
    let (generation, covers) = (pause.generation, pause.covers.to_string());
    Shown { generation, covers, active, reason: reason.to_owned(), message }
}

fn status(resource: &Resource, (namespace, name): &Name, uid: &str, shown: &Shown, since: &str) -> Value {
    json!({
        "apiVersion": resource.api_version(),
        "kind": resource.kind,
        // With the UID, so that it does not reach another one of that name.
        "metadata": { "namespace": namespace, "name": name, "uid": uid },
        "status": {
            "observedGeneration": shown.generation,
            "covers": shown.covers,
            "conditions": [{
                "type": ACTIVE,
                "status": if shown.active { "True" } else { "False" },
                "observedGeneration": shown.generation,
                "lastTransitionTime": since,
                "reason": shown.reason,
                "message": shown.message,
            }],
        },
    })
}

/// A time as the API server writes it.
pub(crate) fn rfc3339(at: Millis) -> String {
    let at = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok()).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::discovery::tests::Server;

    const NOW: Millis = 1_795_260_000_000;

    fn live(spec: &Value, status: &Value) -> Value {
        json!({
            "metadata": {"namespace": "driftless-system", "name": "p", "uid": "u", "generation": 2},
            "spec": spec, "status": status,
        })
    }

    #[test]
    fn a_status_is_written_once_and_says_how_it_stands() {
        let good = json!({"reason": "r", "expires": "2026-11-21T12:00:00Z", "unit": {"name": "a"}});
        let resource = first_version();
        let hour = 3_600_000;
        for (spec, now, idle, active, reason) in [
            (&good, NOW, false, true, "Paused"),
            (&good, NOW, true, false, "NothingCovered"),
            (&good, NOW + hour, false, false, "Expired"),
            (&json!({"reason": "r"}), NOW, false, false, "Unusable"),
        ] {
            let (name, known) = read(&live(spec, &json!({})));
            assert_eq!(known.shown, None);
            let pauses = Pauses::new(vec![known.read.clone()], marks::AGENT_NAMESPACE, now);
            let shown = standing(&known.read, &pauses, &|_| idle, now);
            assert_eq!((shown.active, shown.reason.as_str(), shown.generation), (active, reason, 2), "{spec}");
            // What was written reads back as the same, so that it is not written again.
            let written = status(&resource, &name, "u", &shown, &rfc3339(now));
            let (_, again) = read(&live(spec, &written["status"]));
            assert_eq!(again.shown, Some(shown), "{spec}");
            assert_eq!(again.since, Some(rfc3339(now)), "{spec}");
        }
    }

    fn pauses(server: &Server, patience: Duration) -> PauseWatch {
        let (_, leadership) = watch::channel(Leadership::Follower);
        PauseWatch::new(server.api(), leadership).with_patience(patience)
    }

    fn no(refused: bool) -> Seen {
        Seen::Failing { resource: Arc::new(first_version()), message: "forbidden".to_owned(), refused }
    }

    fn seen_object() -> Seen {
        let object =
            live(&json!({"reason": "r", "expires": "2026-11-21T12:00:00Z", "unit": {"name": "a"}}), &json!({}));
        let object = serde_json::from_str(&object.to_string()).expect("an object");
        Seen::Object { resource: Arc::new(first_version()), object }
    }

    #[tokio::test]
    async fn a_passing_refusal_lifts_no_pause_and_a_lasting_one_does() {
        let resource = Arc::new(first_version());
        let patience = Duration::from_millis(50);
        let mut pauses = pauses(&Server::new(&[]), patience);
        pauses.observe(no(true));
        assert!(pauses.take().is_none() && pauses.problem().is_none(), "it may be starting");
        tokio::time::sleep(patience).await;
        pauses.observe(no(false));
        pauses.observe(no(true));
        assert!(pauses.take().is_none(), "it was not the same refusal all the time");
        tokio::time::sleep(patience).await;
        pauses.observe(no(true));
        assert_eq!(pauses.take().map(|all| all.len()), Some(0), "nobody gives the right");
        assert!(pauses.problem().is_some_and(|p| p.message.contains("none of them holds anything back")));

        // The right was given: a list shows it.
        pauses.observe(Seen::ListBegins(resource.clone()));
        pauses.observe(seen_object());
        assert!(pauses.problem().is_some(), "not all of them are known");
        pauses.observe(Seen::ListEnds(resource));
        assert!(pauses.problem().is_none());
        assert_eq!(pauses.take().map(|all| all.len()), Some(1));

        // And taken again: what was read goes on, and an event shows that the watch is back.
        pauses.observe(no(true));
        tokio::time::sleep(patience).await;
        pauses.observe(no(true));
        assert!(pauses.problem().is_some_and(|p| p.message.contains("those that were read last count")));
        pauses.observe(seen_object());
        assert!(pauses.problem().is_none());
        assert_eq!(pauses.take().map(|all| all.len()), Some(1));
    }

    #[tokio::test]
    async fn a_kind_that_is_not_listed_and_refused_is_asked_for_until_there_is_an_answer() {
        let path = format!("/apis/{}/pauses", first_version().api_version());
        let server = Server::new(&[]);
        server.answer(&path, 403, json!({"message": "forbidden", "code": 403}));
        let mut pauses = pauses(&server, Duration::from_millis(50));
        pauses.served(&Served::default());
        let early = tokio::time::timeout(Duration::from_millis(500), pauses.next()).await;
        assert!(early.is_err() && pauses.take().is_none(), "the first refusal proves nothing");
        pauses.next().await;
        assert!(pauses.take().is_some() && pauses.problem().is_some());
        server.answer(&path, 404, json!({"message": "not found", "code": 404}));
        pauses.next().await;
        assert!(pauses.problem().is_none(), "there are none");
        pauses.stop().await;
    }

    #[test]
    fn times_are_written_as_the_api_server_does() {
        assert_eq!(rfc3339(NOW), "2026-11-21T11:20:00Z");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
    }
}
