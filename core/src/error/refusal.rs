//! A rule that forbids what was asked, in words that know nothing of HTTP, and the form in which it is stored with idempotency
//! keys.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// The class of a refusal: what the caller can do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalClass {
    /// The thing does not exist, or belongs to another caller.
    NotFound,
    /// The caller's role does not allow it.
    Forbidden,
    /// The request itself has to change.
    Invalid,
    /// It was possible once and will not be again.
    Gone,
    /// The request is larger than the installation takes.
    TooLarge,
    /// The state of things forbids it. Also the class of refusals whose class is absent or not known.
    #[default]
    #[serde(other)]
    Conflict,
}

/// A rule that forbids what was asked. Stored with idempotency keys, so the names are permanent.
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
    /// The code is reserved for a distribution.
    #[error("the code is reserved for a distribution")]
    CouponReserved,
    /// The book has too few free codes for a distribution.
    #[error("the distribution needs {needed} codes, and the book has {available}")]
    NotEnoughCodes {
        /// How many codes the distribution needs.
        needed: u64,
        /// How many codes are free and not reserved.
        available: u64,
    },
    /// Another pool of the business has the name.
    #[error("the business has a pool with this name")]
    NameTaken,
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
    /// The account belongs to another business too.
    #[error("the account belongs to another business too: only its owner can change its password")]
    AccountShared,
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
    /// The business has no room for the file, or for the rejected rows of an import.
    #[error(
        "uploads and rejected rows may have {allowed_bytes} bytes, and without this one {used_bytes} are used"
    )]
    StorageQuotaExceeded {
        /// What is stored for other jobs of the business.
        used_bytes: u64,
        /// The quota.
        allowed_bytes: u64,
    },
    /// The idempotency key came before with another request.
    #[error("the Idempotency-Key was used before with another request: use a new key")]
    KeyReused,
    /// The first request under the key still runs.
    #[error("the first request under this Idempotency-Key is still running: ask again shortly")]
    KeyInProgress,
    /// A refusal that a newer program stored and this one does not know.
    #[error("{detail}")]
    #[serde(untagged)]
    Unknown {
        /// Its stable word.
        code: String,
        /// Its class.
        #[serde(default)]
        class: RefusalClass,
        /// Its sentence.
        #[serde(default)]
        detail: String,
    },
}

impl Refusal {
    /// There is no such thing, or it is another's.
    pub fn not_found(what: &str) -> Self {
        Self::NotFound { what: what.to_owned() }
    }

    /// The stable word that clients match on: the one it is stored under.
    pub fn code(&self) -> &str {
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
            Self::CouponReserved => "coupon_reserved",
            Self::NotEnoughCodes { .. } => "not_enough_codes",
            Self::NameTaken => "name_taken",
            Self::PatternExhausted { .. } => "pattern_exhausted",
            Self::WrongJobState { .. } => "wrong_job_state",
            Self::JobDiscarded => "job_discarded",
            Self::EmailTaken => "email_taken",
            Self::UserIdTaken => "user_id_taken",
            Self::AccountShared => "account_shared",
            Self::LastAdmin => "last_admin",
            Self::BadFile { .. } => "bad_file",
            Self::TooLarge { .. } => "too_large",
            Self::StorageQuotaExceeded { .. } => "storage_quota_exceeded",
            Self::KeyReused => "key_reused",
            Self::KeyInProgress => "key_in_progress",
            Self::Unknown { code, .. } => code,
        }
    }

    /// What the caller can do about it.
    pub fn class(&self) -> RefusalClass {
        match self {
            Self::NotFound { .. } => RefusalClass::NotFound,
            Self::Forbidden { .. } => RefusalClass::Forbidden,
            Self::Invalid { .. } | Self::PatternExhausted { .. } | Self::BadFile { .. } | Self::KeyReused => {
                RefusalClass::Invalid
            }
            Self::TooLarge { .. } | Self::StorageQuotaExceeded { .. } => RefusalClass::TooLarge,
            Self::LockExpired | Self::JobDiscarded => RefusalClass::Gone,
            Self::SoldOut
            | Self::UserLimitReached { .. }
            | Self::BookNotActive
            | Self::BookNotStarted
            | Self::BookExpired
            | Self::BookClosed
            | Self::BookInUse
            | Self::InvalidTransition { .. }
            | Self::NotAssigned
            | Self::AlreadyAssigned
            | Self::NotHolder
            | Self::CouponLocked { .. }
            | Self::LockRequired
            | Self::LockStale
            | Self::CouponAlreadyRedeemed
            | Self::CouponVoid
            | Self::CouponReserved
            | Self::NotEnoughCodes { .. }
            | Self::NameTaken
            | Self::WrongJobState { .. }
            | Self::EmailTaken
            | Self::UserIdTaken
            | Self::AccountShared
            | Self::LastAdmin
            | Self::KeyInProgress => RefusalClass::Conflict,
            Self::Unknown { class, .. } => *class,
        }
    }

    /// The form in which it is stored: with its class and its sentence, so that a program that does not know its code can
    /// answer it all the same.
    pub fn to_stored(&self) -> serde_json::Result<Value> {
        let mut stored = serde_json::to_value(self)?;
        stored["class"] = serde_json::to_value(self.class())?;
        stored["detail"] = self.to_string().into();
        Ok(stored)
    }

    /// One field is not valid.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { faults: vec![FieldFault::new(field, message)] }
    }
}

fn list(faults: &[FieldFault]) -> String {
    faults.iter().map(|fault| format!("{} {}", fault.field, fault.message)).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_of_an_older_program_is_read_as_it_was_stored() {
        let stored = json!({"code": "user_limit_reached", "limit": 3});
        assert_eq!(
            serde_json::from_value::<Refusal>(stored).unwrap(),
            Refusal::UserLimitReached { limit: 3 }
        );
    }

    #[test]
    fn a_refusal_of_a_newer_program_keeps_its_code_class_and_sentence() {
        let stored = json!({"code": "budget_exhausted", "class": "gone", "detail": "the budget is spent", "budget": 5});
        let read: Refusal = serde_json::from_value(stored).unwrap();
        assert_eq!(
            (read.code(), read.class(), read.to_string().as_str()),
            ("budget_exhausted", RefusalClass::Gone, "the budget is spent")
        );
        assert_eq!(serde_json::from_value::<Refusal>(read.to_stored().unwrap()).unwrap(), read);
    }

    #[test]
    fn a_class_that_is_not_known_counts_as_a_conflict() {
        let stored = json!({"code": "odd", "class": "teapot", "detail": "odd"});
        assert_eq!(serde_json::from_value::<Refusal>(stored).unwrap().class(), RefusalClass::Conflict);
    }

    #[test]
    fn an_older_program_reads_the_stored_form() {
        for refusal in [
            Refusal::SoldOut,
            Refusal::not_found("coupon"),
            Refusal::invalid("userId", "is required"),
            Refusal::BadFile {
                fault: "empty_file".into(),
                detail: "the file is empty".into(),
                line: None,
                first_record: None,
            },
        ] {
            // A tagged enumeration ignores fields that it does not know.
            let stored = refusal.to_stored().unwrap();
            assert_eq!(stored["detail"], refusal.to_string());
            assert_eq!(serde_json::from_value::<Refusal>(stored).unwrap(), refusal);
        }
    }
}
