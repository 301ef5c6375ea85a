//! Messages and transfers on QUIC streams. Every length is checked before anything of that length is read.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use quinn::{Connection, ReadExactError, RecvStream, SendStream};
use tokio::time::timeout;

use super::{QuicError, limits};
use crate::ask::{Answered, Ask};
use crate::enroll::{EnrollAnswer, EnrollRequest};
use crate::id::TransferId;
use crate::message::{AgentToHub, HubToAgent, WIRE_VERSION};
use crate::wire::transfer::{self, Blob, TransferHeader, Unpacked};
use crate::wire::{FrameHeader, Message};

/// The agent's control stream: sends and receives.
pub type AgentControl = (Sender<AgentToHub>, Receiver<HubToAgent>);
/// The hub's control stream: sends and receives.
pub type HubControl = (Sender<HubToAgent>, Receiver<AgentToHub>);

/// The sending half of a control stream.
#[derive(Debug)]
pub struct Sender<M> {
    stream: SendStream,
    /// The version of the session: shared by both halves, since one of them hears of it.
    wire: Arc<AtomicU8>,
    message: PhantomData<fn(M)>,
}

/// The receiving half of a control stream.
#[derive(Debug)]
pub struct Receiver<M> {
    stream: RecvStream,
    wire: Arc<AtomicU8>,
    message: PhantomData<fn() -> M>,
}

/// Opens the control stream. It exists for the hub once the first message is sent.
pub async fn open_control(connection: &Connection) -> Result<AgentControl, QuicError> {
    let (send, receive) = connection.open_bi().await.map_err(|e| lost("opening the control stream", e))?;
    Ok(control(send, receive))
}

/// Waits for the agent's control stream.
pub async fn accept_control(connection: &Connection) -> Result<HubControl, QuicError> {
    let (send, receive) = connection.accept_bi().await.map_err(|e| lost("waiting for the control stream", e))?;
    Ok(control(send, receive))
}

fn control<O, I>(send: SendStream, receive: RecvStream) -> (Sender<O>, Receiver<I>) {
    // A revocation must overtake a transfer.
    let _ = send.set_priority(1);
    let wire = Arc::new(AtomicU8::new(WIRE_VERSION));
    (
        Sender { stream: send, wire: Arc::clone(&wire), message: PhantomData },
        Receiver { stream: receive, wire, message: PhantomData },
    )
}

impl<M: Message> Sender<M> {
    /// Writes one message; returns when the stream has taken it. No time limit: the session has its own.
    ///
    /// Not cancel-safe: a message that was begun must be finished, or the connection closed.
    pub async fn send(&mut self, message: &M) -> Result<(), QuicError> {
        let frame = message.encode(self.wire.load(Ordering::Relaxed))?;
        self.stream.write_all(&frame).await.map_err(|e| lost("sending on the control stream", e))
    }

    /// Nothing more will be sent; waits until the other side has everything, or is gone, or the time is over.
    pub async fn finish(mut self, patience: Duration) {
        if self.stream.finish().is_ok() {
            // Either way the stream is over; there is nothing to report.
            let _ = timeout(patience, self.stream.stopped()).await;
        }
    }
}

impl<M: Message> Receiver<M> {
    /// Reads one message; `None` when the other side has finished. Waits for its first byte without limit.
    ///
    /// Not cancel-safe: give it a task of its own.
    pub async fn receive(&mut self) -> Result<Option<M>, QuicError> {
        let wire = self.wire.load(Ordering::Relaxed);
        let message: Option<M> = read_message(&mut self.stream, wire, "reading the control stream").await?;
        if let Some(wire) = message.as_ref().and_then(Message::session_wire) {
            self.wire.store(wire, Ordering::Relaxed);
        }
        Ok(message)
    }
}

async fn read_message<M: Message>(
    stream: &mut RecvStream,
    wire: u8,
    doing: &'static str,
) -> Result<Option<M>, QuicError> {
    let Some(header) = read_header::<M>(stream, wire, doing).await? else { return Ok(None) };
    // Within the limit of its kind by now, so this allocation is bounded.
    let mut payload = vec![0; header.len as usize];
    within(limits::FRAME_TIMEOUT, doing, stream.read_exact(&mut payload)).await?.map_err(|e| lost(doing, e))?;
    Ok(Some(M::decode(header.kind, &payload)?))
}

async fn read_header<M: Message>(
    stream: &mut RecvStream,
    wire: u8,
    doing: &'static str,
) -> Result<Option<FrameHeader>, QuicError> {
    let mut header = [0; FrameHeader::LEN];
    let (first, rest) = header.split_at_mut(1);
    match stream.read_exact(first).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(_)) => return Ok(None),
        Err(error) => return Err(lost(doing, error)),
    }
    within(limits::FRAME_TIMEOUT, doing, stream.read_exact(rest)).await?.map_err(|e| lost(doing, e))?;
    Ok(Some(FrameHeader::parse::<M>(&header, wire)?))
}

/// Answers one `Need` on a stream of its own. Returns when the stream has taken everything.
pub async fn send_transfer(connection: &Connection, transfer: TransferId, blobs: &[Blob]) -> Result<(), QuicError> {
    let doing = "sending a transfer";
    let (header, body) = transfer::pack(transfer, blobs)?;
    let mut stream = connection.open_uni().await.map_err(|e| lost(doing, e))?;
    stream.write_all(&header.encode(WIRE_VERSION)?).await.map_err(|e| lost(doing, e))?;
    stream.write_all(&body).await.map_err(|e| lost(doing, e))?;
    stream.finish().map_err(|e| lost(doing, e))
}

/// Waits for the next transfer stream.
pub async fn accept_transfer(connection: &Connection) -> Result<RecvStream, QuicError> {
    connection.accept_uni().await.map_err(|e| lost("waiting for a transfer", e))
}

/// Reads a transfer's header: which `Need` it answers, and how long it claims to be.
pub async fn receive_transfer_header(stream: &mut RecvStream) -> Result<TransferHeader, QuicError> {
    let doing = "reading a transfer";
    within(limits::FRAME_TIMEOUT, doing, read_message::<TransferHeader>(stream, WIRE_VERSION, doing))
        .await??
        .ok_or_else(|| lost(doing, "the stream is empty"))
}

/// Reads a transfer's body, of at most `limit` raw bytes (what was asked for), and hashes its blobs.
pub async fn receive_transfer_body(
    stream: &mut RecvStream,
    header: &TransferHeader,
    limit: Option<u64>,
) -> Result<Unpacked, QuicError> {
    let limit = limit.ok_or(QuicError::Unasked(header.transfer))?;
    if header.raw_length > limit {
        let len = header.raw_length;
        return Err(crate::wire::WireError::TooLong { what: "transfer", len, limit }.into());
    }
    let most = usize::try_from(transfer::packed_limit(header.raw_length)).unwrap_or(usize::MAX);
    let body = stream.read_to_end(most).await.map_err(|e| lost("reading a transfer", e))?;
    Ok(transfer::unpack(header, &body)?)
}

/// Asks for an identity, on a connection of `driftless-enroll/1`.
pub async fn enroll(connection: &Connection, request: &EnrollRequest) -> Result<EnrollAnswer, QuicError> {
    let doing = "enrolling";
    let exchange = async {
        let (mut send, mut receive) = connection.open_bi().await.map_err(|e| lost(doing, e))?;
        let frame = zeroize::Zeroizing::new(request.encode(WIRE_VERSION)?);
        send.write_all(&frame).await.map_err(|e| lost(doing, e))?;
        send.finish().map_err(|e| lost(doing, e))?;
        read_message::<EnrollAnswer>(&mut receive, WIRE_VERSION, doing)
            .await?
            .ok_or_else(|| lost(doing, "the hub finished without an answer"))
    };
    let answer = within(limits::ENROLL_TIMEOUT, doing, exchange).await?;
    if answer.is_ok() {
        connection.close(super::close::DONE, b"");
    }
    answer
}

/// Answers one enrolment request.
#[derive(Debug)]
pub struct EnrollResponder(SendStream);

/// Reads the one request of a connection of `driftless-enroll/1`.
pub async fn receive_enroll(connection: &Connection) -> Result<(EnrollRequest, EnrollResponder), QuicError> {
    let doing = "reading an enrolment request";
    let exchange = async {
        let (send, mut receive) = connection.accept_bi().await.map_err(|e| lost(doing, e))?;
        let request = read_message::<EnrollRequest>(&mut receive, WIRE_VERSION, doing)
            .await?
            .ok_or_else(|| lost(doing, "the agent finished without a request"))?;
        Ok((request, EnrollResponder(send)))
    };
    // An enrolling peer is nobody yet; it gets the time of one frame.
    within(limits::FRAME_TIMEOUT, doing, exchange).await?
}

impl EnrollResponder {
    /// Answers, and waits until the agent has it.
    pub async fn answer(mut self, answer: &EnrollAnswer) -> Result<(), QuicError> {
        let doing = "answering an enrolment";
        let exchange = async {
            self.0.write_all(&answer.encode(WIRE_VERSION)?).await.map_err(|e| lost(doing, e))?;
            self.0.finish().map_err(|e| lost(doing, e))?;
            // The agent closes the connection once it has read the answer, which is an error here and a success there.
            let _ = self.0.stopped().await;
            Ok(())
        };
        within(limits::FRAME_TIMEOUT, doing, exchange).await?
    }
}

/// Asks on a stream of its own, and waits for the answer without limit: the caller has one. Dropping it gives the question
/// up, which the agent hears. Only in sessions of version [`ASK_SINCE`](crate::message::ASK_SINCE) and up: older agents grant
/// no stream.
pub async fn ask(connection: &Connection, ask: &Ask) -> Result<Answered, QuicError> {
    let doing = "asking the agent";
    let (mut send, mut receive) = connection.open_bi().await.map_err(|e| lost(doing, e))?;
    // What the cluster should run, and what it reports, come first.
    let _ = send.set_priority(-1);
    send.write_all(&ask.encode(WIRE_VERSION)?).await.map_err(|e| lost(doing, e))?;
    send.finish().map_err(|e| lost(doing, e))?;
    read_message::<Answered>(&mut receive, WIRE_VERSION, doing)
        .await?
        .ok_or_else(|| lost(doing, "the agent finished without an answer"))
}

/// A question that waits to be read and answered.
#[derive(Debug)]
pub struct AskStream {
    send: SendStream,
    receive: RecvStream,
}

/// Waits for the next question.
pub async fn accept_ask(connection: &Connection) -> Result<AskStream, QuicError> {
    let (send, receive) = connection.accept_bi().await.map_err(|e| lost("waiting for a question", e))?;
    let _ = send.set_priority(-1);
    Ok(AskStream { send, receive })
}

impl AskStream {
    /// Reads it, within the time of one frame.
    pub async fn read(&mut self) -> Result<Ask, QuicError> {
        let doing = "reading a question";
        within(limits::FRAME_TIMEOUT, doing, read_message::<Ask>(&mut self.receive, WIRE_VERSION, doing))
            .await??
            .ok_or_else(|| lost(doing, "the hub finished without a question"))
    }

    /// Returns when the hub does not wait any more.
    pub async fn given_up(&self) {
        // An error says the same: the connection is gone.
        let _ = self.send.stopped().await;
    }

    /// Answers; returns when the hub has it, does not want it, or the time of one frame is over.
    pub async fn answer(mut self, answered: &Answered) -> Result<(), QuicError> {
        let doing = "answering a question";
        let write = async {
            self.send.write_all(&answered.encode(WIRE_VERSION)?).await.map_err(|e| lost(doing, e))?;
            self.send.finish().map_err(|e| lost(doing, e))?;
            let _ = self.send.stopped().await;
            Ok(())
        };
        within(limits::FRAME_TIMEOUT, doing, write).await?
    }
}

async fn within<F: Future>(limit: Duration, doing: &'static str, future: F) -> Result<F::Output, QuicError> {
    timeout(limit, future).await.map_err(|_| QuicError::Timeout { doing, seconds: limit.as_secs() })
}

fn lost(doing: &'static str, reason: impl ToString) -> QuicError {
    QuicError::Lost { doing, reason: reason.to_string() }
}
