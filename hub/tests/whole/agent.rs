//! An agent without a cluster: the real session over real QUIC; what it is offered it "applies" at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless_protocol::bundle::{Bundle, Index, UnitState};
use driftless_protocol::enroll::{EnrollAnswer, EnrollGrant, EnrollRefused, EnrollRequest};
use driftless_protocol::head::Head;
use driftless_protocol::id::{Digest, Generation, UnitId};
use driftless_protocol::message::{AgentToHub, HubToAgent, RejectCode, WIRE_VERSION};
use driftless_protocol::quic::{self, stream, tls};
use driftless_protocol::report::{ClusterReport, Counts, Ready, UnitReport, reason};
use driftless_protocol::session::agent::{Action, Input, Session, Setup};
use driftless_protocol::session::{Now, Ratchet};
use driftless_protocol::signing::Verified;
use driftless_protocol::token::JoinToken;
use driftless_protocol::trust;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::{mpsc, watch};

/// What a cluster keeps over restarts of its agent.
pub(crate) struct Identity {
    pub(crate) grant: EnrollGrant,
    pub(crate) key: rcgen::KeyPair,
    pub(crate) kube_uid: String,
    pub(crate) token: JoinToken,
}

impl Identity {
    /// The same cluster with another key.
    pub(crate) fn same(&self, key: rcgen::KeyPair) -> Self {
        Self { grant: self.grant.clone(), key, kube_uid: self.kube_uid.clone(), token: self.token.clone() }
    }
}

/// Asks for an identity once.
pub(crate) async fn enrol(hub: SocketAddr, token: &JoinToken, kube_uid: &str) -> Result<Identity, EnrollRefused> {
    let key = rcgen::KeyPair::generate().unwrap();
    enrol_with(hub, token, kube_uid, key).await
}

pub(crate) async fn enrol_with(
    hub: SocketAddr,
    token: &JoinToken,
    kube_uid: &str,
    key: rcgen::KeyPair,
) -> Result<Identity, EnrollRefused> {
    let endpoint = quic::agent_endpoint("127.0.0.1:0".parse().unwrap()).unwrap();
    let tls = Arc::new(tls::enroll_client(token.hub_ca).unwrap());
    let connection = quic::connect(&endpoint, tls, hub, &token.server_name, Duration::from_secs(10)).await.unwrap();
    // The hub must not take a name from here.
    let request = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    let request = EnrollRequest {
        wire_max: WIRE_VERSION,
        token: token.id,
        secret: token.secret.clone(),
        csr: request.serialize_request(&key).unwrap().der().to_vec(),
        kube_uid: kube_uid.to_owned(),
        agent_version: "test".into(),
    };
    let answer = stream::enroll(&connection, &request).await.unwrap();
    match answer {
        EnrollAnswer::Granted(grant) => {
            Ok(Identity { grant, key, kube_uid: kube_uid.to_owned(), token: token.clone() })
        }
        EnrollAnswer::Refused(refused) => Err(refused),
    }
}

/// TLS of a cluster's sessions.
pub(crate) fn session_tls(identity: &Identity) -> Arc<rustls::ClientConfig> {
    let chain: Vec<CertificateDer<'static>> =
        identity.grant.chain.iter().map(|c| CertificateDer::from(c.clone())).collect();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
    let authorities: Vec<CertificateDer<'static>> =
        identity.grant.authorities.iter().map(|c| CertificateDer::from(c.clone())).collect();
    Arc::new(tls::session_client(chain, key, &authorities).unwrap())
}

/// What the agent has and thinks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) connected: bool,
    pub(crate) generation: Option<Generation>,
    pub(crate) index: Option<Arc<Index>>,
    /// Objects of full units, by unit name.
    pub(crate) objects: BTreeMap<String, Vec<String>>,
    pub(crate) rejected: Option<RejectCode>,
    pub(crate) hints: usize,
    /// The chain of the last renewal.
    pub(crate) renewed: Option<Vec<Vec<u8>>>,
    /// Blobs fetched in all.
    pub(crate) fetched: usize,
}

#[derive(Debug)]
pub(crate) enum Order {
    /// Units of this name fail from now on.
    Fail(String),
    /// They are well again.
    Heal(String),
    Renew(Vec<u8>),
}

/// A running agent; gone when dropped.
pub(crate) struct Agent {
    pub(crate) seen: watch::Receiver<Seen>,
    pub(crate) orders: mpsc::Sender<Order>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What survives the agent's process: as the ledger would.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) ratchet: Option<Ratchet>,
    pub(crate) blobs: BTreeMap<Digest, Arc<[u8]>>,
}

impl Agent {
    pub(crate) fn start(hub: SocketAddr, identity: &Identity, ledger: Arc<std::sync::Mutex<Ledger>>) -> Self {
        let (seen_in, seen) = watch::channel(Seen::default());
        let (orders, orders_in) = mpsc::channel(8);
        let tls = session_tls(identity);
        let trust = trust::verify_chain(&identity.token.root_keys, &identity.grant.trust).unwrap();
        let ratchet = ledger.lock().unwrap().ratchet;
        let session = Session::new(Setup {
            cluster: identity.grant.cluster,
            kube_uid: identity.kube_uid.clone(),
            agent_version: "test".into(),
            pod: "pod-0".into(),
            ratchet,
            complete: ratchet.is_some(),
            trust,
        });
        let run = Run {
            hub,
            server_name: identity.token.server_name.clone(),
            tls,
            session,
            ledger,
            seen: seen_in,
            orders: orders_in,
            failing: BTreeSet::new(),
            index: None,
            bodies: BTreeMap::new(),
            told: BTreeMap::new(),
            origin: Instant::now(),
            sessions: driftless_hub::clock::millis(),
        };
        Self { seen, orders, task: tokio::spawn(run.run()) }
    }

    /// Waits until what it sees is so.
    pub(crate) async fn until(&mut self, what: &str, test: impl FnMut(&Seen) -> bool) -> Seen {
        let found = match tokio::time::timeout(Duration::from_secs(60), self.seen.wait_for(test)).await {
            Ok(seen) => Some(seen.expect("the agent ended").clone()),
            Err(_) => None,
        };
        found.unwrap_or_else(|| panic!("never: {what}; the agent sees {:?}", self.seen.borrow()))
    }
}

struct Run {
    hub: SocketAddr,
    server_name: String,
    tls: Arc<rustls::ClientConfig>,
    session: Session,
    ledger: Arc<std::sync::Mutex<Ledger>>,
    seen: watch::Sender<Seen>,
    orders: mpsc::Receiver<Order>,
    failing: BTreeSet<String>,
    index: Option<Arc<Index>>,
    /// Applied body by unit.
    bodies: BTreeMap<UnitId, Digest>,
    /// Reports as given last, without their time and generation.
    told: BTreeMap<UnitId, UnitReport>,
    origin: Instant,
    sessions: u64,
}

impl Run {
    fn now(&self) -> Now {
        Now { unix_ms: driftless_hub::clock::millis(), mono_ms: self.origin.elapsed().as_millis() as u64 }
    }

    fn input(&mut self, input: Input) {
        let now = self.now();
        let ledger = self.ledger.clone();
        let local = move |digest: &Digest| ledger.lock().unwrap().blobs.get(digest).cloned();
        self.session.handle(now, input, &local);
    }

    async fn run(mut self) {
        let endpoint = quic::agent_endpoint("127.0.0.1:0".parse().unwrap()).unwrap();
        loop {
            let connected =
                quic::connect(&endpoint, self.tls.clone(), self.hub, &self.server_name, Duration::from_secs(2)).await;
            if let Ok(connection) = connected {
                // One that is refused at the door has no control stream.
                if let Ok(control) = stream::open_control(&connection).await {
                    self.talk(&connection, control).await;
                }
                let reason = connection.close_reason();
                connection.close(quic::close::DONE, b"");
                if let Some(quinn::ConnectionError::ApplicationClosed(closed)) = reason {
                    let code = [RejectCode::Revoked, RejectCode::Replaced]
                        .into_iter()
                        .find(|c| quic::close::rejected(*c) == closed.error_code);
                    self.seen.send_modify(|s| s.rejected = s.rejected.or(code));
                }
                self.input(Input::Lost);
                self.seen.send_modify(|s| s.connected = false);
            }
            if self.seen.borrow().rejected.is_some() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn talk(&mut self, connection: &quinn::Connection, control: stream::AgentControl) {
        let (mut sender, mut receiver) = control;
        let (messages_in, mut messages) = mpsc::channel::<HubToAgent>(1);
        let reader = tokio::spawn(async move {
            while let Ok(Some(message)) = receiver.receive().await {
                if messages_in.send(message).await.is_err() {
                    break;
                }
            }
        });
        self.sessions += 1;
        self.input(Input::Connected { session: self.sessions });
        loop {
            if self.act() {
                break;
            }
            let now = self.now();
            if let Some(message) = self.session.next_message(now) {
                let limit = match &message {
                    AgentToHub::Need(need) => Some(need.digests.len()),
                    _ => None,
                };
                if sender.send(&message).await.is_err() {
                    break;
                }
                if limit.is_some() && !self.transfer(connection).await {
                    break;
                }
                continue;
            }
            let deadline = self.session.deadline().map_or(now.mono_ms + 1000, |at| at.min(now.mono_ms + 1000));
            tokio::select! {
                message = messages.recv() => match message {
                    Some(message) => self.input(Input::Message(message)),
                    None => break,
                },
                Some(order) = self.orders.recv() => self.order(order),
                () = tokio::time::sleep_until((self.origin + Duration::from_millis(deadline)).into()) => self.input(Input::Tick),
            }
        }
        reader.abort();
    }

    async fn transfer(&mut self, connection: &quinn::Connection) -> bool {
        let Ok(mut stream) = stream::accept_transfer(connection).await else { return false };
        let Ok(header) = stream::receive_transfer_header(&mut stream).await else { return false };
        let body = stream::receive_transfer_body(&mut stream, &header, Some(1 << 30)).await;
        match body {
            Ok(unpacked) => {
                self.seen.send_modify(|s| s.fetched += unpacked.blobs.len());
                self.input(Input::Transferred {
                    transfer: header.transfer,
                    blobs: unpacked.blobs,
                    altered: unpacked.altered.len(),
                });
            }
            Err(error) => {
                self.input(Input::TransferFailed { transfer: header.transfer, message: error.to_string() });
            }
        }
        true
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Fail(name) => drop(self.failing.insert(name)),
            Order::Heal(name) => drop(self.failing.remove(&name)),
            Order::Renew(csr) => return self.input(Input::Renew { csr }),
        }
        self.report();
    }

    /// Carries out what the session wants; whether the connection is over.
    fn act(&mut self) -> bool {
        while let Some(action) = self.session.next_action() {
            match action {
                Action::Bundle { head, fetched } => self.store(*head, fetched),
                Action::Established { .. } => self.seen.send_modify(|s| s.connected = true),
                Action::Hint(_) => self.seen.send_modify(|s| s.hints += 1),
                Action::Renewed { chain } => self.seen.send_modify(|s| s.renewed = Some(chain)),
                Action::Reconnect { reject, .. } => {
                    self.seen
                        .send_modify(|s| s.rejected = reject.filter(|r| r.is_final() || *r == RejectCode::Replaced));
                    return true;
                }
                Action::Trust(_) | Action::Refused { .. } | Action::RenewRefused { .. } => {}
            }
        }
        false
    }

    fn store(&mut self, head: Verified<Head>, fetched: Vec<(Digest, Arc<[u8]>)>) {
        let generation = head.generation;
        let bundle = {
            let mut ledger = self.ledger.lock().unwrap();
            ledger.blobs.extend(fetched);
            ledger.ratchet = Some(Ratchet { generation, head: Digest::of(&head.signed().bytes) });
            let blobs = ledger.blobs.clone();
            Bundle::open(head, &move |d: &Digest| blobs.get(d).cloned()).expect("the hub sends whole bundles")
        };
        let objects = bundle
            .bodies()
            .iter()
            .map(|b| (b.id.name.clone(), b.objects.iter().map(|o| o.key.to_string()).collect()))
            .collect();
        let index = Arc::new(bundle.index().clone());
        self.index = Some(index.clone());
        self.input(Input::Stored { generation });
        self.seen.send_modify(|s| {
            s.generation = Some(generation);
            s.index = Some(index);
            s.objects = objects;
        });
        self.report();
    }

    fn report(&mut self) {
        let Some(index) = self.index.clone() else { return };
        let generation = self.seen.borrow().generation;
        for unit in &index.units {
            let mut report = UnitReport {
                unit: unit.id.clone(),
                ready: Ready::True,
                reason: reason::SUCCEEDED.into(),
                message: "applied".into(),
                generation,
                desired: None,
                applied: self.bodies.get(&unit.id).copied(),
                last_applied: Some(self.now().unix_ms),
                applied_revision: None,
                suspended: false,
                drift_mode: Default::default(),
                counts: Counts::default(),
                objects: vec![],
                drift: vec![],
                recent: vec![],
                waiting: None,
                held_deletes: vec![],
                approved_deletes: vec![],
                contests: vec![],
                additions: vec![],
                inputs: vec![],
                filled: None,
                pauses: vec![],
                pause_ended: None,
                flux: None,
                shadow: None,
                observed_at: self.now().unix_ms,
            };
            match &unit.state {
                UnitState::Full { body } => {
                    report.desired = Some(body.digest);
                    if self.failing.contains(&unit.id.name) {
                        report.ready = Ready::False;
                        report.reason = reason::FAILED.into();
                        report.message = "it was told to fail".into();
                    } else {
                        self.bodies.insert(unit.id.clone(), body.digest);
                        report.applied = Some(body.digest);
                    }
                }
                UnitState::Held { reason: why, .. } => {
                    report.ready = Ready::False;
                    report.reason = reason::HELD.into();
                    report.message = why.message.clone();
                }
                UnitState::Suspended { .. } => report.suspended = true,
            }
            // Nothing is repeated because of a new generation.
            let mut timeless = report.clone();
            (timeless.generation, timeless.last_applied, timeless.observed_at) = (None, None, 0);
            if self.told.get(&unit.id) != Some(&timeless) {
                self.told.insert(unit.id.clone(), timeless);
                self.input(Input::Unit(Box::new(report)));
            }
        }
        self.input(Input::UnitsKnown);
        let whole = ClusterReport {
            generation,
            units_at: generation,
            agent_version: "test".into(),
            kubernetes_version: "v1.36.0".into(),
            ..ClusterReport::default()
        };
        self.input(Input::Cluster(Box::new(whole)));
    }
}
