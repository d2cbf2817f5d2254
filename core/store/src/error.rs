//! Errors, independent of HTTP. A [`Rejection`] is for the caller to correct; all others are failures on our side.

use std::sync::Arc;

use cuponera_domain::rejection::Rejection;

/// The result of calls to core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A rule rejects the call. A repetition gives the same result until the state changes.
    #[error("rejected: {0}")]
    Rejected(#[from] Rejection),
    /// The database, a queue or a disk is unavailable or overloaded. The same call may succeed later.
    #[error("a service this needs is not available")]
    Unavailable(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// Another transaction holds a row that the call needs. Nothing was changed; the same call may succeed later.
    #[error("another transaction holds a row that the call needs")]
    Busy,
    /// A bug or a broken installation.
    #[error("an internal error")]
    Internal(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// An internal error with its cause.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(Arc::from(source.into()))
    }

    /// An unavailable service, with the cause.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(Arc::from(source.into()))
    }

    /// Whether the same call may succeed later. The only definition, for API and worker.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy)
    }

    /// Whether Postgres canceled the statement because of its timeout (SQLSTATE 57014).
    pub fn is_statement_timeout(&self) -> bool {
        let Self::Unavailable(source) = self else { return false };
        let cause = source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
        cause.is_some_and(|cause| cause.code().as_deref() == Some("57014"))
    }

    /// The error and all its causes on one line, for the log.
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
            sqlx::Error::Database(cause) => cause.code().is_some_and(|code| is_transient(&code)),
            _ => false,
        };
        if away { Self::unavailable(error) } else { Self::internal(error) }
    }
}

/// Whether a SQLSTATE is transient: connection errors (08), serialization failures and deadlocks (40), insufficient
/// resources (53), server shutdown or start and statement timeouts (57), lock timeouts (55P03), a read-only standby
/// (25006), an idle transaction timeout (25P03).
fn is_transient(code: &str) -> bool {
    matches!(code.get(..2), Some("08" | "40" | "53" | "57")) || matches!(code, "55P03" | "25006" | "25P03")
}

/// Whether a database error is a violation of the named constraint.
pub fn breaches(error: &sqlx::Error, constraint: &str) -> bool {
    matches!(error, sqlx::Error::Database(cause) if cause.constraint() == Some(constraint))
}
