//! The requests of a contestant, as the API server's audit log has them: how many, of what, and when.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;

use crate::world::AuditEvent;

/// Every request of the agent, and the writes of the peers' account.
pub(super) const RULES: &str = "  - level: Metadata
    users: [\"system:serviceaccount:driftless-system:driftless-agent\"]
  - level: Metadata
    verbs: [create, update, patch, delete, deletecollection]
    users: [\"system:serviceaccount:default:bench\"]
";

/// The agent, in the log.
pub(super) const AGENT: &str = "system:serviceaccount:driftless-system:driftless-agent";
/// The peers.
pub(super) const PEER: &str = "system:serviceaccount:default:bench";

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) user: String,
    pub(super) verb: String,
    pub(super) namespace: String,
    pub(super) resource: String,
    pub(super) dry_run: bool,
    pub(super) code: u16,
    /// Unix seconds.
    pub(super) received: f64,
    pub(super) answered: f64,
}

/// Reads a log as it grows.
#[derive(Debug)]
pub(super) struct Tail {
    file: PathBuf,
    at: u64,
    half: Vec<u8>,
}

impl Tail {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), at: 0, half: Vec::new() }
    }

    /// What was logged since the last call.
    pub(super) fn news(&mut self) -> Result<Vec<Asked>> {
        let mut file = File::open(&self.file).with_context(|| format!("read {}", self.file.display()))?;
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read_to_end(&mut self.half).context("read the audit log")?;
        self.at += read as u64;
        let whole = self.half.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let rest = self.half.split_off(whole);
        let lines = std::mem::replace(&mut self.half, rest);
        lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
    }
}

fn parse(line: &[u8]) -> Result<Asked> {
    let event: AuditEvent = serde_json::from_slice(line).context("read a line of the audit log")?;
    let object = event.object_ref.unwrap_or_default();
    let time = |text: Option<String>| -> Result<f64> {
        let text = text.context("an event without its time")?;
        let time: Timestamp = text.parse().with_context(|| format!("read the time {text:?}"))?;
        Ok(time.as_microsecond() as f64 / 1e6)
    };
    Ok(Asked {
        dry_run: event.uri.contains("dryRun="),
        user: event.user.username,
        verb: event.verb,
        namespace: object.namespace,
        resource: object.resource,
        code: event.response_status.map_or(0, |status| status.code),
        received: time(event.request_received_timestamp)?,
        answered: time(event.stage_timestamp)?,
    })
}

/// Some requests together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) count: usize,
    /// The first came in; Unix seconds.
    pub(super) first: f64,
    /// The last was answered.
    pub(super) last: f64,
}

impl Span {
    pub(super) fn add(&mut self, asked: &Asked) {
        self.first = if self.count == 0 { asked.received } else { self.first.min(asked.received) };
        self.last = self.last.max(asked.answered);
        self.count += 1;
    }

    /// From the first to the last, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.last - self.first
    }
}

impl Asked {
    /// It asked for a write.
    pub(super) fn writes(&self) -> bool {
        !self.dry_run && matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete")
    }

    /// A write that changed, or could have changed, an object in this namespace.
    pub(super) fn writes_in(&self, namespace: &str) -> bool {
        self.writes() && self.namespace == namespace && (200..300).contains(&self.code)
    }
}

/// The time now, as the log writes it.
pub(super) fn now() -> f64 {
    Timestamp::now().as_microsecond() as f64 / 1e6
}
