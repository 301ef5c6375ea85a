//! One task per agent: drives the session machine over a connection, the store and the registry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use driftless_protocol::ask::ASKS_OPEN;
use driftless_protocol::id::{ClusterId, Digest, Generation, TransferId};
use driftless_protocol::message::Hello;
use driftless_protocol::message::{AgentToHub, Hint, HubToAgent, RejectCode, WIRE_VERSION};
use driftless_protocol::quic::tls::PeerIdentity;
use driftless_protocol::quic::{QuicError, close, close_rejected, stream};
use driftless_protocol::session::Access;
use driftless_protocol::session::hub::{Action, Input, Session, Setup};
use driftless_store::{Act, Admission, Cluster, ReportContent, ReportWrite};
use quinn::Connection;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::clock;
use crate::fleet::certify::certify;
use crate::fleet::ingest::Report;
use crate::fleet::registry::{Command, Line, Mailbox};
use crate::loops::rollout::current;
use crate::pki::AgentRequest;
use crate::shared::{Shared, VERSION};

/// How long a new connection may take to open its control stream.
const OPEN: Duration = Duration::from_secs(10);
/// How long the last messages may take before the connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Clusters come back spread over this time when the hub stops.
const RETRY_AFTER_SECONDS: u32 = 1;

/// Serves one connection to its end, as far as its certificate goes.
pub(crate) async fn serve(
    shared: &Shared,
    connection: Connection,
    identity: PeerIdentity,
    reports: mpsc::Sender<Report>,
) {
    let peer = connection.remote_address();
    let reject = |code, message: &str| {
        tracing::warn!(%peer, cluster = %identity.cluster, why = %message, "a session was refused");
        close_rejected(&connection, code, message);
    };
    let admission = shared.store.admit(identity.cluster, identity.certificate, clock::millis()).await;
    let (cluster, session, reports_taken) = match admission {
        Ok(Admission::Admitted { cluster, session, reports_taken }) => (cluster, session, reports_taken),
        Ok(Admission::Unknown) => {
            return reject(RejectCode::Revoked, "this hub knows no such cluster; enrol it with a new join token");
        }
        Ok(Admission::Revoked) => {
            return reject(RejectCode::Revoked, "the cluster was removed; enrol it with a new join token");
        }
        Ok(Admission::Superseded) => {
            let message = "a newer certificate of this cluster is in use: somebody else holds its identity, or an old copy of \
                           its Secret was restored";
            audit(shared, &identity, "sessionRefused", message.to_owned()).await;
            return reject(RejectCode::Revoked, message);
        }
        Err(error) => {
            tracing::error!(%peer, error = %crate::chain(&error), "a session cannot be opened");
            return close_rejected(&connection, RejectCode::Busy, "the hub's store does not answer; try again later");
        }
    };
    let Some(mailbox) = shared.registry.enter(cluster.id, session, identity.access, peer, clock::millis()) else {
        return reject(RejectCode::Replaced, "the cluster connected anew meanwhile");
    };
    let span = tracing::info_span!("session", cluster = %cluster.name, session);
    let setup = Setup {
        cluster: cluster.id,
        kube_uid: cluster.kube_uid.clone(),
        hub_version: VERSION.to_owned(),
        session,
        reports_taken,
    };
    async {
        match identity.access {
            Access::Full => tracing::info!(%peer, "an agent connected"),
            Access::Renewal => {
                tracing::warn!(%peer, expired = identity.not_after, "an agent connected with an expired certificate, to renew it");
            }
        }
        let driver = Driver::new(shared, &cluster, &identity, connection.clone(), setup, reports);
        let why = driver.run(mailbox).await;
        connection.close(close::DONE, b"");
        tracing::info!(%peer, why, "an agent is gone");
    }
    .instrument(span)
    .await;
    if shared.registry.leave(cluster.id, session) {
        shared.wake.rollout.notify_one();
    }
}

async fn audit(shared: &Shared, identity: &PeerIdentity, action: &str, detail: String) {
    let act = Act {
        at: clock::millis(),
        actor: format!("certificate {}", identity.serial),
        action: action.to_owned(),
        target: format!("cluster {}", identity.cluster),
        detail,
    };
    if let Err(error) = shared.store.audit(act).await {
        tracing::error!(action, error = %crate::chain(&error), "what a certificate was used for cannot be written to the audit log");
    }
}

struct Driver<'a> {
    shared: &'a Shared,
    cluster: &'a Cluster,
    identity: &'a PeerIdentity,
    number: u64,
    connection: Connection,
    session: Session,
    origin: Instant,
    reports: mpsc::Sender<Report>,
    stored: watch::Sender<u64>,
    transfers: JoinSet<TransferId>,
    closing: Option<String>,
}

impl<'a> Driver<'a> {
    fn new(
        shared: &'a Shared,
        cluster: &'a Cluster,
        identity: &'a PeerIdentity,
        connection: Connection,
        setup: Setup,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        let origin = shared.origin;
        let stored = watch::Sender::new(setup.reports_taken);
        Self {
            shared,
            cluster,
            identity,
            number: setup.session,
            connection,
            session: Session::with_access(clock::now(origin), setup, identity.access),
            origin,
            reports,
            stored,
            transfers: JoinSet::new(),
            closing: None,
        }
    }

    /// Runs to the end; why it ended.
    async fn run(mut self, mut mailbox: Mailbox) -> String {
        let (sender, receiver) = match tokio::time::timeout(OPEN, stream::accept_control(&self.connection)).await {
            Ok(Ok(control)) => control,
            Ok(Err(error)) => return crate::chain(&error),
            Err(_) => return format!("no control stream within {} s", OPEN.as_secs()),
        };
        // Reading and writing are not cancel-safe: each has a task of its own, which ends with its channel or connection.
        let mut tasks = JoinSet::new();
        let (messages, mut incoming) = mpsc::channel(4);
        tasks.spawn(read(receiver, messages));
        let (outgoing, queue) = mpsc::channel(1);
        tasks.spawn(write(sender, queue));

        let mut stored = self.stored.subscribe();
        let mut drained = false;
        let why = loop {
            self.act().await;
            if let Some(why) = self.closing.take() {
                break why;
            }
            if let Ok(slot) = outgoing.try_reserve()
                && let Some(message) = self.session.next_message(clock::now(self.origin))
            {
                slot.send(message);
                continue;
            }
            let deadline = self.session.deadline().map(|at| self.origin + Duration::from_millis(at));
            let input = tokio::select! {
                biased;
                command = mailbox.commands.recv() => match command {
                    Some(Command::Hint(hint)) => Input::Hint(hint),
                    Some(Command::Reject(code, message)) => Input::Reject { code, message },
                    None => Input::Reject { code: RejectCode::Replaced, message: "the cluster connected anew".into() },
                },
                () = self.shared.stop.cancelled(), if !drained => {
                    drained = true;
                    Input::Drain { retry_after_seconds: RETRY_AFTER_SECONDS }
                }
                changed = mailbox.offers.changed() => match changed {
                    Ok(()) => match mailbox.offers.borrow_and_update().clone() {
                        Some(offer) => Input::Offer(offer),
                        None => continue,
                    },
                    Err(_) => Input::Reject { code: RejectCode::Replaced, message: "the cluster connected anew".into() },
                },
                _ = stored.changed() => Input::ReportsStored { n: *stored.borrow_and_update() },
                Some(transfer) = self.transfers.join_next() => match transfer {
                    Ok(transfer) => Input::Served { transfer },
                    Err(error) => break format!("a transfer broke off: {error}"),
                },
                message = incoming.recv() => match message {
                    Some(Ok(message)) => Input::Message(message),
                    Some(Err(error)) => break crate::chain(&error),
                    None => break "the agent closed the connection".to_owned(),
                },
                // The writer took the last message: there may be another one.
                slot = outgoing.reserve(), if outgoing.capacity() == 0 => {
                    drop(slot);
                    continue;
                }
                () = until(deadline) => Input::Tick,
            };
            self.session.handle(clock::now(self.origin), input);
            if drained {
                self.act().await;
                break "the hub stops".to_owned();
            }
        };
        self.last_words(&outgoing).await;
        drop(outgoing);
        // The writer ends when it has sent everything or the connection is gone; the reader when the connection is closed.
        let _ = tokio::time::timeout(LAST_WORDS, tasks.join_next()).await;
        tasks.shutdown().await;
        self.transfers.shutdown().await;
        why
    }

    /// Sends what is still to be said, for a moment.
    async fn last_words(&mut self, outgoing: &mpsc::Sender<HubToAgent>) {
        let now = clock::now(self.origin);
        let _ = tokio::time::timeout(LAST_WORDS, async {
            while let Some(message) = self.session.next_message(now) {
                if outgoing.send(message).await.is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// Carries out what the session decided.
    async fn act(&mut self) {
        while let Some(action) = self.session.next_action() {
            match action {
                Action::Established(hello) => self.established(hello).await,
                Action::Serve { transfer, digests } => self.serve_blobs(transfer, digests),
                Action::Taken { generation } => {
                    tracing::info!(%generation, "the cluster took an offer");
                    self.settle(generation, None).await;
                }
                Action::Refused { generation, code, message } => {
                    // An agent that could not believe the head names no generation: it is the one offered.
                    let offered = self.shared.registry.offered(self.cluster.id).flatten();
                    let generation =
                        if generation == Generation::default() { offered.unwrap_or_default() } else { generation };
                    tracing::warn!(%generation, code = code.as_str(), why = message, "the cluster refused an offer");
                    self.settle(generation, Some((code.as_str().to_owned(), message))).await;
                }
                Action::ClusterReport { n, report } => self.report(n, ReportContent::Cluster(report)).await,
                Action::UnitReports { n, reports } => self.report(n, ReportContent::Units(reports)).await,
                Action::Facts { n, facts } => self.report(n, ReportContent::Facts(facts)).await,
                Action::UnitsGone { n, units } => self.report(n, ReportContent::Gone(units)).await,
                Action::Snapshot { n, units } => self.report(n, ReportContent::Snapshot(units)).await,
                Action::Renew { csr } => {
                    let answer = self.renew(&csr).await;
                    self.session.handle(clock::now(self.origin), answer);
                }
                Action::NotReferenced { count, example } => {
                    tracing::warn!(count, %example, "the agent asked for blobs that its offer does not reference");
                }
                Action::Close { code, message } => {
                    if code == RejectCode::Protocol {
                        tracing::warn!(why = message, "the agent broke the protocol");
                    }
                    self.closing = Some(format!("{}: {message}", code.as_str()));
                }
            }
        }
    }

    async fn established(&self, hello: Hello) {
        tracing::info!(pod = hello.pod, version = hello.agent_version, ratchet = ?hello.ratchet.map(|r| r.generation.to_string()),
            "the session is established");
        if self.identity.access == Access::Renewal {
            return;
        }
        let line = Line {
            connection: self.connection.clone(),
            wire: hello.wire_max.min(WIRE_VERSION),
            agent_version: hello.agent_version,
            room: Arc::new(Semaphore::new(ASKS_OPEN)),
        };
        self.shared.registry.established(self.cluster.id, self.number, line);
        // Through the registry, so that an older offer cannot overtake a newer one.
        match current(self.shared, self.cluster.id).await {
            Ok(Some(offer)) => self.shared.registry.offer_first(self.cluster.id, self.number, offer),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(error = %crate::chain(&error), "the current offer cannot be read; it is tried again");
            }
        }
        self.shared.wake.rollout.notify_one();
    }

    fn serve_blobs(&mut self, transfer: TransferId, digests: Vec<Digest>) {
        let (store, connection) = (self.shared.store.clone(), self.connection.clone());
        let work = async move {
            let asked = digests.len();
            match store.blobs(digests).await {
                Ok(blobs) => {
                    if blobs.len() < asked {
                        tracing::warn!(missing = asked - blobs.len(), "the store lacks blobs of an offer");
                    }
                    let blobs: Vec<_> = blobs.into_iter().map(|(digest, bytes)| (digest, bytes.into())).collect();
                    if let Err(error) = stream::send_transfer(&connection, transfer, &blobs).await {
                        tracing::info!(error = %crate::chain(&error), "a transfer was not finished");
                    }
                }
                Err(error) => tracing::error!(error = %crate::chain(&error), "the blobs of an offer cannot be read"),
            }
            transfer
        };
        self.transfers.spawn(work.in_current_span());
    }

    async fn settle(&self, generation: Generation, refused: Option<(String, String)>) {
        let stored = self.shared.store.settle(self.cluster.id, generation, refused, clock::millis()).await;
        if let Err(error) = stored {
            tracing::error!(error = %crate::chain(&error), "the answer to an offer cannot be stored");
        }
        self.shared.wake.rollout.notify_one();
    }

    async fn report(&self, n: u64, content: ReportContent) {
        let write =
            ReportWrite { cluster: self.cluster.id, session: self.number, n, received: clock::millis(), content };
        // Waits while the store is behind; the agent waits with us. It is closed only when the hub stops.
        let _ = self.reports.send(Report { write, stored: self.stored.clone() }).await;
    }

    async fn renew(&self, csr: &[u8]) -> Input {
        let refuse = |message: String| {
            tracing::warn!(why = message, "a certificate was not renewed");
            Input::RenewRefused { message }
        };
        let asked = match AgentRequest::parse(csr) {
            Ok(asked) => asked,
            Err(error) => return refuse(crate::chain(&error)),
        };
        let certified = match certify(self.shared, self.cluster.id, &asked).await {
            Ok(Some(certified)) => certified,
            Ok(None) => return refuse("the cluster was removed".to_owned()),
            Err(error) => return refuse(error),
        };
        tracing::info!(expires = certified.expires, "a certificate was renewed");
        if self.identity.access == Access::Renewal {
            let ago = clock::seconds().saturating_sub(self.identity.not_after);
            audit(self.shared, self.identity, "renewExpired", format!("it had expired {ago} s before")).await;
        }
        Input::Renewed { chain: certified.chain }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn read(mut receiver: stream::Receiver<AgentToHub>, messages: mpsc::Sender<Result<AgentToHub, QuicError>>) {
    loop {
        let message = match receiver.receive().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if messages.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn write(mut sender: stream::Sender<HubToAgent>, mut queue: mpsc::Receiver<HubToAgent>) {
    while let Some(message) = queue.recv().await {
        if sender.send(&message).await.is_err() {
            return;
        }
    }
    sender.finish(LAST_WORDS).await;
}

/// Asks every connected agent of these clusters to look again; which were not connected.
pub(crate) fn hint_all(shared: &Shared, clusters: &[Cluster], hint: &Hint) -> Vec<ClusterId> {
    clusters.iter().filter(|c| !shared.registry.hint(c.id, hint.clone())).map(|c| c.id).collect()
}
