//! Enrolment, session and renewal over real QUIC against a hub made of the protocol's own session.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::Records;
use common::fleet::{KUBE_UID, Made, cluster, make_of, root, signer, trust_document};
use driftless_agent::identity::{self, Identity, IdentityError};
use driftless_agent::join::JoinFile;
use driftless_agent::ledger::Ledger;
use driftless_agent::link::{self, FromHub, ToHub};
use driftless_protocol::enroll::{EnrollAnswer, EnrollGrant, EnrollRefusal, EnrollRefused};
use driftless_protocol::facts::Facts;
use driftless_protocol::id::{Digest, Generation, KeyId, TokenId, UnitId};
use driftless_protocol::message::{Hint, RejectCode};
use driftless_protocol::quic::{Accepted, HubOptions, accept, close_rejected, hub_endpoint, stream, tls};
use driftless_protocol::report::{ClusterReport, UnitReport};
use driftless_protocol::session::hub::{Action, Current, Input, Session, Setup};
use driftless_protocol::session::{Access, Now};
use driftless_protocol::signing::{Purpose, SecretKey, Signed};
use driftless_protocol::token::{JoinToken, TokenSecret};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const NAME: &str = "hub.driftless.test";
const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

fn unix() -> u64 {
    driftless_agent::agent::unix_millis() / 1000
}

/// Keys, store and settings of the hub: what survives its restarts.
struct World {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    leaf: Mutex<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    trust: Vec<Signed>,
    root_keys: Vec<KeyId>,
    state: Mutex<Store>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Store {
    redeemed: bool,
    offer: Option<Made>,
    units: BTreeMap<UnitId, UnitReport>,
    cluster: Option<ClusterReport>,
    facts: Option<Facts>,
    reports_taken: u64,
    taken: Vec<Generation>,
    refused: Vec<String>,
    sessions: u64,
    renewals: u32,
    served: usize,
    hint: Option<Hint>,
    reject: Option<RejectCode>,
    /// Seconds for which certificates are good.
    life: i64,
    /// Certificates are past their time when they are issued.
    expired: bool,
    enrolments: u32,
    /// How long certificates may be past their time, to be renewed.
    grace: Duration,
    /// Requests for a certificate are not answered.
    mute: bool,
    tamper: bool,
}

impl World {
    fn new() -> Arc<Self> {
        Self::of(&root())
    }

    /// A hub with this root key.
    fn of(root: &SecretKey) -> Arc<Self> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let hub_key = KeyPair::generate().unwrap();
        let mut hub = CertificateParams::default();
        hub.subject_alt_names = vec![SanType::DnsName(NAME.try_into().unwrap())];
        hub.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = vec![hub.signed_by(&hub_key, &issuer).unwrap().der().clone()];
        let leaf = Mutex::new((chain, PrivateKeyDer::try_from(hub_key.serialize_der()).unwrap()));
        let mut document = trust_document(1);
        (document.authorities, document.roots) = (vec![Digest::of(&ca)], vec![root.public()]);
        (document.issued, document.expires) = (unix() - 10, unix() + 86_400);
        let trust = vec![root.sign(Purpose::Trust, &document).unwrap()];
        let root_keys = vec![root.public().id()];
        let state = Mutex::new(Store { life: 3600, ..Store::default() });
        Arc::new(Self { issuer, ca, leaf, trust, root_keys, state, changed: watch::channel(0).0 })
    }

    fn token(&self, address: SocketAddr) -> JoinToken {
        JoinToken {
            id: TokenId::from_bytes([5; 8]),
            secret: TokenSecret::from_bytes([6; 32]),
            hub_ca: Digest::of(&self.ca),
            root_keys: self.root_keys.clone(),
            addresses: vec![address.to_string()],
            server_name: NAME.into(),
        }
    }

    fn issue(&self, csr: &[u8]) -> Vec<Vec<u8>> {
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let request = CertificateSigningRequestParams::from_der(&csr).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(tls::cluster_uri(cluster()).try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (life, expired) = {
            let state = self.state.lock().unwrap();
            (state.life, state.expired)
        };
        let day = |seconds: i64| {
            // rcgen speaks `time`; a difference from its fixed date avoids naming that crate.
            let base = rcgen::date_time_ymd(2020, 1, 1);
            base + Duration::from_secs(u64::try_from(i64::try_from(unix()).unwrap() + seconds - 1_577_836_800).unwrap())
        };
        (params.not_before, params.not_after) = (day(-life), day(if expired { -10 } else { life }));
        let certificate = params.signed_by(&request.public_key, &self.issuer).unwrap();
        vec![certificate.der().to_vec()]
    }

    fn with<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let value = change(&mut self.state.lock().unwrap());
        self.changed.send_modify(|n| *n += 1);
        value
    }

    async fn until(&self, what: &str, mut condition: impl FnMut(&Store) -> bool) {
        let mut changed = self.changed.subscribe();
        let wait = async {
            while !condition(&self.state.lock().unwrap()) {
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never came: {what}"));
    }

    fn offer(&self, sequence: u64, text: &str) -> Made {
        let made = make_of(sequence, &vec![vec![text.to_owned(), "same".to_owned()]; 3]).sign(|h| {
            (h.issued, h.expires) = (unix(), unix() + 3600);
            h.generation.epoch = unix() - 100;
            h.generation.sequence = sequence;
        });
        self.with(|s| s.offer = Some(made.clone()));
        made
    }
}

/// A running hub; ends with all its tasks when dropped.
struct Hub {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

async fn start(world: &Arc<World>, address: SocketAddr) -> Hub {
    let (chain, key) = {
        let leaf = world.leaf.lock().unwrap();
        (leaf.0.clone(), leaf.1.clone_key())
    };
    let identity =
        tls::HubIdentity::with_grace(chain, key, std::slice::from_ref(&world.ca), world.with(|s| s.grace)).unwrap();
    let options = HubOptions { listen: address, identity, reset_key: [3; 32], token_key: [4; 32] };
    // A port that was just given up may be taken for a moment.
    let begin = Instant::now();
    let endpoint = loop {
        match hub_endpoint(&options) {
            Ok(endpoint) => break endpoint,
            Err(error) => {
                assert!(begin.elapsed() < PATIENCE, "{error}");
                tokio::task::yield_now().await;
            }
        }
    };
    let address = endpoint.local_addr().unwrap();
    let world = Arc::clone(world);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            connections.spawn(serve(Arc::clone(&world), incoming));
        }
    });
    Hub { address, _tasks: tasks }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn serve(world: Arc<World>, incoming: quinn::Incoming) {
    match accept(incoming).await {
        Ok(Accepted::Enroll(connection)) => {
            let Ok((request, responder)) = stream::receive_enroll(&connection).await else { return };
            let known = request.secret.expose() == &[6; 32];
            let used = world.with(|s| {
                s.enrolments += 1;
                std::mem::replace(&mut s.redeemed, true)
            });
            let refused = |code| EnrollAnswer::Refused(EnrollRefused { code, message: "said by the test".into() });
            let answer = match (known, used) {
                (false, _) => refused(EnrollRefusal::UnknownToken),
                (true, true) => refused(EnrollRefusal::Used),
                (true, false) => EnrollAnswer::Granted(EnrollGrant {
                    cluster: cluster(),
                    name: "staging".parse().unwrap(),
                    chain: world.issue(&request.csr),
                    authorities: vec![world.ca.to_vec()],
                    trust: world.trust.clone(),
                }),
            };
            let _ = responder.answer(&answer).await;
        }
        Ok(Accepted::Session(connection, identity)) => {
            assert_eq!(identity.cluster, cluster());
            session(&world, &connection, identity.access).await;
        }
        Err(_) => {}
    }
}

async fn session(world: &Arc<World>, connection: &quinn::Connection, access: Access) {
    let started = Instant::now();
    let now = || Now { unix_ms: unix() * 1000, mono_ms: u64::try_from(started.elapsed().as_millis()).unwrap() };
    let (number, reports_taken) = world.with(|s| {
        s.sessions += 1;
        (s.sessions, s.reports_taken)
    });
    let setup = Setup {
        cluster: cluster(),
        kube_uid: KUBE_UID.into(),
        hub_version: "test".into(),
        session: number,
        reports_taken,
    };
    let mut session = Session::with_access(now(), setup, access);
    let Ok((mut send, mut receive)) = stream::accept_control(connection).await else { return };
    let (heard, mut messages) = mpsc::channel(4);
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        while let Ok(Some(message)) = receive.receive().await {
            if heard.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut changed = world.changed.subscribe();
    let mut offered: Option<Signed> = None;
    loop {
        let (offer, hint, reject) = {
            let mut state = world.state.lock().unwrap();
            (state.offer.clone(), state.hint.take(), state.reject)
        };
        if let Some(made) = offer.filter(|m| offered.as_ref() != Some(&m.signed)) {
            offered = Some(made.signed.clone());
            let closure: BTreeSet<Digest> = made.blobs.keys().copied().collect();
            let current = Current {
                generation: made.head.generation,
                head: made.signed.clone(),
                trust: world.trust.clone().into(),
                closure: Arc::new(closure),
            };
            session.handle(now(), Input::Offer(current));
        }
        if let Some(hint) = hint {
            session.handle(now(), Input::Hint(hint));
        }
        if let Some(code) = reject {
            session.handle(now(), Input::Reject { code, message: "said by the test".into() });
        }
        let mut close = None;
        while let Some(action) = session.next_action() {
            match action {
                Action::Serve { transfer, digests } => {
                    let (blobs, tamper) = world.with(|s| {
                        let made = s.offer.as_ref().unwrap();
                        let found: Vec<_> =
                            digests.iter().filter_map(|d| Some((*d, Arc::clone(made.blobs.get(d)?)))).collect();
                        s.served += found.len();
                        (found, s.tamper)
                    });
                    let blobs: Vec<_> = blobs
                        .into_iter()
                        .map(|(d, b)| if tamper { (d, Arc::from(vec![b' '; b.len()])) } else { (d, b) })
                        .collect();
                    let _ = stream::send_transfer(connection, transfer, &blobs).await;
                    session.handle(now(), Input::Served { transfer });
                }
                Action::Taken { generation } => world.with(|s| s.taken.push(generation)),
                Action::Refused { code, message, .. } => {
                    world.with(|s| s.refused.push(format!("{}: {message}", code.as_str())));
                }
                Action::ClusterReport { n, report } => {
                    world.with(|s| (s.cluster, s.reports_taken) = (Some(*report), n));
                    session.handle(now(), Input::ReportsStored { n });
                }
                Action::UnitReports { n, reports } => {
                    world.with(|s| {
                        s.units.extend(reports.into_iter().map(|r| (r.unit.clone(), r)));
                        s.reports_taken = n;
                    });
                    session.handle(now(), Input::ReportsStored { n });
                }
                Action::Facts { n, facts } => {
                    world.with(|s| (s.facts, s.reports_taken) = (Some(*facts), n));
                    session.handle(now(), Input::ReportsStored { n });
                }
                Action::UnitsGone { n, units } => {
                    world.with(|s| {
                        s.units.retain(|u, _| !units.contains(u));
                        s.reports_taken = n;
                    });
                    session.handle(now(), Input::ReportsStored { n });
                }
                Action::Snapshot { n, units } => {
                    world.with(|s| {
                        s.units.retain(|u, _| units.contains(u));
                        s.reports_taken = n;
                    });
                    session.handle(now(), Input::ReportsStored { n });
                }
                Action::Renew { csr } => {
                    let chain = world.issue(&csr);
                    let mute = world.with(|s| {
                        s.renewals += 1;
                        s.mute
                    });
                    if !mute {
                        session.handle(now(), Input::Renewed { chain });
                    }
                }
                Action::Close { code, message } => close = Some((code, message)),
                Action::Established(_) | Action::NotReferenced { .. } => {}
            }
        }
        while let Some(message) = session.next_message(now()) {
            if send.send(&message).await.is_err() {
                return;
            }
        }
        if let Some((code, message)) = close {
            send.finish(Duration::from_secs(1)).await;
            close_rejected(connection, code, &message);
            return;
        }
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => session.handle(now(), Input::Message(message)),
                None => return,
            },
            _ = changed.changed() => {}
            () = tokio::time::sleep(Duration::from_secs(1)) => session.handle(now(), Input::Tick),
        }
    }
}

/// A join token file that lasts as long as this does.
struct Mounted {
    dir: tempfile::TempDir,
    file: Arc<JoinFile>,
}

impl Mounted {
    fn of(token: Option<&JoinToken>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Self { file: Arc::new(JoinFile::new(Some(dir.path().join("token")))), dir };
        if let Some(token) = token {
            mounted.put(token);
        }
        mounted
    }

    fn put(&self, token: &JoinToken) {
        std::fs::write(self.dir.path().join("token"), token.reveal().as_bytes()).unwrap();
    }
}

/// The agent's half: link with the test as its driver.
struct Agent {
    to_hub: mpsc::Sender<ToHub>,
    from_hub: mpsc::Receiver<FromHub>,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
    mounted: Mounted,
}

impl Agent {
    async fn start(records: &Records, join: Option<JoinToken>) -> Result<Self, IdentityError> {
        let (cancel, mounted) = (CancellationToken::new(), Mounted::of(join.as_ref()));
        let identity = within(identity::load_or_enrol(&records.api(), &mounted.file, KUBE_UID, &cancel)).await?;
        Ok(Self::with(records, identity, mounted, cancel).await)
    }

    async fn with(records: &Records, identity: Identity, mounted: Mounted, cancel: CancellationToken) -> Self {
        let ledger = Ledger::load(records.api(), &identity, KUBE_UID, 16 << 20).await.unwrap();
        let (to_hub, from_driver) = mpsc::channel(8);
        let (to_driver, from_hub) = mpsc::channel(8);
        // Nobody answers questions here.
        let (asks, _) = mpsc::channel(1);
        let setup = link::Setup {
            identity,
            ledger,
            kube_uid: KUBE_UID.into(),
            pod: "agent-0".into(),
            join: mounted.file.clone(),
            asks,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(link::run(setup, from_driver, to_driver, cancel.clone()));
        Self { to_hub, from_hub, cancel, tasks, mounted }
    }

    async fn bundle(&mut self) -> Generation {
        loop {
            match within(self.from_hub.recv()).await.expect("the link ended") {
                FromHub::Bundle(stored) => return stored.bundle.head().generation,
                FromHub::Hint(_) | FromHub::Current => {}
            }
        }
    }

    async fn tell(&self, told: ToHub) {
        self.to_hub.send(told).await.unwrap();
    }

    async fn stop(mut self) {
        self.cancel.cancel();
        within(async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

fn unit(name: &str) -> UnitId {
    UnitId::kustomization("flux-system", name)
}

fn report(name: &str, message: &str) -> ToHub {
    let mut report = UnitReport::unreadable(unit(name), "");
    report.message = message.into();
    ToHub::Unit(report)
}

#[tokio::test]
async fn a_cluster_enrols_takes_bundles_and_reports_through_restarts_of_its_hub_and_itself() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    let first = world.offer(1, "a");
    let mut agent = Agent::start(&records, Some(world.token(hub.address))).await.unwrap();
    assert_eq!(agent.bundle().await, first.head.generation);
    world.until("taken", |s| s.taken == [first.head.generation]).await;

    agent.tell(report("apps", "one")).await;
    agent.tell(ToHub::Cluster(ClusterReport { leader: "agent-0".into(), ..ClusterReport::default() })).await;
    agent.tell(ToHub::Facts(Box::new(Facts { kubernetes_version: "v1.36.0".into(), ..Facts::default() }))).await;
    agent.tell(ToHub::UnitsKnown).await;
    world.until("reports", |s| s.units.len() == 1 && s.cluster.is_some() && s.facts.is_some()).await;
    world.with(|s| s.hint = Some(Hint::Reconcile { unit: Some(unit("apps")) }));
    match within(agent.from_hub.recv()).await {
        Some(FromHub::Hint(hint)) => assert_eq!(hint, Hint::Reconcile { unit: Some(unit("apps")) }),
        other => panic!("{other:?}"),
    }

    // The hub restarts; what happened meanwhile arrives, and only the change is fetched.
    let address = hub.address;
    drop(hub);
    agent.tell(report("apps", "two")).await;
    agent.tell(report("infra", "new")).await;
    let second = world.offer(2, "b");
    let served = world.with(|s| s.served);
    let hub = start(&world, address).await;
    assert_eq!(agent.bundle().await, second.head.generation);
    world.until("reports after the restart", |s| s.units.len() == 2 && s.units[&unit("apps")].message == "two").await;
    assert_eq!(world.with(|s| s.served) - served, 1 + 3 + 3, "index, three bodies, three objects");

    // The agent restarts without a token; it has everything and is offered nothing.
    agent.stop().await;
    let served = world.with(|s| s.served);
    let agent = Agent::start(&records, None).await.unwrap();
    agent.tell(report("apps", "three")).await;
    agent.tell(ToHub::UnitsKnown).await;
    world.until("the new leader's state", |s| s.units.len() == 1 && s.units[&unit("apps")].message == "three").await;
    assert_eq!(world.with(|s| s.served), served);
    agent.stop().await;
    drop(hub);
}

#[tokio::test]
async fn tokens_that_are_used_wrong_or_for_another_hub_end_in_a_message_that_says_what_to_do() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let token = world.token(hub.address);
    let mut wrong = token.clone();
    wrong.secret = TokenSecret::from_bytes([7; 32]);
    let error = Agent::start(&Records::default(), Some(wrong)).await.err().unwrap().to_string();
    assert!(error.contains("UnknownToken") && error.contains("driftless cluster join-token"), "{error}");
    // The test's hub marks any attempt as the token's use.
    let error = Agent::start(&Records::default(), Some(token.clone())).await.err().unwrap().to_string();
    assert!(error.contains("Used"), "{error}");
    let error = Agent::start(&Records::default(), None).await.err().unwrap().to_string();
    assert!(error.contains("not enrolled"), "{error}");

    // Trust documents of another root: nothing of the grant is kept.
    world.with(|s| s.redeemed = false);
    let mut foreign = token.clone();
    foreign.root_keys = vec![signer().public().id()];
    let records = Records::default();
    let error = Agent::start(&records, Some(foreign)).await.err().unwrap().to_string();
    assert!(error.contains("not to be believed"), "{error}");
    assert!(records.get("configmaps", "driftless-trust").is_none());
    world.with(|s| s.redeemed = false);
    // The same cluster, now with the right token, uses the key it has.
    let before = records.get("secrets", "driftless-identity").unwrap();
    let agent = Agent::start(&records, Some(token)).await.unwrap();
    assert_ne!(records.get("secrets", "driftless-identity").unwrap()["data"], before["data"]);
    agent.stop().await;
}

#[tokio::test]
async fn a_copy_of_a_cluster_is_not_the_cluster() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    Agent::start(&records, Some(world.token(hub.address))).await.unwrap().stop().await;
    let cancel = CancellationToken::new();
    let none = JoinFile::new(None);
    let copied = identity::load_or_enrol(&records.api(), &none, "another kube-system", &cancel).await.err().unwrap();
    assert!(matches!(copied, IdentityError::Copied { .. }), "{copied}");
}

#[tokio::test]
async fn certificates_are_renewed_at_half_their_life_and_used_afterwards() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    // Valid from an hour ago to an hour from now: half its life is over.
    let agent = Agent::start(&records, Some(world.token(hub.address))).await.unwrap();
    world.until("a renewal", |s| s.renewals >= 1).await;
    let identity = || records.get("secrets", "driftless-identity").unwrap()["data"].clone();
    let begin = Instant::now();
    let first = identity();
    while identity() == first && begin.elapsed() < Duration::from_secs(5) {
        tokio::task::yield_now().await;
    }
    agent.stop().await;
    let agent = Agent::start(&records, None).await.unwrap();
    world.until("a session with the new certificate", |s| s.sessions >= 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_renewal_that_was_not_answered_is_asked_for_again_as_soon_as_the_hub_is_back() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    world.with(|s| s.mute = true);
    let agent = Agent::start(&records, Some(world.token(hub.address))).await.unwrap();
    world.until("a request", |s| s.renewals == 1).await;
    let address = hub.address;
    drop(hub);
    world.with(|s| s.mute = false);
    let _hub = start(&world, address).await;
    world.until("a second request", |s| s.renewals == 2).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_past_its_time_stops_no_leading_and_a_new_token_brings_another() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    world.with(|s| s.expired = true);
    let used = world.token(hub.address);
    let cancel = CancellationToken::new();
    let mounted = Mounted::of(Some(&used));
    let enrolled = within(identity::load_or_enrol(&records.api(), &mounted.file, KUBE_UID, &cancel)).await.unwrap();
    let key = || records.get("secrets", "driftless-identity").unwrap()["data"].clone();
    let first = key();

    // It leads, whether a token is there or not, and asks nobody first.
    let again = within(identity::load_or_enrol(&records.api(), &JoinFile::new(None), KUBE_UID, &cancel)).await.unwrap();
    assert_eq!(again.not_after, enrolled.not_after);
    assert_eq!(world.with(|s| s.enrolments), 1);
    let mut agent = Agent::start(&records, Some(used.clone())).await.unwrap();

    // The hub takes neither the old certificate nor the used token, which is tried once.
    world.until("the token tried", |s| s.enrolments == 2).await;
    for i in 0..100 {
        within(agent.tell(report("apps", &i.to_string()))).await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(world.with(|s| (s.enrolments, s.sessions)), (2, 0));

    // A new one: leading begins again, with another key, and the hub hears of it.
    world.with(|s| (s.expired, s.redeemed) = (false, false));
    agent.mounted.put(&JoinToken { id: TokenId::from_bytes([9; 8]), ..used });
    within(agent.tasks.join_next()).await;
    assert_eq!(world.with(|s| s.enrolments), 3);
    assert_ne!(key(), first);
    let agent = Agent::start(&records, None).await.unwrap();
    world.until("a session", |s| s.sessions > 0).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_certificate_past_its_time_is_renewed_first_and_no_token_is_used() {
    let world = World::new();
    world.with(|s| (s.expired, s.grace) = (true, Duration::from_secs(3600)));
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    let mounted = Mounted::of(Some(&world.token(hub.address)));
    let cancel = CancellationToken::new();
    let identity = within(identity::load_or_enrol(&records.api(), &mounted.file, KUBE_UID, &cancel)).await.unwrap();
    world.with(|s| (s.expired, s.redeemed) = (false, false));
    mounted.put(&JoinToken { id: TokenId::from_bytes([9; 8]), ..world.token(hub.address) });
    let agent = Agent::with(&records, identity, mounted, cancel).await;
    agent.tell(ToHub::Cluster(ClusterReport::default())).await;
    world.until("a report with the new certificate", |s| s.cluster.is_some()).await;
    let (renewals, enrolments, problems) =
        world.with(|s| (s.renewals, s.enrolments, s.cluster.as_ref().map(|c| c.problems.clone())));
    assert!((1..=2).contains(&renewals), "the new one is half used already in this test: {renewals}");
    assert_eq!((enrolments, problems), (1, Some(vec![])));
    agent.stop().await;
}

#[tokio::test]
async fn a_pod_that_dies_while_it_enrols_anew_leaves_what_the_next_can_lead_with() {
    let (world, rebuilt) = (World::new(), World::of(&SecretKey::from_seed(&[7; 32])));
    let (hub, other) = (start(&world, loopback()).await, start(&rebuilt, loopback()).await);
    let (records, cancel) = (Records::default(), CancellationToken::new());
    let mounted = Mounted::of(Some(&world.token(hub.address)));
    let mut identity = identity::load_or_enrol(&records.api(), &mounted.file, KUBE_UID, &cancel).await.unwrap();
    let token = rebuilt.token(other.address);
    for writes in 0.. {
        rebuilt.with(|s| s.redeemed = false);
        records.die_after(writes);
        let done = within(identity.enrol_anew(&token, &cancel)).await;
        records.revive();
        let none = JoinFile::new(None);
        identity = within(identity::load_or_enrol(&records.api(), &none, KUBE_UID, &cancel)).await.unwrap();
        let ledger = Ledger::load(records.api(), &identity, KUBE_UID, 16 << 20).await;
        assert!(ledger.is_ok(), "after {writes} writes: {ledger:?}");
        if done.is_ok() {
            assert_eq!(identity.root_keys, token.root_keys);
            assert!(writes >= 3, "a key, the root keys of both, the trust documents, the identity: {writes}");
            return;
        }
    }
}

#[tokio::test]
async fn tampered_blobs_are_refused_shown_and_forgotten_once_good_ones_come() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    world.with(|s| s.tamper = true);
    world.offer(1, "a");
    let mut agent = Agent::start(&records, Some(world.token(hub.address))).await.unwrap();
    agent.tell(ToHub::Cluster(ClusterReport::default())).await;
    world.until("refused", |s| s.refused.iter().any(|r| r.starts_with("BadBundle"))).await;
    world
        .until("shown", |s| s.cluster.as_ref().is_some_and(|c| c.problems.iter().any(|p| p.code == "BadBundle")))
        .await;
    assert!(records.packs().is_empty(), "nothing was stored");
    world.with(|s| s.tamper = false);
    let good = world.offer(2, "b");
    assert_eq!(agent.bundle().await, good.head.generation);
    world.until("not shown any more", |s| s.cluster.as_ref().is_some_and(|c| c.problems.is_empty())).await;
    agent.stop().await;
}

#[tokio::test]
async fn a_rejected_agent_says_so_and_goes_on_enforcing() {
    let world = World::new();
    let hub = start(&world, loopback()).await;
    let records = Records::default();
    let made = world.offer(1, "a");
    let mut agent = Agent::start(&records, Some(world.token(hub.address))).await.unwrap();
    assert_eq!(agent.bundle().await, made.head.generation);
    world.with(|s| s.reject = Some(RejectCode::Revoked));
    // It takes reports from its driver all the same.
    for i in 0..100 {
        within(agent.tell(report("apps", &i.to_string()))).await;
    }
    agent.stop().await;
    let sessions = world.with(|s| s.sessions);
    assert!(sessions <= 2, "it comes back at the longest interval only, {sessions} sessions");
}
