//! One suite for SQLite, PostgreSQL and the model in memory.
#![allow(clippy::unwrap_used)] // the helpers are tests as well

mod history;
mod postgres;
mod suite;

use driftless_store::{Location, Store, StoreError};
use postgres::Postgres;

/// The moment every database of a test is made.
const BORN: u64 = 1_800_000_000;

async fn open(location: &Location) -> Store {
    Store::open(location, BORN).await.unwrap_or_else(|e| panic!("cannot open {location:?}: {e:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_contract() {
    for case in suite::CASES {
        suite::run(case, open(&Location::Memory).await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract() {
    for case in suite::CASES {
        let dir = tempfile::tempdir().unwrap();
        suite::run(case, open(&Location::Sqlite(dir.path().join("hub.db"))).await).await;
    }
}

/// One server for everything PostgreSQL has to show.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    let server = Postgres::start();
    for case in suite::CASES {
        suite::run(case, open(&Location::Postgres(server.database(case))).await).await;
    }
    let location = Location::Postgres(server.database("several"));
    let hubs = [open(&location).await, open(&location).await, open(&location).await];
    suite::one_token_many_agents(&hubs).await;
    suite::audit_of_several_hubs(&hubs).await;
    suite::offers_and_garbage(&hubs).await;
    for hub in &hubs {
        hub.close().await;
    }
    let location = Location::Postgres(server.database("newer"));
    refuses_newer(&location, |url| async move {
        let pool = sqlx::PgPool::connect(&url).await.unwrap();
        sqlx::query("UPDATE meta SET value = 99 WHERE name = 'schema'").execute(&pool).await.unwrap();
        pool.close().await;
    })
    .await;
    for seed in 0..6 {
        let store = open(&Location::Postgres(server.database(&format!("history{seed}")))).await;
        history::compare(seed, &store, &open(&Location::Memory).await).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_answers_as_the_model_does_over_random_histories() {
    for seed in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&Location::Sqlite(dir.path().join("hub.db"))).await;
        history::compare(seed, &store, &open(&Location::Memory).await).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_redemptions_of_one_token_exactly_one_wins() {
    for location in [Location::Memory, Location::Sqlite(tempfile::tempdir().unwrap().keep().join("hub.db"))] {
        suite::one_token_many_agents(&[open(&location).await]).await;
    }
}

#[tokio::test]
async fn what_was_written_is_there_after_closing_and_a_second_opening_changes_no_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let location = Location::Sqlite(dir.path().join("hub.db"));
    let store = open(&location).await;
    suite::put_something(&store).await;
    store.close().await;
    assert!(matches!(store.epoch().await, Err(StoreError::Closed | StoreError::Database { .. })), "closed is closed");
    assert!(!dir.path().join("hub.db-wal").exists(), "a closed database is one file, safe to copy");
    let again = Store::open(&location, BORN + 500).await.unwrap();
    assert_eq!(again.epoch().await.unwrap(), BORN);
    assert_eq!(again.audit_rows(0, 10).await.unwrap().len(), 1);
    again.close().await;
}

#[tokio::test]
async fn the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let store = open(&Location::Sqlite(dir.path().join("hub.db"))).await;
    suite::put_something(&store).await;
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
    }
    store.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    refuses_newer(&Location::Sqlite(dir.path().join("hub.db")), |path| async move {
        let pool = sqlx::SqlitePool::connect(&format!("sqlite://{path}")).await.unwrap();
        sqlx::query("UPDATE meta SET value = 99 WHERE name = 'schema'").execute(&pool).await.unwrap();
        pool.close().await;
    })
    .await;
}

async fn refuses_newer<F: Future<Output = ()>>(location: &Location, raise: impl FnOnce(String) -> F) {
    open(location).await.close().await;
    raise(match location {
        Location::Sqlite(path) => path.display().to_string(),
        Location::Postgres(url) => url.clone(),
        Location::Memory => unreachable!("memory has no schema"),
    })
    .await;
    let error = Store::open(location, BORN).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("newer program"), "{error}");
}

#[tokio::test]
async fn no_address_shows_its_password() {
    let location = Location::Postgres("postgres://ann:hunter2@127.0.0.1:1/x".into());
    let error = Store::open(&location, BORN).await.unwrap_err();
    let shown = format!("{location:?} {error} {error:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
