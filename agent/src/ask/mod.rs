//! Answers the questions of the hub (`WIRE.md` section 6d): reads and dry runs, bounded, beside everything else.
//!
//! At most [`ASKS_OPEN`] at a time, each with its deadline, one request at a time each. Reading is done as the applier, dry
//! runs as the account that would write; nothing is written. What the engine knows is asked of the driver, a page of keys at a
//! time, so that nothing is copied whole and the driver never waits.
//!
//! | file | question |
//! |---|---|
//! | `why` | why is an object not healthy |
//! | `orphans` | what is there that nobody declares |
//! | `dry_run` | what would the API server say |

mod dry_run;
mod orphans;
mod why;

use std::sync::Arc;
use std::time::Duration;

use driftless_protocol::ask::{ASK_MS, ASKS_OPEN, Answer, Answered, Ask, Question, refusal};
use driftless_protocol::bundle::ServiceAccount;
use driftless_protocol::object::ObjectKey;
use driftless_reconcile::input::Millis;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::api::{Actor, Api};
use crate::cluster::discovery::Served;

/// Longest time of one request: admission webhooks may take their time in a dry run.
const REQUEST: Duration = Duration::from_secs(15);
/// Kept back from a deadline, so that what was found so far still arrives.
const MARGIN: Duration = Duration::from_millis(1500);

/// A question and where its answer goes. Nobody listens any more when `reply` is closed.
#[derive(Debug)]
pub struct Asked {
    /// As it came.
    pub ask: Ask,
    /// Where to.
    pub reply: oneshot::Sender<Answered>,
}

/// What a question wants to know of the driver.
#[derive(Debug)]
pub enum Query {
    /// Which of these somebody declares, or we own; `None`: not known yet.
    Known {
        /// At most a page of keys.
        keys: Vec<ObjectKey>,
        /// In their order.
        answer: oneshot::Sender<Option<Vec<bool>>>,
    },
    /// Kinds as served now.
    Served {
        /// The table.
        answer: oneshot::Sender<Arc<Served>>,
    },
}

/// What answering needs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Requests.
    pub api: Api,
    /// Who reads.
    pub applier: ServiceAccount,
    /// Whether objects may be dry-run.
    pub dry_run: bool,
    /// To the driver.
    pub queries: mpsc::Sender<Query>,
    /// The clock, in Unix milliseconds.
    pub clock: fn() -> Millis,
}

/// Answers until cancelled, or until nobody can ask any more.
pub async fn run(setup: Setup, mut asked: mpsc::Receiver<Asked>, cancel: CancellationToken) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => break,
            Some(_) = answering.join_next() => {}
            question = asked.recv(), if answering.len() < ASKS_OPEN => match question {
                Some(asked) => {
                    answering.spawn(one(setup.clone(), asked));
                }
                None => break,
            },
        }
    }
    answering.shutdown().await;
}

async fn one(setup: Setup, asked: Asked) {
    let Asked { ask, mut reply } = asked;
    let time = Duration::from_millis(u64::from(ask.deadline_ms.min(ASK_MS)));
    let look = Look {
        api: setup.api.with_deadline(REQUEST),
        actor: Actor::Account(setup.applier.clone()),
        deadline: Instant::now() + time.saturating_sub(MARGIN),
        setup,
    };
    let work = tokio::time::timeout(time, answer(&look, &ask));
    let answer = tokio::select! {
        answer = work => answer.unwrap_or_else(|_| {
            let seconds = time.as_secs();
            Answer::refused(refusal::LATE, format!("not done within {seconds} s; the API server may be slow, ask for less"))
        }),
        // The hub waits no more.
        () = reply.closed() => return,
    };
    let _ = reply.send(answer.pack());
}

async fn answer(look: &Look, ask: &Ask) -> Answer {
    let Some(question) = Question::unpack(ask) else {
        return Answer::refused(refusal::UNKNOWN, "this agent does not know the question; update the agent");
    };
    let what = match &question {
        Question::Why(_) => "why",
        Question::Orphans(_) => "orphans",
        Question::DryRun(_) => "dryRun",
    };
    tracing::debug!(what, "the hub asks");
    let answered = match question {
        Question::Why(question) => why::answer(look, question).await,
        Question::Orphans(question) => orphans::answer(look, question).await,
        Question::DryRun(question) => dry_run::answer(look, question).await,
    };
    answered.unwrap_or_else(|not| not)
}

/// What one answer is made with.
struct Look {
    setup: Setup,
    api: Api,
    /// Who reads.
    actor: Actor,
    /// When to come to an end with what was found.
    deadline: Instant,
}

impl Look {
    /// No time is left for another request.
    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    async fn known(&self, keys: Vec<ObjectKey>) -> Result<Vec<bool>, Answer> {
        let (answer, known) = oneshot::channel();
        self.query(Query::Known { keys, answer }).await?;
        known.await.ok().flatten().ok_or_else(|| {
            let why = "the agent has no bundle or no whole inventory yet, so it cannot tell what is declared; try again later";
            Answer::refused(refusal::FAILED, why)
        })
    }

    async fn served(&self) -> Result<Arc<Served>, Answer> {
        let (answer, served) = oneshot::channel();
        self.query(Query::Served { answer }).await?;
        served.await.map_err(|_| ending())
    }

    async fn query(&self, query: Query) -> Result<(), Answer> {
        self.setup.queries.send(query).await.map_err(|_| ending())
    }
}

fn ending() -> Answer {
    Answer::refused(refusal::FAILED, "this agent stops leading; ask again in a moment")
}
