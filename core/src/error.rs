//! What can go wrong, in words that know nothing of HTTP: a [`Refusal`] is the caller's to mend, the rest is ours.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

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

/// One field of a request that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldFault {
    /// The field's name as the request has it; nested fields with dots.
    pub field: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl FieldFault {
    /// The fault of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A rule that forbids what was asked. Stored with idempotency keys, so the names are for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Refusal {
    /// Unknown, or another's.
    #[error("there is no such {what}")]
    NotFound {
        /// What kind of thing was asked for.
        what: String,
    },
    /// The role does not allow it.
    #[error("{reason}")]
    Forbidden {
        /// Which rule.
        reason: String,
    },
    /// Well-formed, but not valid.
    #[error("the request is not valid: {}", list(faults))]
    Invalid {
        /// All the fields at fault.
        faults: Vec<FieldFault>,
    },
    /// No code of the book is free.
    #[error("the book has no free code left")]
    SoldOut,
    /// The user holds as many codes of the book as it allows.
    #[error("the user already holds the {limit} codes that the book allows each user")]
    UserLimitReached {
        /// The book's `maxCodesPerUser`.
        limit: i32,
    },
    /// The book is not `ACTIVE`.
    #[error("the book is not active")]
    BookNotActive,
    /// The book starts later.
    #[error("the book starts later")]
    BookNotStarted,
    /// The book's time is over.
    #[error("the book has expired")]
    BookExpired,
    /// The book is `CLOSED` for good.
    #[error("the book is closed")]
    BookClosed,
    /// Codes of the book were assigned, so it stays.
    #[error("the book cannot be deleted: codes of it were assigned")]
    BookInUse,
    /// The book's states do not have this step.
    #[error("a book cannot go from {from} to {to}")]
    InvalidTransition {
        /// The state it is in.
        from: String,
        /// The state that was asked for.
        to: String,
    },
    /// Nobody holds the code.
    #[error("the code is not assigned to anybody")]
    NotAssigned,
    /// Somebody else holds the code.
    #[error("the code is already assigned to another user")]
    AlreadyAssigned,
    /// The user named is not the holder.
    #[error("the user does not hold this code")]
    NotHolder,
    /// The holder has it locked.
    #[error("the code is locked by its holder until {locked_until}")]
    CouponLocked {
        /// When the lock runs out.
        locked_until: DateTime<Utc>,
    },
    /// The book wants a lock first, and there was none.
    #[error("the book asks for a lock before redeeming: lock the code first")]
    LockRequired,
    /// The lock named was followed by another.
    #[error("the code was locked anew since that lock")]
    LockStale,
    /// The lock ran out or was released.
    #[error("the lock has expired: lock the code again")]
    LockExpired,
    /// All uses are made.
    #[error("the code has been redeemed as often as it may be")]
    CouponAlreadyRedeemed,
    /// The code was ended for good.
    #[error("the code is void")]
    CouponVoid,
    /// The pattern has too few codes left.
    #[error("the pattern has only {remaining} codes left")]
    PatternExhausted {
        /// How many it has.
        remaining: u64,
    },
    /// The job's state does not allow it.
    #[error("the job is {status}: {hint}")]
    WrongJobState {
        /// The state it is in.
        status: String,
        /// When it would be allowed.
        hint: String,
    },
    /// The chunks and files of the job were deleted.
    #[error("the job ended long ago: its rejected rows and uploads are deleted, and it cannot be retried")]
    JobDiscarded,
    /// The email belongs to another account.
    #[error("the email is already in use")]
    EmailTaken,
    /// The holder id belongs to another account of the business.
    #[error("the userId is already in use")]
    UserIdTaken,
    /// The account is the only admin left who can log in.
    #[error("this is the last enabled admin of the business: make or enable another first")]
    LastAdmin,
    /// The uploaded file cannot be imported.
    #[error("{detail}")]
    BadFile {
        /// Which fault: `not_utf8`, `empty_file`, `unclear_header`, `unknown_delimiter`, `record_too_long`,
        /// `unclosed_quote`.
        fault: String,
        /// The sentence for the uploader.
        detail: String,
        /// The physical line, from 1.
        line: Option<u64>,
        /// With `unclear_header`: the cells of the record in question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_record: Option<Vec<String>>,
    },
    /// The file is larger than the installation takes.
    #[error("the file is larger than {limit_bytes} bytes, the most that is taken")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The idempotency key came before with another request.
    #[error("the Idempotency-Key was used before with another request: use a new key")]
    KeyReused,
    /// The first request under the key still runs.
    #[error("the first request under this Idempotency-Key is still running: ask again shortly")]
    KeyInProgress,
}

impl Refusal {
    /// There is no such thing, or it is another's.
    pub fn not_found(what: &str) -> Self {
        Self::NotFound { what: what.to_owned() }
    }

    /// The stable word that clients match on: the one it is stored under.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Forbidden { .. } => "forbidden",
            Self::Invalid { .. } => "invalid",
            Self::SoldOut => "sold_out",
            Self::UserLimitReached { .. } => "user_limit_reached",
            Self::BookNotActive => "book_not_active",
            Self::BookNotStarted => "book_not_started",
            Self::BookExpired => "book_expired",
            Self::BookClosed => "book_closed",
            Self::BookInUse => "book_in_use",
            Self::InvalidTransition { .. } => "invalid_transition",
            Self::NotAssigned => "not_assigned",
            Self::AlreadyAssigned => "already_assigned",
            Self::NotHolder => "not_holder",
            Self::CouponLocked { .. } => "coupon_locked",
            Self::LockRequired => "lock_required",
            Self::LockStale => "lock_stale",
            Self::LockExpired => "lock_expired",
            Self::CouponAlreadyRedeemed => "coupon_already_redeemed",
            Self::CouponVoid => "coupon_void",
            Self::PatternExhausted { .. } => "pattern_exhausted",
            Self::WrongJobState { .. } => "wrong_job_state",
            Self::JobDiscarded => "job_discarded",
            Self::EmailTaken => "email_taken",
            Self::UserIdTaken => "user_id_taken",
            Self::LastAdmin => "last_admin",
            Self::BadFile { .. } => "bad_file",
            Self::TooLarge { .. } => "too_large",
            Self::KeyReused => "key_reused",
            Self::KeyInProgress => "key_in_progress",
        }
    }

    /// One field is not valid.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { faults: vec![FieldFault::new(field, message)] }
    }
}

fn list(faults: &[FieldFault]) -> String {
    faults.iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect::<Vec<_>>().join("; ")
}
