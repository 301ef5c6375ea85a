//! Who is connected: the newest session of a cluster wins, and offers and hints find their way.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use driftless_protocol::id::{ClusterId, Generation};
use driftless_protocol::message::{Hint, RejectCode};
use driftless_protocol::session::Access;
use driftless_protocol::session::hub::Current;
use quinn::Connection;
use tokio::sync::{Semaphore, mpsc, watch};

/// Hints that wait for a session. What they ask for is also done without them, so one too many is dropped.
const COMMANDS: usize = 16;

/// What a session is told.
#[derive(Debug)]
pub(crate) enum Command {
    Hint(Hint),
    Reject(RejectCode, String),
}

/// A session's ends of its channels.
#[derive(Debug)]
pub(crate) struct Mailbox {
    pub(crate) offers: watch::Receiver<Option<Current>>,
    pub(crate) commands: mpsc::Receiver<Command>,
}

#[derive(Debug)]
struct Entry {
    session: u64,
    access: Access,
    peer: SocketAddr,
    since: u64,
    /// What the session offers.
    offered: Option<Generation>,
    offers: watch::Sender<Option<Current>>,
    commands: mpsc::Sender<Command>,
    /// Since the agent said hello.
    line: Option<Line>,
}

/// What it takes to ask an agent.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) connection: Connection,
    /// The wire version of the session.
    pub(crate) wire: u8,
    pub(crate) agent_version: String,
    /// One permit for each question that may be open.
    pub(crate) room: Arc<Semaphore>,
}

/// A session, for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connected {
    pub(crate) peer: SocketAddr,
    /// Unix milliseconds.
    pub(crate) since: u64,
}

/// All sessions of this hub.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    sessions: Mutex<BTreeMap<ClusterId, Entry>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a cluster's session, unless it is for a renewal only.
    fn with<T>(&self, cluster: ClusterId, look: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().get_mut(&cluster).filter(|e| e.access == Access::Full).map(look)
    }

    /// Enters a session, and ends the one it replaces. `None`: a newer one is there already.
    ///
    /// One that is for a renewal only is here so that it is ended like any other; to all else the cluster is not connected.
    pub(crate) fn enter(
        &self,
        cluster: ClusterId,
        session: u64,
        access: Access,
        peer: SocketAddr,
        since: u64,
    ) -> Option<Mailbox> {
        let (offers, offers_in) = watch::channel(None);
        let (commands, commands_in) = mpsc::channel(COMMANDS);
        let mut sessions = self.lock();
        if sessions.get(&cluster).is_some_and(|old| old.session > session) {
            return None;
        }
        let new = Entry { session, access, peer, since, offered: None, offers, commands, line: None };
        let old = sessions.insert(cluster, new);
        drop(sessions);
        if let Some(old) = old {
            let message = format!("the cluster connected anew from {peer}");
            // A full queue is closed by dropping its sender, which ends the session as well.
            let _ = old.commands.try_send(Command::Reject(RejectCode::Replaced, message));
        }
        Some(Mailbox { offers: offers_in, commands: commands_in })
    }

    /// Takes a session out, unless another took its place. Whether it was the one.
    pub(crate) fn leave(&self, cluster: ClusterId, session: u64) -> bool {
        let mut sessions = self.lock();
        let ours = sessions.get(&cluster).is_some_and(|e| e.session == session);
        if ours {
            sessions.remove(&cluster);
        }
        ours
    }

    pub(crate) fn connected(&self, cluster: ClusterId) -> Option<Connected> {
        self.with(cluster, |e| Connected { peer: e.peer, since: e.since })
    }

    pub(crate) fn is_connected(&self, cluster: ClusterId) -> bool {
        self.with(cluster, |_| ()).is_some()
    }

    /// The agent of a session said hello: it can be asked.
    pub(crate) fn established(&self, cluster: ClusterId, session: u64, line: Line) {
        self.with(cluster, |entry| {
            if entry.session == session {
                entry.line = Some(line);
            }
        });
    }

    /// How to ask a cluster's agent; `None`: it is not connected here.
    pub(crate) fn line(&self, cluster: ClusterId) -> Option<Line> {
        self.with(cluster, |e| e.line.clone()).flatten()
    }

    /// The newest offer wins; one that was not sent yet is replaced.
    pub(crate) fn offer(&self, cluster: ClusterId, current: Current) {
        self.with(cluster, |entry| {
            entry.offered = Some(current.generation);
            entry.offers.send_replace(Some(current));
        });
    }

    /// The offer a session begins with, unless a newer one came meanwhile.
    pub(crate) fn offer_first(&self, cluster: ClusterId, session: u64, current: Current) {
        self.with(cluster, |entry| {
            if entry.session == session && entry.offered.is_none_or(|offered| offered < current.generation) {
                entry.offered = Some(current.generation);
                entry.offers.send_replace(Some(current));
            }
        });
    }

    /// What its session offers; `None`: it has none here.
    pub(crate) fn offered(&self, cluster: ClusterId) -> Option<Option<Generation>> {
        self.with(cluster, |e| e.offered)
    }

    /// Whether the cluster is connected here.
    pub(crate) fn hint(&self, cluster: ClusterId, hint: Hint) -> bool {
        let hinted = self.with(cluster, |entry| {
            let _ = entry.commands.try_send(Command::Hint(hint));
        });
        hinted.is_some()
    }

    /// Ends a session for good.
    pub(crate) fn reject(&self, cluster: ClusterId, code: RejectCode, message: &str) {
        if let Some(entry) = self.lock().remove(&cluster) {
            let _ = entry.commands.try_send(Command::Reject(code, message.to_owned()));
        }
    }
}
