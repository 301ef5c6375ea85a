//! Real QUIC on loopback: who gets in, what is refused before it is read, and how much one peer may do.
#![allow(clippy::unwrap_used)] // helpers of tests

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{KUBE_UID, cluster, make, sign_trust, trust_document, trust_one};
use driftless_protocol::ask::{ASKS_OPEN, Answer, Question, WhyQuestion, refusal};
use driftless_protocol::enroll::{EnrollAnswer, EnrollGrant, EnrollRefusal, EnrollRefused, EnrollRequest};
use driftless_protocol::id::{ClusterId, Digest, TokenId, TransferId};
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, RejectCode};
use driftless_protocol::quic::{
    Accepted, HubOptions, QuicError, accept, agent_endpoint, close, close_rejected, connect, hub_endpoint,
    rejected_code, stream, tls,
};
use driftless_protocol::session::agent::{self, Action as AgentAction, Input as AgentInput};
use driftless_protocol::session::hub::{self, Action as HubAction, Input as HubInput};
use driftless_protocol::session::{Access, Now};
use driftless_protocol::token::TokenSecret;
use driftless_protocol::wire::transfer::Blob;
use quinn::{Connection, Endpoint};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

const NAME: &str = "hub.driftless.test";
const PATIENCE: Duration = Duration::from_secs(20);
const DAY: Duration = Duration::from_secs(86_400);

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

type Leaf = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn leaf(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Leaf {
        self.leaf_with(CertificateParams::default(), names, usage)
    }

    fn leaf_with(&self, mut params: CertificateParams, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Leaf {
        let key = KeyPair::generate().unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn hub(&self) -> Leaf {
        self.leaf(vec![SanType::DnsName(NAME.try_into().unwrap())], ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn agent(&self, cluster: ClusterId) -> Leaf {
        self.leaf(
            vec![SanType::URI(tls::cluster_uri(cluster).try_into().unwrap())],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    /// An agent's certificate that lasted a day and ended that long ago.
    fn expired(&self, cluster: ClusterId, usage: ExtendedKeyUsagePurpose, ago: Duration) -> Leaf {
        let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - ago;
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(1970, 1, 1) + (end - DAY);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
        self.leaf_with(params, vec![SanType::URI(tls::cluster_uri(cluster).try_into().unwrap())], usage)
    }

    fn pin(&self) -> Digest {
        Digest::of(&self.der)
    }
}

struct Hub {
    endpoint: Endpoint,
    identity: Arc<tls::HubIdentity>,
    authority: Authority,
    address: SocketAddr,
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn start() -> Hub {
    start_with(Duration::ZERO)
}

/// A hub that renews certificates that ended not longer ago than that.
fn start_with(grace: Duration) -> Hub {
    let authority = Authority::new("hub ca");
    let (chain, key) = authority.hub();
    let identity = tls::HubIdentity::with_grace(chain, key, std::slice::from_ref(&authority.der), grace).unwrap();
    let options =
        HubOptions { listen: loopback(), identity: Arc::clone(&identity), reset_key: [3; 32], token_key: [4; 32] };
    let endpoint = hub_endpoint(&options).unwrap();
    let address = endpoint.local_addr().unwrap();
    Hub { endpoint, identity, authority, address }
}

impl Hub {
    async fn next(&self) -> Result<Accepted, QuicError> {
        accept(self.endpoint.accept().await.unwrap()).await
    }

    fn session_tls(&self, leaf: Leaf) -> Arc<rustls::ClientConfig> {
        Arc::new(tls::session_client(leaf.0, leaf.1, std::slice::from_ref(&self.authority.der)).unwrap())
    }

    /// TLS of somebody who has a certificate and not its key.
    fn mismatched_tls(
        &self,
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'static>,
    ) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority.der.clone()).unwrap();
        let key = tls::provider().key_provider.load_private_key(key.clone_key()).unwrap();
        let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![tls::ALPN_SESSION.to_vec()];
        Arc::new(config)
    }

    /// Connects with this TLS; the agent's and the hub's view.
    async fn meet(
        &self,
        tls: Arc<rustls::ClientConfig>,
        name: &str,
    ) -> (Result<Connection, QuicError>, Result<Accepted, QuicError>) {
        let agent = agent_endpoint(loopback()).unwrap();
        within(async { tokio::join!(connect(&agent, tls, self.address, name, PATIENCE), self.next()) }).await
    }

    /// A session of the test cluster.
    async fn session(&self) -> (Connection, Connection) {
        let (agent, hub) = self.meet(self.session_tls(self.authority.agent(cluster())), NAME).await;
        let Ok(Accepted::Session(hub, identity)) = hub else { panic!("{hub:?}") };
        assert_eq!(identity.cluster, cluster());
        (agent.unwrap(), hub)
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// The application close code with which the other side ended it.
async fn closed_with(connection: &Connection) -> quinn::VarInt {
    let error = within(connection.closed()).await;
    rejected_code(&error).unwrap_or_else(|| panic!("not closed by the application: {error}"))
}

fn request() -> EnrollRequest {
    EnrollRequest {
        wire_max: 1,
        token: TokenId::from_bytes([5; 8]),
        secret: TokenSecret::from_bytes([6; 32]),
        csr: vec![7; 300],
        kube_uid: KUBE_UID.into(),
        agent_version: "0.1.0".into(),
    }
}

#[tokio::test]
async fn an_agent_enrols_with_nothing_but_a_pin() {
    let hub = start();
    let tls = Arc::new(tls::enroll_client(hub.authority.pin()).unwrap());
    for answer in [
        EnrollAnswer::Granted(EnrollGrant {
            cluster: cluster(),
            name: "staging".parse().unwrap(),
            chain: vec![vec![1; 600]],
            authorities: vec![hub.authority.der.to_vec()],
            trust: (1..100).map(|v| sign_trust(&trust_document(v))).collect(),
        }),
        EnrollAnswer::Refused(EnrollRefused { code: EnrollRefusal::Used, message: "make a new one".into() }),
    ] {
        let (agent, accepted) = hub.meet(Arc::clone(&tls), NAME).await;
        let Ok(Accepted::Enroll(connection)) = accepted else { panic!("{accepted:?}") };
        let agent = agent.unwrap();
        let serve = async {
            let (got, responder) = stream::receive_enroll(&connection).await.unwrap();
            assert_eq!((got.token, got.csr, got.kube_uid), (request().token, request().csr, request().kube_uid));
            assert_eq!(got.secret.expose(), request().secret.expose());
            responder.answer(&answer).await.unwrap();
        };
        let request = request();
        let (got, ()) = within(async { tokio::join!(stream::enroll(&agent, &request), serve) }).await;
        assert_eq!(got.unwrap(), answer);
    }
}

#[tokio::test]
async fn a_hub_that_is_not_the_pinned_one_hears_nothing() {
    let hub = start();
    let foreign = Authority::new("hub ca");
    let tls = Arc::new(tls::enroll_client(foreign.pin()).unwrap());
    let (agent, accepted) = hub.meet(tls, NAME).await;
    let message = agent.unwrap_err().to_string();
    assert!(message.contains("pinned authority"), "{message}");
    assert!(accepted.is_err());

    // The right pin, another name.
    let tls = Arc::new(tls::enroll_client(hub.authority.pin()).unwrap());
    let (agent, _) = hub.meet(tls, "other.driftless.test").await;
    assert!(agent.is_err());

    // A session towards a hub of another authority.
    let (chain, key) = hub.authority.agent(cluster());
    let tls = Arc::new(tls::session_client(chain, key, std::slice::from_ref(&foreign.der)).unwrap());
    let (agent, _) = hub.meet(tls, NAME).await;
    assert!(agent.is_err());
}

#[tokio::test]
async fn only_certificates_of_the_hub_make_a_session() {
    let hub = start();
    let foreign = Authority::new("somebody");

    // In TLS 1.3 a client believes it is connected before the server has judged its certificate.
    let (agent, accepted) = hub.meet(hub.session_tls(foreign.agent(cluster())), NAME).await;
    assert!(accepted.is_err(), "foreign authority: {accepted:?}");
    if let Ok(agent) = agent {
        within(agent.closed()).await;
    }

    let none = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates({
            let mut roots = rustls::RootCertStore::empty();
            roots.add(hub.authority.der.clone()).unwrap();
            roots
        });
    let mut none = none.with_no_client_auth();
    none.alpn_protocols = vec![tls::ALPN_SESSION.to_vec()];
    let (agent, accepted) = hub.meet(Arc::new(none.clone()), NAME).await;
    assert!(accepted.unwrap_err().to_string().contains("no client certificate"));
    assert_eq!(closed_with(&agent.unwrap()).await, close::NO_CERTIFICATE);

    let dns = vec![SanType::DnsName("a.test".try_into().unwrap())];
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    let client = ExtendedKeyUsagePurpose::ClientAuth;
    for (what, names) in [
        ("a host name", dns),
        ("no name", vec![]),
        ("another scheme", vec![uri("spiffe://cluster/00")]),
        ("a short id", vec![uri("driftless://cluster/00")]),
        ("two clusters", vec![uri(&tls::cluster_uri(cluster())), uri(&tls::cluster_uri(cluster()))]),
    ] {
        let leaf = hub.authority.leaf(names, client.clone());
        let (agent, accepted) = hub.meet(hub.session_tls(leaf), NAME).await;
        assert!(accepted.is_err(), "{what}: {accepted:?}");
        assert_eq!(closed_with(&agent.unwrap()).await, close::BAD_CERTIFICATE, "{what}");
    }

    // The hub's own kind of certificate is not an agent's.
    let server = hub.authority.leaf(vec![uri(&tls::cluster_uri(cluster()))], ExtendedKeyUsagePurpose::ServerAuth);
    let (_, accepted) = hub.meet(hub.session_tls(server), NAME).await;
    assert!(accepted.is_err(), "a server certificate: {accepted:?}");

    // An ALPN the hub does not have.
    none.alpn_protocols = vec![b"h3".to_vec()];
    let (agent, accepted) = hub.meet(Arc::new(none), NAME).await;
    assert!(agent.is_err() && accepted.is_err());
}

#[tokio::test]
async fn an_expired_certificate_gets_in_within_the_grace_and_says_so() {
    let (client, server) = (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    let (off, hub) = (start(), start_with(30 * DAY));
    let soon = Duration::from_secs(60);
    let (agent, accepted) =
        off.meet(off.session_tls(off.authority.expired(cluster(), client.clone(), soon)), NAME).await;
    assert!(accepted.is_err(), "without grace: {accepted:?}");
    drop(agent);
    for (ago, expected) in [(soon, true), (30 * DAY - soon, true), (30 * DAY + soon, false), (300 * DAY, false)] {
        let leaf = hub.authority.expired(cluster(), client.clone(), ago);
        let shown = Digest::of(&leaf.0[0]);
        let (_agent, accepted) = hub.meet(hub.session_tls(leaf), NAME).await;
        match accepted {
            Ok(Accepted::Session(_, identity)) if expected => {
                assert_eq!((identity.cluster, identity.certificate), (cluster(), shown), "{ago:?}");
                assert_eq!(identity.access, Access::Renewal, "{ago:?}");
            }
            Err(_) if !expected => {}
            other => panic!("{ago:?}: {other:?}"),
        }
    }
    // Age is the only thing that is overlooked.
    let foreign = Authority::new("hub ca");
    let (_agent, accepted) = hub.meet(hub.session_tls(foreign.expired(cluster(), client.clone(), soon)), NAME).await;
    assert!(accepted.is_err(), "another authority: {accepted:?}");
    let (_agent, accepted) = hub.meet(hub.session_tls(hub.authority.expired(cluster(), server, soon)), NAME).await;
    assert!(accepted.is_err(), "another usage: {accepted:?}");
    let (chain, _) = hub.authority.expired(cluster(), client.clone(), soon);
    let (_, other) = hub.authority.expired(cluster(), client.clone(), soon);
    let (_agent, accepted) = hub.meet(hub.mismatched_tls(chain, &other), NAME).await;
    assert!(accepted.is_err(), "a certificate without its key: {accepted:?}");
    let mut params = CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2100, 1, 1);
    params.not_after = rcgen::date_time_ymd(2101, 1, 1);
    let early = vec![SanType::URI(tls::cluster_uri(cluster()).try_into().unwrap())];
    let (_agent, accepted) = hub.meet(hub.session_tls(hub.authority.leaf_with(params, early, client)), NAME).await;
    assert!(accepted.is_err(), "not valid yet: {accepted:?}");
}

/// The agent's half of a session, until its connection is over: whether a new certificate came, and how many bundles.
async fn renew(agent: &Connection) -> (bool, usize) {
    let origin = Instant::now();
    let now = || Now { unix_ms: common::START * 1000, mono_ms: u64::try_from(origin.elapsed().as_millis()).unwrap() };
    let mut session = agent::Session::new(agent::Setup {
        cluster: cluster(),
        kube_uid: KUBE_UID.into(),
        agent_version: "agent".into(),
        pod: "agent-0".into(),
        ratchet: None,
        complete: false,
        trust: trust_one(),
    });
    let local = |_: &Digest| None;
    session.handle(now(), AgentInput::Cluster(Box::default()), &local);
    session.handle(now(), AgentInput::UnitsKnown, &local);
    session.handle(now(), AgentInput::Renew { csr: b"a key".to_vec() }, &local);
    session.handle(now(), AgentInput::Connected { session: 1 }, &local);
    let (mut send, mut receive) = stream::open_control(agent).await.unwrap();
    let (mut renewed, mut bundles) = (false, 0);
    loop {
        while let Some(message) = session.next_message(now()) {
            send.send(&message).await.unwrap();
        }
        let Some(message) = within(receive.receive()).await.unwrap() else { return (renewed, bundles) };
        bundles += usize::from(matches!(message, HubToAgent::Offer(_)));
        session.handle(now(), AgentInput::Message(message), &local);
        while let Some(action) = session.next_action() {
            match action {
                AgentAction::Renewed { chain } => renewed = chain == [b"leaf".to_vec()],
                AgentAction::Reconnect { reject, .. } => {
                    assert_eq!(reject, Some(RejectCode::Busy));
                    return (renewed, bundles);
                }
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn an_expired_session_gets_its_certificate_and_no_bundle() {
    let hub = start_with(30 * DAY);
    let leaf = hub.authority.expired(cluster(), ExtendedKeyUsagePurpose::ClientAuth, DAY);
    let (agent, accepted) = hub.meet(hub.session_tls(leaf), NAME).await;
    let (Ok(agent), Ok(Accepted::Session(connection, identity))) = (agent, accepted) else { panic!("no session") };
    let serve = async {
        let origin = Instant::now();
        let now =
            || Now { unix_ms: common::START * 1000, mono_ms: u64::try_from(origin.elapsed().as_millis()).unwrap() };
        let setup = hub::Setup {
            cluster: cluster(),
            kube_uid: KUBE_UID.into(),
            hub_version: "hub".into(),
            session: 1,
            reports_taken: 0,
        };
        let mut session = hub::Session::with_access(now(), setup, identity.access);
        session.handle(now(), HubInput::Offer(make(1, 1, 1, "a").current(&[])));
        let (mut send, mut receive) = within(stream::accept_control(&connection)).await.unwrap();
        let mut over = false;
        while !over {
            let Some(message) = within(receive.receive()).await.unwrap() else { break };
            session.handle(now(), HubInput::Message(message));
            while let Some(action) = session.next_action() {
                match action {
                    HubAction::Established(_) => {}
                    HubAction::Renew { csr } => {
                        assert_eq!(csr, b"a key");
                        session.handle(now(), HubInput::Renewed { chain: vec![b"leaf".to_vec()] });
                    }
                    HubAction::Close { code, .. } => over = code == RejectCode::Busy,
                    other => panic!("taken in: {other:?}"),
                }
            }
            while let Some(message) = session.next_message(now()) {
                send.send(&message).await.unwrap();
            }
        }
        send.finish(PATIENCE).await;
    };
    let (got, ()) = within(async { tokio::join!(renew(&agent), serve) }).await;
    assert_eq!(got, (true, 0));
}

#[tokio::test]
async fn certificates_and_authorities_are_swapped_while_the_hub_runs() {
    let hub = start();
    let next = Authority::new("next ca");
    let (_, accepted) = hub.meet(hub.session_tls(next.agent(cluster())), NAME).await;
    assert!(accepted.is_err());
    let (chain, key) = next.hub();
    hub.identity.swap(chain, key, &[hub.authority.der.clone(), next.der.clone()]).unwrap();
    // An agent knows authorities by the digests in its trust document, and meets the new one's certificate on the way.
    let pinned = |pins: &[Digest]| {
        let (chain, key) = hub.authority.agent(cluster());
        Arc::new(tls::pinned_session_client(chain, key, pins).unwrap())
    };
    for (pins, expected) in
        [(vec![hub.authority.pin(), next.pin()], true), (vec![hub.authority.pin()], false), (vec![], false)]
    {
        let (agent, _) = hub.meet(pinned(&pins), NAME).await;
        assert_eq!(agent.is_ok(), expected, "{pins:?}");
    }
    for client in [next.agent(cluster()), hub.authority.agent(cluster())] {
        let tls = tls::session_client(client.0, client.1, std::slice::from_ref(&next.der)).unwrap();
        let (agent, accepted) = hub.meet(Arc::new(tls), NAME).await;
        assert!(agent.is_ok() && accepted.is_ok(), "{accepted:?}");
    }
}

#[tokio::test]
async fn messages_pass_both_ways_and_the_identity_is_the_certificates() {
    let hub = start();
    let leaf = hub.authority.agent(cluster());
    let expected = Digest::of(&leaf.0[0]);
    let (agent, accepted) = hub.meet(hub.session_tls(leaf), NAME).await;
    let Ok(Accepted::Session(connection, identity)) = accepted else { panic!("{accepted:?}") };
    assert_eq!((identity.cluster, identity.certificate), (cluster(), expected));
    assert!(identity.not_before < identity.not_after && !identity.serial.is_empty());
    assert_eq!(identity.access, Access::Full);

    let agent = agent.unwrap();
    let (mut send, mut receive) = stream::open_control(&agent).await.unwrap();
    let hello = AgentToHub::SnapshotComplete { n: 1 };
    send.send(&hello).await.unwrap();
    let (mut hub_send, mut hub_receive) = within(stream::accept_control(&connection)).await.unwrap();
    assert_eq!(within(hub_receive.receive()).await.unwrap(), Some(hello));
    let hint = HubToAgent::Hint(Hint::Reconcile { unit: None });
    hub_send.send(&hint).await.unwrap();
    assert_eq!(within(receive.receive()).await.unwrap(), Some(hint));
    let (finished, end) = within(async { tokio::join!(send.finish(PATIENCE), hub_receive.receive()) }).await;
    let ((), end) = (finished, end.unwrap());
    assert_eq!(end, None);

    close_rejected(&connection, RejectCode::Revoked, &"é".repeat(1000));
    assert_eq!(closed_with(&agent).await, close::rejected(RejectCode::Revoked));
}

#[tokio::test]
async fn a_frame_over_its_limit_is_refused_before_its_payload_is_read() {
    let hub = start();
    for (what, bytes) in [
        ("over-long", [1, 0x01, 0, 0, 0xff, 0xff, 0xff, 0xff]),
        ("one byte over", [1, 0x01, 0, 0, 1, 16, 0, 0]),
        ("unknown type", [1, 0x7f, 0, 0, 0, 0, 0, 0]),
        ("unknown version", [9, 0x01, 0, 0, 0, 0, 0, 0]),
        ("flags", [1, 0x01, 1, 0, 0, 0, 0, 0]),
        ("the hub's own", [1, 0x42, 0, 0, 0, 0, 0, 0]),
    ] {
        let (agent, connection) = hub.session().await;
        let (mut send, _receive) = agent.open_bi().await.unwrap();
        send.write_all(&bytes).await.unwrap();
        // The stream stays open and no payload comes: the header alone decides.
        let (_, mut receive) = within(stream::accept_control(&connection)).await.unwrap();
        let error = within(receive.receive()).await.unwrap_err();
        assert!(matches!(error, QuicError::Wire(_)), "{what}: {error}");
    }
}

fn blobs(count: usize) -> Vec<Blob> {
    (0..count)
        .map(|i| {
            let bytes: Arc<[u8]> = format!("{{\"kind\":\"ConfigMap\",\"n\":{i}}}").repeat(20).into_bytes().into();
            (Digest::of(&bytes), bytes)
        })
        .collect()
}

async fn receive(agent: &Connection, limit: Option<u64>) -> Result<(TransferId, Vec<Blob>), QuicError> {
    let mut stream = within(stream::accept_transfer(agent)).await?;
    let header = stream::receive_transfer_header(&mut stream).await?;
    let unpacked = within(stream::receive_transfer_body(&mut stream, &header, limit)).await?;
    assert!(unpacked.altered.is_empty());
    Ok((header.transfer, unpacked.blobs))
}

#[tokio::test]
async fn two_thousand_blobs_arrive_in_one_transfer() {
    let hub = start();
    let (agent, connection) = hub.session().await;
    let blobs = blobs(2_000);
    let limit = driftless_protocol::wire::transfer::raw_length(blobs.iter().map(|b| b.1.len() as u64));
    let (sent, got) = within(async {
        tokio::join!(stream::send_transfer(&connection, TransferId(7), &blobs), receive(&agent, Some(limit)))
    })
    .await;
    sent.unwrap();
    assert_eq!(got.unwrap(), (TransferId(7), blobs.clone()));

    // One byte more than was asked for, and one that nobody asked for.
    for limit in [Some(limit - 1), None] {
        let (_, got) = within(async {
            tokio::join!(stream::send_transfer(&connection, TransferId(8), &blobs), receive(&agent, limit))
        })
        .await;
        assert!(got.is_err(), "{limit:?}");
    }
}

#[tokio::test]
async fn streams_are_capped_on_both_sides() {
    let hub = start();
    let (agent, connection) = hub.session().await;
    let moment = Duration::from_millis(200);
    let _control = stream::open_control(&agent).await.unwrap();
    assert!(tokio::time::timeout(moment, agent.open_bi()).await.is_err(), "a second control stream");
    assert!(tokio::time::timeout(moment, agent.open_uni()).await.is_err(), "agents send no transfers");
    let mut questions = Vec::new();
    for _ in 0..ASKS_OPEN {
        questions.push(within(connection.open_bi()).await.unwrap());
    }
    assert!(tokio::time::timeout(moment, connection.open_bi()).await.is_err(), "a fifth question");
    let mut transfers = Vec::new();
    for _ in 0..8 {
        transfers.push(within(connection.open_uni()).await.unwrap());
    }
    assert!(tokio::time::timeout(moment, connection.open_uni()).await.is_err(), "a ninth transfer");
}

#[tokio::test]
async fn questions_have_streams_of_their_own_and_are_given_up_by_dropping_them() {
    let hub = start();
    let (agent, connection) = hub.session().await;
    let question = Question::Why(WhyQuestion::default()).pack(1000).unwrap();
    let answer = async {
        let mut asked = stream::accept_ask(&agent).await.unwrap();
        assert_eq!(asked.read().await.unwrap(), question);
        asked.answer(&Answer::refused(refusal::DISABLED, "no").pack()).await.unwrap();
    };
    let (answered, ()) = within(async { tokio::join!(stream::ask(&connection, &question), answer) }).await;
    assert_eq!(Answer::unpack(&answered.unwrap()).unwrap(), Answer::refused(refusal::DISABLED, "no"));

    // A hub that waits no more is heard, and its stream is free for the next question.
    for _ in 0..2 * ASKS_OPEN {
        let asking = tokio::time::timeout(Duration::from_millis(50), stream::ask(&connection, &question));
        let heard = async {
            let mut asked = stream::accept_ask(&agent).await.unwrap();
            asked.read().await.unwrap();
            asked.given_up().await;
        };
        let (asked, ()) = within(async { tokio::join!(asking, heard) }).await;
        assert!(asked.is_err(), "nobody answered");
    }
}

#[test]
fn a_restarted_hub_ends_old_connections_at_once() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (hub_runtime, agent_runtime) = (runtime(), runtime());
    let hub = {
        let _guard = hub_runtime.enter();
        start()
    };
    let tls = hub.session_tls(hub.authority.agent(cluster()));
    let address = hub.address;
    let agent = agent_runtime.spawn(async move {
        let endpoint = agent_endpoint(loopback()).unwrap();
        (connect(&endpoint, tls, address, NAME, PATIENCE).await.unwrap(), endpoint)
    });
    let Ok(Accepted::Session(connection, _)) = hub_runtime.block_on(within(hub.next())) else { panic!("no session") };
    let (agent, _endpoint) = agent_runtime.block_on(agent).unwrap();

    // The hub dies without a word: its tasks first, so that nothing is left to say goodbye.
    hub_runtime.shutdown_timeout(PATIENCE);
    let identity = Arc::clone(&hub.identity);
    drop((connection, hub));
    let hub_runtime = runtime();
    let _guard = hub_runtime.enter();
    let options = HubOptions { listen: address, identity, reset_key: [3; 32], token_key: [4; 32] };
    let since = std::time::Instant::now();
    let _again = loop {
        // The port comes from the range that the kernel gives to everybody: it may be held for a while.
        match hub_endpoint(&options) {
            Ok(endpoint) => break endpoint,
            Err(error) => assert!(since.elapsed() < PATIENCE, "listen on {address} again: {error}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let error = agent_runtime.block_on(within(async {
        let (mut send, _receive) = agent.open_bi().await.unwrap();
        loop {
            if let Err(error) = send.write_all(&[0; 1000]).await {
                return error;
            }
        }
    }));
    assert!(matches!(error, quinn::WriteError::ConnectionLost(quinn::ConnectionError::Reset)), "{error:?}");
}
