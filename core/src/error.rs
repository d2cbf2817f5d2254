//! What can go wrong, in words that know nothing of HTTP: a [`Refusal`] is the caller's to mend, the rest is ours.

mod refusal;

use std::sync::Arc;

pub use refusal::{FieldFault, Refusal, RefusalClass};

/// The result of anything that asks the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A rule of the house forbids it; asking again without a change gives the same answer.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// The database, a queue or a disk is away or overloaded; the same call may succeed later.
    #[error("a service this needs is not available")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Another transaction holds a row that the call needs; the same call may succeed later. Nothing happened.
    #[error("another transaction holds what the call changes")]
    Busy,
    /// A fault of ours.
    #[error("an internal fault")]
    Internal(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// A fault of ours, from whatever shows it.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(source.into()))
    }

    /// Something we need is away.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// Whether the same call may succeed later. API and worker both ask here.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy)
    }

    /// Whether Postgres ended a statement that took longer than it may.
    pub fn is_statement_timeout(&self) -> bool {
        let Self::Unavailable(source) = self else { return false };
        let cause = source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        cause.is_some_and(|cause| cause.code().as_deref() == Some("57014"))
    }

    /// The whole chain of causes on one line, for the log.
    pub fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            source = cause.source();
        }
        line
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let away = match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(cause) => cause.code().is_some_and(|code| is_passing(&code)),
            _ => false,
        };
        if away { Self::unavailable(error) } else { Self::internal(error) }
    }
}

/// SQLSTATE codes of faults that pass: connections (08), serialization and deadlocks (40), resources (53), a server that
/// stops or starts or a statement that took too long (57), a lock not had in time (55P03), a read-only standby (25006).
fn is_passing(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "57")) || matches!(code, "55P03" | "25006" | "25P03")
}

/// Whether a database error is a breach of the named constraint.
pub fn breaches(error: &sqlx::Error, constraint: &str) -> bool {
    matches!(error, sqlx::Error::Database(cause) if cause.constraint() == Some(constraint))
}
