//! SQLite and PostgreSQL behind one narrow door: the same SQL text, three kinds of value.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::future::BoxFuture;
use sqlx::postgres::{PgConnection, PgPool, PgRow};
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Connection as _, Row as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::error::StoreError;

/// Jobs that wait for the SQLite writer; a caller beyond that waits to be queued.
const QUEUE: usize = 256;
/// Jobs committed together: one fsync for all of them.
const GROUP: usize = 128;

/// A value bound to a statement.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
}

macro_rules! arg_from {
    ($($from:ty => |$v:ident| $arg:expr;)*) => {
        $(impl From<$from> for Arg { fn from($v: $from) -> Self { $arg } })*
    };
}
arg_from! {
    i64 => |v| Arg::Int(Some(v));
    u64 => |v| Arg::Int(Some(signed(v)));
    Option<u64> => |v| Arg::Int(v.map(signed));
    String => |v| Arg::Text(Some(v));
    &str => |v| Arg::Text(Some(v.to_owned()));
    Option<String> => |v| Arg::Text(v);
    Vec<u8> => |v| Arg::Bytes(v);
}

/// Numbers here are counters and times: far below 2^63. One that is not stays at the end of the order.
fn signed(v: u64) -> i64 {
    i64::try_from(v).unwrap_or(i64::MAX)
}

/// Values for a statement, in order.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::db::Arg::from($value)),*] };
}
pub(crate) use args;

/// A connection of either database.
pub(crate) enum Conn<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! bind {
    ($query:expr, $args:expr) => {{
        let mut query = $query;
        for arg in $args {
            query = match arg {
                Arg::Int(v) => query.bind(v),
                Arg::Text(v) => query.bind(v),
                Arg::Bytes(v) => query.bind(v),
            };
        }
        query
    }};
}

impl Conn<'_> {
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// Runs a statement; how many rows it touched.
    pub(crate) async fn execute(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<u64, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(c) => bind!(sqlx::query(sql), args).execute(&mut **c).await?.rows_affected(),
            Self::Postgres(c) => bind!(sqlx::query(sql), args).execute(&mut **c).await?.rows_affected(),
        })
    }

    /// Every row of a query.
    pub(crate) async fn rows(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Vec<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(c) => {
                bind!(sqlx::query(sql), args).fetch_all(&mut **c).await?.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(c) => {
                bind!(sqlx::query(sql), args).fetch_all(&mut **c).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row of a query.
    pub(crate) async fn row(&mut self, sql: &'static str, args: Vec<Arg>) -> Result<Option<Row>, sqlx::Error> {
        Ok(match self {
            Self::Sqlite(c) => bind!(sqlx::query(sql), args).fetch_optional(&mut **c).await?.map(Row::Sqlite),
            Self::Postgres(c) => bind!(sqlx::query(sql), args).fetch_optional(&mut **c).await?.map(Row::Postgres),
        })
    }

    /// Several statements without values: a migration.
    pub(crate) async fn script(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(c) => sqlx::raw_sql(sql).execute(&mut **c).await.map(drop),
            Self::Postgres(c) => sqlx::raw_sql(sql).execute(&mut **c).await.map(drop),
        }
    }
}

impl Row {
    pub(crate) fn int(&self, column: &str) -> Result<i64, sqlx::Error> {
        match self {
            Self::Sqlite(r) => r.try_get(column),
            Self::Postgres(r) => r.try_get(column),
        }
    }

    /// A counter or a time.
    pub(crate) fn num(&self, column: &str) -> Result<u64, sqlx::Error> {
        self.int(column).map(|v| u64::try_from(v).unwrap_or(0))
    }

    pub(crate) fn num_opt(&self, column: &str) -> Result<Option<u64>, sqlx::Error> {
        let value: Option<i64> = match self {
            Self::Sqlite(r) => r.try_get(column)?,
            Self::Postgres(r) => r.try_get(column)?,
        };
        Ok(value.map(|v| u64::try_from(v).unwrap_or(0)))
    }

    pub(crate) fn text(&self, column: &str) -> Result<String, sqlx::Error> {
        match self {
            Self::Sqlite(r) => r.try_get(column),
            Self::Postgres(r) => r.try_get(column),
        }
    }

    pub(crate) fn text_opt(&self, column: &str) -> Result<Option<String>, sqlx::Error> {
        match self {
            Self::Sqlite(r) => r.try_get(column),
            Self::Postgres(r) => r.try_get(column),
        }
    }

    pub(crate) fn bytes(&self, column: &str) -> Result<Vec<u8>, sqlx::Error> {
        match self {
            Self::Sqlite(r) => r.try_get(column),
            Self::Postgres(r) => r.try_get(column),
        }
    }

    /// A value that has a text form.
    pub(crate) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
        &self,
        column: &'static str,
    ) -> Result<T, Failure> {
        self.text(column)?.parse().map_err(|e| StoreError::damaged(format!("a value in {column}"), e).into())
    }

    /// A value that is kept as JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self, column: &'static str) -> Result<T, Failure> {
        serde_json::from_str(&self.text(column)?)
            .map_err(|e| StoreError::damaged(format!("a value in {column}"), e).into())
    }
}

/// A value as JSON text.
pub(crate) fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Unrepresentable { what, reason: e.to_string() })
}

/// What ends a job: the driver's words, or ours. The operation's name is added outside.
#[derive(Debug)]
pub(crate) enum Failure {
    Sql(sqlx::Error),
    Store(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    pub(crate) fn named(self, operation: &'static str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Sql(error) if error.as_database_error().is_some_and(|e| e.is_unique_violation()) => {
                StoreError::conflict(operation, "somebody else wrote it in the same moment; try again")
            }
            Self::Sql(error) => StoreError::Database { operation, source: Arc::new(error) },
        }
    }
}

pub(crate) type Outcome<T> = Result<T, Failure>;

type Work = Box<dyn for<'c> FnOnce(Conn<'c>) -> BoxFuture<'c, Result<(), StoreError>> + Send>;

pub(crate) struct Job {
    work: Work,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// An open database.
#[derive(Debug)]
pub(crate) enum Db {
    Sqlite {
        readers: SqlitePool,
        jobs: std::sync::Mutex<Option<mpsc::Sender<Job>>>,
        writer: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    },
    Postgres(PgPool),
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Job")
    }
}

impl Db {
    /// SQLite: all writes go through one connection, which commits whatever waits together.
    pub(crate) fn sqlite(writer: SqliteConnection, readers: SqlitePool) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = tokio::spawn(write_loop(writer, receiver));
        Self::Sqlite {
            readers,
            jobs: std::sync::Mutex::new(Some(sender)),
            writer: tokio::sync::Mutex::new(Some(writer)),
        }
    }

    /// Runs a job in a transaction. It is durable when this returns `Ok`.
    pub(crate) async fn write<T, F>(&self, operation: &'static str, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(Conn<'c>) -> BoxFuture<'c, Outcome<T>> + Send + 'static,
    {
        match self {
            Self::Sqlite { jobs, .. } => {
                let sender = {
                    let jobs = jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    jobs.clone().ok_or(StoreError::Closed)?
                };
                let slot = Arc::new(std::sync::Mutex::new(None));
                let (done, answer) = oneshot::channel();
                let put = slot.clone();
                let work: Work = Box::new(move |conn| {
                    Box::pin(async move {
                        let value = job(conn).await.map_err(|e| e.named(operation))?;
                        *put.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(value);
                        Ok(())
                    })
                });
                sender.send(Job { work, done }).await.map_err(|_| StoreError::Closed)?;
                answer.await.map_err(|_| StoreError::Closed)??;
                let value = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
                value.ok_or(StoreError::Closed)
            }
            Self::Postgres(pool) => {
                let fail = |source| StoreError::Database { operation, source: Arc::new(source) };
                let mut tx = pool.begin().await.map_err(fail)?;
                let value = job(Conn::Postgres(&mut tx)).await.map_err(|e| e.named(operation))?;
                tx.commit().await.map_err(|e| Failure::from(e).named(operation))?;
                Ok(value)
            }
        }
    }

    /// Runs a job that only reads, on one snapshot.
    pub(crate) async fn read<T, F>(&self, operation: &'static str, job: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(Conn<'c>) -> BoxFuture<'c, Outcome<T>> + Send + 'static,
    {
        let fail = |source| StoreError::Database { operation, source: Arc::new(source) };
        match self {
            Self::Sqlite { readers, .. } => {
                let mut tx = readers.begin().await.map_err(fail)?;
                let value = job(Conn::Sqlite(&mut tx)).await.map_err(|e| e.named(operation))?;
                tx.rollback().await.map_err(fail)?;
                Ok(value)
            }
            Self::Postgres(pool) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let mut tx = pool.begin_with(begin).await.map_err(fail)?;
                let value = job(Conn::Postgres(&mut tx)).await.map_err(|e| e.named(operation))?;
                tx.rollback().await.map_err(fail)?;
                Ok(value)
            }
        }
    }

    /// Finishes what is queued and closes. Later calls fail with [`StoreError::Closed`].
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite { readers, jobs, writer } => {
                // Readers first: whoever closes last folds the log back into the file.
                readers.close().await;
                drop(jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
                if let Some(writer) = writer.lock().await.take()
                    && let Err(error) = writer.await
                {
                    tracing::error!(%error, "the database writer ended badly");
                }
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

async fn write_loop(mut conn: SqliteConnection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    while jobs.recv_many(&mut group, GROUP).await > 0 {
        commit_together(&mut conn, group.drain(..).collect()).await;
    }
    if let Err(error) = conn.close().await {
        tracing::warn!(%error, "the database was not closed cleanly; the next start repairs it");
    }
}

/// One transaction for the whole group; a job that fails takes back only its own part.
async fn commit_together(conn: &mut SqliteConnection, mut group: VecDeque<Job>) {
    let mut answers = Vec::with_capacity(group.len());
    let result = async {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *conn).await?;
        while let Some(job) = group.pop_front() {
            sqlx::query("SAVEPOINT job").execute(&mut *conn).await?;
            let outcome = (job.work)(Conn::Sqlite(&mut *conn)).await;
            let failed = outcome.is_err();
            answers.push((job.done, outcome));
            if failed {
                sqlx::query("ROLLBACK TO job").execute(&mut *conn).await?;
            }
            sqlx::query("RELEASE job").execute(&mut *conn).await?;
        }
        sqlx::query("COMMIT").execute(&mut *conn).await?;
        Ok::<_, sqlx::Error>(())
    }
    .await;
    let failure = result.err().map(|source| StoreError::Database { operation: "commit", source: Arc::new(source) });
    if failure.is_some() {
        // There may be no transaction left to take back.
        let _ = sqlx::query("ROLLBACK").execute(&mut *conn).await;
    }
    // Somebody who no longer waits for an answer is no fault.
    for (done, outcome) in answers {
        let _ = done.send(match &failure {
            Some(error) => Err(error.clone()),
            None => outcome,
        });
    }
    if let Some(error) = failure {
        for job in group {
            let _ = job.done.send(Err(error.clone()));
        }
    }
}
