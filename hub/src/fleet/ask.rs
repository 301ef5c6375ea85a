//! Asks the agent that leads a cluster, and waits for its answer: bounded in number and time, beside its session.

use std::time::Duration;

use driftless_protocol::ask::{Answer, Question, refusal};
use driftless_protocol::id::{ClusterId, ClusterName};
use driftless_protocol::message::ASK_SINCE;
use driftless_protocol::quic::stream;

use crate::http::error::Refusal;
use crate::shared::Shared;

/// Time for question and answer to travel, beside the time the agent has.
const TRAVEL: Duration = Duration::from_secs(3);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotAsked {
    #[error("the agent of {cluster} is not connected, so it cannot be asked; `driftless status` says since when")]
    Away { cluster: ClusterName },
    #[error(
        "the agent of {cluster} is too old to answer (version {version}, wire version {wire}; {ASK_SINCE} is needed); update it"
    )]
    TooOld { cluster: ClusterName, version: String, wire: u8 },
    #[error("the agent of {cluster} answers other questions; ask again in a moment")]
    Busy { cluster: ClusterName },
    #[error("the agent of {cluster} did not answer within {seconds} s")]
    Late { cluster: ClusterName, seconds: u64 },
    #[error("the agent of {cluster} was lost while it was asked: {why}")]
    Lost { cluster: ClusterName, why: String },
    #[error("the agent of {cluster} does not answer: {message}")]
    Refused { cluster: ClusterName, code: String, message: String },
    #[error(
        "the answer of the agent of {cluster} cannot be read by this hub; is the agent newer? update the hub ({why})"
    )]
    Unreadable { cluster: ClusterName, why: String },
    #[error("{0}")]
    TooMuch(String),
}

impl From<NotAsked> for Refusal {
    fn from(why: NotAsked) -> Self {
        let text = why.to_string();
        match why {
            NotAsked::TooMuch(_) => Self::bad(text),
            NotAsked::Refused { code, .. } if code == refusal::TOO_MUCH => Self::bad(text),
            NotAsked::Refused { code, .. } if code == refusal::DISABLED => Self::forbidden(text),
            NotAsked::TooOld { .. } => Self::conflict(text),
            NotAsked::Refused { code, .. } if code == refusal::UNKNOWN => Self::conflict(text),
            _ => Self::unavailable(text),
        }
    }
}

/// Asks. `time` is what the agent has for its answer; waiting for room among the open questions is part of it.
pub(crate) async fn ask(
    shared: &Shared,
    id: ClusterId,
    cluster: &ClusterName,
    question: &Question,
    time: Duration,
) -> Result<Answer, NotAsked> {
    let cluster = || cluster.clone();
    let Some(line) = shared.registry.line(id) else { return Err(NotAsked::Away { cluster: cluster() }) };
    if line.wire < ASK_SINCE {
        return Err(NotAsked::TooOld { cluster: cluster(), version: line.agent_version, wire: line.wire });
    }
    let began = tokio::time::Instant::now();
    let room = tokio::time::timeout(time, line.room.clone().acquire_owned()).await;
    let Ok(Ok(_room)) = room else { return Err(NotAsked::Busy { cluster: cluster() }) };
    let left = time.saturating_sub(began.elapsed());
    let ask = question.pack(u32::try_from(left.as_millis()).unwrap_or(u32::MAX)).map_err(NotAsked::TooMuch)?;
    let asked = tokio::time::timeout(left + TRAVEL, stream::ask(&line.connection, &ask)).await;
    let answered = match asked {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) => return Err(NotAsked::Lost { cluster: cluster(), why: crate::chain(&error) }),
        Err(_) => return Err(NotAsked::Late { cluster: cluster(), seconds: time.as_secs() }),
    };
    match Answer::unpack(&answered) {
        Ok(Answer::Refused(not)) => Err(NotAsked::Refused { cluster: cluster(), code: not.code, message: not.message }),
        Ok(answer) => Ok(answer),
        Err(why) => Err(NotAsked::Unreadable { cluster: cluster(), why }),
    }
}

/// An answer to another question than the one asked.
pub(crate) fn another(cluster: &ClusterName) -> NotAsked {
    NotAsked::Unreadable { cluster: cluster.clone(), why: "it answers another question".to_owned() }
}
