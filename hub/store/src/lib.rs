//! What the hub remembers: clusters, join tokens, trust documents, sources, heads and blobs, intents, reports, audit.
//!
//! One schema and one set of statements for SQLite (one file, the default) and PostgreSQL (several hubs); a model in memory
//! is the oracle of both. Every method is one transaction: when it returns `Ok`, it is durable. Nothing here asks a clock.
//!
//! SQLite has one writer, which commits everything that waits with one fsync; readers go beside it on their own snapshots.
#![warn(missing_docs)]

mod audit;
mod clusters;
mod db;
mod error;
mod heads;
mod history;
mod intents;
mod mem;
mod meta;
mod model;
mod reports;
mod sources;
mod tokens;
mod trust;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use driftless_protocol::id::{ClusterId, Digest, Generation, TokenId};
use driftless_protocol::signing::Signed;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

pub use error::StoreError;
pub use model::*;

use db::Db;

/// Connections that only read, beside SQLite's one writer.
const READERS: u32 = 4;
/// Connections to PostgreSQL.
const CONNECTIONS: u32 = 16;
/// How long a connection may be waited for.
const ACQUIRE: Duration = Duration::from_secs(10);

/// Where the database is.
#[derive(Clone)]
pub enum Location {
    /// A file of this machine, made when it is not there, readable by its owner only.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/name?sslmode=verify-full`.
    Postgres(String),
    /// In memory, gone with the process: for tests.
    Memory,
}

impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "Sqlite({})", path.display()),
            Self::Postgres(_) => f.write_str("Postgres(..)"), // may hold a password
            Self::Memory => f.write_str("Memory"),
        }
    }
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Arc<Backend>,
}

#[derive(Debug)]
enum Backend {
    Memory(Box<Mutex<mem::Model>>),
    Sql(Db),
}

impl Store {
    /// Opens the database and brings its schema up to date. `now_seconds` becomes the epoch of a new one.
    ///
    /// # Errors
    /// When it cannot be reached or written, or a newer program has used it.
    pub async fn open(location: &Location, now_seconds: u64) -> Result<Self, StoreError> {
        let backend = match location {
            Location::Memory => Backend::Memory(Box::new(Mutex::new(mem::Model::new(now_seconds)))),
            Location::Sqlite(path) => Backend::Sql(open_sqlite(path).await?),
            Location::Postgres(url) => Backend::Sql(open_postgres(url).await?),
        };
        if let Backend::Sql(db) = &backend {
            let job = db.write("bring the schema up to date", move |mut conn| {
                Box::pin(async move { meta::migrate(&mut conn, now_seconds).await })
            });
            if let Err(error) = job.await {
                db.close().await;
                return Err(error);
            }
        }
        Ok(Self { backend: Arc::new(backend) })
    }

    /// Finishes what is queued and closes the database.
    pub async fn close(&self) {
        if let Backend::Sql(db) = &*self.backend {
            db.close().await;
        }
    }
}

async fn open_sqlite(path: &Path) -> Result<Db, StoreError> {
    create_private(path).map_err(|e| StoreError::File { path: path.to_owned(), source: Arc::new(e) })?;
    let fail = |source| StoreError::Open { database: path.display().to_string(), source: Arc::new(source) };
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(10))
        .disable_statement_logging();
    let writer = options.connect().await.map_err(fail)?;
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE)
        .connect_with(options.read_only(true))
        .await
        .map_err(fail)?;
    Ok(Db::sqlite(writer, readers))
}

async fn open_postgres(url: &str) -> Result<Db, StoreError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| StoreError::Address)?.disable_statement_logging();
    let database = format!("{} on {}", options.get_database().unwrap_or("postgres"), options.get_host());
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(ACQUIRE)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { database, source: Arc::new(source) })?;
    Ok(Db::Postgres(pool))
}

/// SQLite gives its other files the rights of the first.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(drop)
}

/// Each line is a public method: the same question to the model or, in one transaction, to the database.
macro_rules! operations {
    ($($(#[$doc:meta])* $mode:ident $what:literal fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $module:ident::$function:ident;)*) => {
        impl Store {
            $(
                $(#[$doc])*
                pub async fn $name(&self, $($arg: $ty),*) -> Result<$ret, StoreError> {
                    match &*self.backend {
                        Backend::Memory(model) => {
                            model.lock().unwrap_or_else(PoisonError::into_inner).$name($($arg),*)
                        }
                        Backend::Sql(db) => {
                            db.$mode($what, move |mut conn| {
                                Box::pin(async move { $module::$function(&mut conn, $($arg),*).await })
                            })
                            .await
                        }
                    }
                }
            )*
        }
    };
}

operations! {
    /// Unix seconds at which the database was made, or its epoch last bumped.
    read "read the epoch" fn epoch() -> u64 = meta::epoch;
    /// After a restore: raises the epoch to now, at least by one, so that agents accept what this hub offers.
    write "raise the epoch" fn bump_epoch(now_seconds: u64, act: Act) -> u64 = meta::bump_epoch;

    /// All clusters, revoked ones too, by name.
    read "list the clusters" fn clusters() -> Vec<Cluster> = clusters::list;
    /// One cluster.
    read "read a cluster" fn cluster(id: ClusterId) -> Option<Cluster> = clusters::get;
    /// Records a certificate just issued, with the key it is for; the one before stays good until this one is seen.
    /// `false`: the cluster is not active.
    write "record a certificate" fn issued(id: ClusterId, agent_key: Digest, certificate: Certificate, der: Vec<u8>) -> bool = clusters::issued;
    /// The newest certificate, if it is for this key and was not seen yet. Who asks again has not got it: a second one for the
    /// same key would push out the one before, which may be all that the cluster has.
    read "read a certificate" fn unseen_certificate(id: ClusterId, agent_key: Digest) -> Option<UnseenCertificate> = clusters::unseen;
    /// Whether this certificate may open a session, and the session's number.
    write "open a session" fn admit(id: ClusterId, certificate: Digest, now: u64) -> Admission = clusters::admit;
    /// Replaces the labels. `false`: the cluster is not active.
    write "set labels" fn set_labels(id: ClusterId, labels: Labels, act: Act) -> bool = clusters::set_labels;
    /// Ends a cluster's membership for good; its name and `kube-system` UID may enrol again. `false`: it was not active.
    write "revoke a cluster" fn revoke(id: ClusterId, act: Act) -> bool = clusters::revoke;

    /// Remembers a new join token.
    write "store a join token" fn create_token(token: Token, act: Act) -> () = tokens::create;
    /// One token.
    read "read a join token" fn token(id: TokenId) -> Option<TokenRecord> = tokens::get;
    /// All tokens that were not forgotten, by expiry.
    read "list the join tokens" fn tokens() -> Vec<TokenRecord> = tokens::list;
    /// Counts a wrong secret against a token.
    write "count a wrong secret" fn token_failed(id: TokenId) -> () = tokens::failed;
    /// Redeems a token whose secret was found right, at most once.
    write "redeem a join token" fn redeem(enrollment: Enrollment) -> Enrolled = tokens::redeem;
    /// Drops tokens that expired before this time (Unix milliseconds); how many.
    write "drop expired join tokens" fn forget_tokens(before: u64) -> u64 = tokens::forget;

    /// Every trust document, version 1 first.
    read "read the trust documents" fn trust_documents() -> Vec<Signed> = trust::list;
    /// Adds the next version.
    write "store a trust document" fn add_trust_document(version: u64, document: Signed) -> () = trust::add;

    /// All sources by id.
    read "list the sources" fn sources() -> Vec<SourceStatus> = sources::list;
    /// The newest status of a source. Without a good revision it keeps the last one, unless URL or reference changed.
    write "store a source's status" fn put_source(status: SourceStatus) -> () = sources::put;
    /// Forgets a source that is no longer configured.
    write "forget a source" fn remove_source(id: String) -> () = sources::remove;

    /// The last two heads of every cluster; of one cluster the newest first.
    read "list the heads" fn heads() -> Vec<Head> = heads::list;
    /// The last two heads of a cluster, newest first.
    read "read a cluster's heads" fn heads_of(cluster: ClusterId) -> Vec<Head> = heads::of_cluster;
    /// Stores an offer with its blobs and drops the head before the last one.
    /// [`StoreError::Conflict`] when `after` is not the last generation.
    write "store an offer" fn offer(offer: Offer) -> () = heads::offer;
    /// What the agent said to an offer: `refused` is code and words; `None`: taken.
    write "store an agent's answer" fn settle(cluster: ClusterId, generation: Generation, refused: Option<(String, String)>, now: u64) -> () = heads::settle;
    /// Bytes of blobs in the order asked; those not there are left out. Each is checked against its digest.
    read "read blobs" fn blobs(digests: Vec<Digest>) -> Vec<(Digest, Vec<u8>)> = heads::blobs;
    /// Every digest an index references at any level, itself included; nothing when it is not there.
    read "read what an index references" fn closure(index: Digest) -> BTreeSet<Digest> = heads::closure;
    /// Removes blobs that no kept head references; how many.
    write "collect unreferenced blobs" fn collect_blobs() -> u64 = heads::collect;

    /// All intents.
    read "list the intents" fn intents() -> Vec<IntentRecord> = intents::list;
    /// Adds an intent, or replaces the one with its id.
    write "store an intent" fn put_intent(record: IntentRecord, act: Act) -> () = intents::put;
    /// Adds several intents, or replaces those with their ids: all or none.
    write "store intents" fn put_intents(records: Vec<(IntentRecord, Act)>) -> () = intents::put_all;
    /// Takes an intent back. `false`: there was none.
    write "remove an intent" fn remove_intent(intent: Intent, act: Act) -> bool = intents::remove;

    /// Writes reports in one transaction. For each whether it was newer, by (session, n), than everything its cluster
    /// reported before; one that was not changes nothing.
    write "store reports" fn write_reports(batch: Vec<ReportWrite>) -> Vec<bool> = reports::write;
    /// The newest report of every cluster.
    read "read cluster reports" fn cluster_reports() -> Vec<StoredClusterReport> = reports::clusters;
    /// Digests of the facts of every cluster that told some.
    read "list the facts" fn fact_digests() -> Vec<(ClusterId, Digest)> = reports::fact_digests;
    /// The newest facts of a cluster.
    read "read a cluster's facts" fn facts(cluster: ClusterId) -> Option<StoredFacts> = reports::facts;
    /// The newest report of every unit, of one cluster or of all, in order.
    read "read unit reports" fn unit_reports(cluster: Option<ClusterId>) -> Vec<StoredUnitReport> = reports::units;

    /// What was done to objects, newest first.
    read "read the history" fn history(query: HistoryQuery) -> Vec<StoredEvent> = history::list;
    /// Drops history before this time (Unix milliseconds); how many entries.
    write "drop old history" fn forget_history(before: u64) -> u64 = history::forget;

    /// Appends to the audit log something that changes nothing else here.
    write "append to the audit log" fn audit(act: Act) -> () = audit::act;
    /// Rows of the audit log after a number, oldest first.
    read "read the audit log" fn audit_rows(after: u64, limit: u64) -> Vec<AuditRow> = audit::list;
    /// Walks the chain: where it is broken, if it is.
    read "verify the audit log" fn verify_audit() -> Option<AuditBreak> = audit::verify;
}
