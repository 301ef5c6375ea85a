//! One connection: a writer for the control stream, a reader for it, and readers for transfers, all in one set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::ask::{Answer, refusal};
use driftless_protocol::id::TransferId;
use driftless_protocol::message::{AgentToHub, HubToAgent, RejectCode};
use driftless_protocol::quic::stream::{self, AskStream, Receiver, Sender};
use driftless_protocol::quic::{QuicError, agent_endpoint, close, connect, rejected_code};
use driftless_protocol::wire::transfer::Blob;
use quinn::{Connection, Endpoint, RecvStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::ask::Asked;
use crate::cluster::api::chain;
use crate::identity::{resolve, unspecified};

/// How long one address may take to answer.
const CONNECT: Duration = Duration::from_secs(10);
/// Messages read and not taken in yet. When full the stream waits, and QUIC holds the hub back.
const HEARD: usize = 16;

/// A connection with its control stream.
#[derive(Debug)]
pub(super) struct Connected {
    /// The hub.
    pub(super) peer: SocketAddr,
    endpoint: Endpoint,
    connection: Connection,
    send: Sender<AgentToHub>,
    receive: Receiver<HubToAgent>,
}

/// What came from the hub.
#[derive(Debug)]
pub(super) enum Heard {
    /// On the control stream.
    Message(HubToAgent),
    /// A transfer begins: how long may it be?
    Header { transfer: TransferId, answer: oneshot::Sender<Option<u64>> },
    /// A transfer, whole.
    Transfer { transfer: TransferId, blobs: Vec<Blob>, altered: usize },
    /// A transfer that broke.
    TransferFailed { transfer: TransferId, message: String },
    /// The connection is over.
    Closed { message: String, is_final: bool },
}

/// Connects to the first address behind the name that answers, and opens the control stream.
pub(super) async fn open(
    address: String,
    server_name: String,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Connected, String> {
    let mut last = format!("{address} has no addresses");
    for peer in resolve(&address).await.map_err(|e| chain(&e))? {
        match open_one(peer, &server_name, &tls).await {
            Ok(connected) => return Ok(connected),
            Err(error) => last = chain(&error),
        }
    }
    Err(last)
}

async fn open_one(
    peer: SocketAddr,
    server_name: &str,
    tls: &Arc<rustls::ClientConfig>,
) -> Result<Connected, QuicError> {
    // An endpoint of its own: a new connection then has a new port, which some NATs need after they lost a flow.
    let endpoint = agent_endpoint(unspecified(peer))?;
    let connection = connect(&endpoint, Arc::clone(tls), peer, server_name, CONNECT).await?;
    let (send, receive) = stream::open_control(&connection).await?;
    Ok(Connected { peer, endpoint, connection, send, receive })
}

/// A connection at work. Dropping it ends its tasks and closes it.
pub(super) struct Wire {
    endpoint: Endpoint,
    connection: Connection,
    outgoing: mpsc::Sender<AgentToHub>,
    heard: mpsc::Receiver<Heard>,
    tasks: JoinSet<()>,
}

impl Wire {
    pub(super) fn new(connected: Connected, asks: mpsc::Sender<Asked>) -> Self {
        let Connected { endpoint, connection, send, receive, .. } = connected;
        // One message beside the one being written: the session keeps the newest state until the stream takes it.
        let (outgoing, to_send) = mpsc::channel(1);
        let (tell, heard) = mpsc::channel(HEARD);
        let mut tasks = JoinSet::new();
        tasks.spawn(write(send, to_send));
        tasks.spawn(read(receive, connection.clone(), tell.clone()));
        tasks.spawn(read_transfers(connection.clone(), tell));
        tasks.spawn(read_asks(connection.clone(), asks));
        Self { endpoint, connection, outgoing, heard, tasks }
    }

    /// Gives the writer a message; [`Wire::next`] said that it can take one.
    pub(super) fn send(&self, message: AgentToHub) {
        if self.outgoing.try_send(message).is_err() {
            // The writer ended, and the connection with it; the next session says everything again.
            tracing::debug!("a message was not sent: the connection is ending");
        }
    }

    /// What comes next; `None`: the writer can take a message (asked for only when `sending`).
    pub(super) async fn next(&mut self, sending: bool) -> Option<Heard> {
        tokio::select! {
            heard = self.heard.recv() => {
                Some(heard.unwrap_or_else(|| Heard::Closed { message: "its readers ended".into(), is_final: false }))
            }
            Ok(permit) = self.outgoing.reserve(), if sending => {
                drop(permit);
                None
            }
        }
    }

    /// Lets the writer finish what it has, then closes.
    pub(super) async fn close(self, patience: Duration) {
        let Self { endpoint, connection, outgoing, heard, mut tasks } = self;
        drop((outgoing, heard));
        // The writer ends when its channel is closed and its stream acknowledged; the readers by the close below.
        let _ = tokio::time::timeout(patience, tasks.join_next()).await;
        connection.close(close::DONE, b"");
        tasks.shutdown().await;
        let _ = tokio::time::timeout(patience, endpoint.wait_idle()).await;
    }
}

async fn write(mut send: Sender<AgentToHub>, mut messages: mpsc::Receiver<AgentToHub>) {
    while let Some(message) = messages.recv().await {
        if let Err(error) = send.send(&message).await {
            // The reader notices a lost connection; a message that cannot be encoded is our own fault.
            tracing::debug!(error = chain(&error), "a message was not sent");
            return;
        }
    }
    send.finish(Duration::from_secs(1)).await;
}

async fn read(mut receive: Receiver<HubToAgent>, connection: Connection, tell: mpsc::Sender<Heard>) {
    loop {
        let heard = match receive.receive().await {
            Ok(Some(message)) => Heard::Message(message),
            Ok(None) => {
                // The hub said all; it will close, with a code if it has a reason.
                let error = tokio::time::timeout(Duration::from_secs(2), connection.closed()).await;
                closed(error.ok().as_ref(), "the hub ended the session".into())
            }
            Err(error) => {
                if matches!(error, QuicError::Wire(_)) {
                    connection.close(close::PROTOCOL, b"protocol");
                }
                let reason = connection.close_reason();
                closed(reason.as_ref(), chain(&error))
            }
        };
        let over = matches!(heard, Heard::Closed { .. });
        if tell.send(heard).await.is_err() || over {
            return;
        }
    }
}

fn closed(error: Option<&quinn::ConnectionError>, message: String) -> Heard {
    let code = error.and_then(rejected_code);
    let finals = [RejectCode::Version, RejectCode::WrongCluster, RejectCode::WrongKubeUid, RejectCode::Revoked];
    let is_final = code.is_some_and(|code| {
        finals.iter().any(|f| close::rejected(*f) == code)
            || code == close::NO_CERTIFICATE
            || code == close::BAD_CERTIFICATE
    });
    let message = error.map_or(message, ToString::to_string);
    Heard::Closed { message, is_final }
}

async fn read_transfers(connection: Connection, tell: mpsc::Sender<Heard>) {
    let mut readers = JoinSet::new();
    loop {
        tokio::select! {
            stream = stream::accept_transfer(&connection) => match stream {
                // QUIC grants eight streams at a time, so there are never more readers.
                Ok(stream) => {
                    readers.spawn(read_transfer(stream, tell.clone()));
                }
                // The reader of the control stream says so.
                Err(_) => return,
            },
            Some(_) = readers.join_next() => {}
        }
    }
}

async fn read_transfer(mut stream: RecvStream, tell: mpsc::Sender<Heard>) {
    let header = match stream::receive_transfer_header(&mut stream).await {
        Ok(header) => header,
        Err(error) => {
            tracing::warn!(error = chain(&error), "a transfer without a readable header");
            return;
        }
    };
    let transfer = header.transfer;
    let (answer, limit) = oneshot::channel();
    if tell.send(Heard::Header { transfer, answer }).await.is_err() {
        return;
    }
    let limit = limit.await.unwrap_or(None);
    let heard = match stream::receive_transfer_body(&mut stream, &header, limit).await {
        Ok(unpacked) => {
            if let Some(digest) = unpacked.altered.first() {
                tracing::warn!(%transfer, %digest, count = unpacked.altered.len(), "blobs came with altered bytes");
            }
            Heard::Transfer { transfer, blobs: unpacked.blobs, altered: unpacked.altered.len() }
        }
        Err(error) => Heard::TransferFailed { transfer, message: chain(&error) },
    };
    // Nobody listens any more: the connection is being given up.
    let _ = tell.send(heard).await;
}

/// Questions, each on a stream of its own; QUIC grants four at a time, so there are never more of these tasks.
async fn read_asks(connection: Connection, asks: mpsc::Sender<Asked>) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            stream = stream::accept_ask(&connection) => match stream {
                Ok(stream) => {
                    answering.spawn(pass_on(stream, asks.clone()));
                }
                // The reader of the control stream says so.
                Err(_) => return,
            },
            Some(_) = answering.join_next() => {}
        }
    }
}

async fn pass_on(mut stream: AskStream, asks: mpsc::Sender<Asked>) {
    let ask = match stream.read().await {
        Ok(ask) => ask,
        Err(error) => {
            tracing::warn!(error = chain(&error), "a question that cannot be read");
            return;
        }
    };
    let (reply, answer) = oneshot::channel();
    let busy = || Answer::refused(refusal::BUSY, "the agent answers other questions; ask again in a moment").pack();
    let answered = match asks.try_send(Asked { ask, reply }) {
        Ok(()) => tokio::select! {
            answered = answer => answered.unwrap_or_else(|_| busy()),
            // Dropping the receiver ends the work.
            () = stream.given_up() => return,
        },
        Err(_) => busy(),
    };
    if let Err(error) = stream.answer(&answered).await {
        tracing::debug!(error = chain(&error), "an answer was not sent");
    }
}
