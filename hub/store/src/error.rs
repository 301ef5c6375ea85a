//! What can go wrong with the store.

use std::path::PathBuf;
use std::sync::Arc;

/// A failed operation. Nothing of it was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be opened.
    #[error("cannot open the database {database}")]
    Open {
        /// Its file, or host and name without a credential.
        database: String,
        /// The driver's words.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The database file cannot be made.
    #[error("cannot create the database file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// The address of the database cannot be read. It is not repeated: it may hold a password.
    #[error("the database address is not of the form postgres://user@host/name")]
    Address,
    /// A newer program has used this database.
    #[error(
        "the database has schema {found}, this program knows schemas up to {known}: run the newer program, or restore a copy \
         made before the upgrade"
    )]
    Newer {
        /// What the database says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// A statement failed.
    #[error("the database failed to {operation}")]
    Database {
        /// What was attempted.
        operation: &'static str,
        /// The driver's words.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// Somebody else wrote first, or a unique value is taken.
    #[error("cannot {operation}: {what}")]
    Conflict {
        /// What was attempted.
        operation: &'static str,
        /// What stood in the way.
        what: String,
    },
    /// A row holds what this program would not have written.
    #[error("the database holds {what} that cannot be read: {reason}")]
    Damaged {
        /// Which value.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value has no JSON form.
    #[error("cannot write {what} as JSON: {reason}")]
    Unrepresentable {
        /// Which value.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn conflict(operation: &'static str, what: impl Into<String>) -> Self {
        Self::Conflict { operation, what: what.into() }
    }

    pub(crate) fn damaged(what: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        Self::Damaged { what: what.into(), reason: reason.to_string() }
    }
}
