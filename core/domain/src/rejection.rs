//! Rejections by a rule, independent of HTTP, and the form in which they are stored with idempotency keys.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An invalid field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// The field's name in the request; the names of nested fields are joined with dots.
    pub field: String,
    /// The error, and what is expected.
    pub message: String,
}

impl FieldError {
    /// An error of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The class of a rejection: how the caller can react.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionClass {
    /// The object does not exist, or belongs to another caller.
    NotFound,
    /// The caller's role does not allow it.
    Forbidden,
    /// The request must be changed.
    Invalid,
    /// It was possible earlier and never will be again.
    Gone,
    /// The request exceeds a size limit of the installation.
    TooLarge,
    /// The current state does not allow it. Also the class of stored rejections whose class is absent or unknown.
    #[default]
    #[serde(other)]
    Conflict,
}

/// A rejection by a rule. It is stored with idempotency keys, so the names are permanent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Rejection {
    /// The object does not exist, or belongs to another caller or business.
    #[error("there is no such {what}")]
    NotFound {
        /// The kind of the object.
        what: String,
    },
    /// The role does not allow it.
    #[error("{reason}")]
    Forbidden {
        /// The rule.
        reason: String,
    },
    /// Well-formed, but not valid.
    #[error("the request is not valid: {}", list(faults))]
    Invalid {
        /// All invalid fields.
        faults: Vec<FieldError>,
    },
    /// No code of the book is free.
    #[error("the book has no free code left")]
    SoldOut,
    /// The user holds the maximum number of codes of the book.
    #[error("the user already has {limit} codes of the book, the maximum for each user")]
    UserLimitReached {
        /// The book's `maxCodesPerUser`.
        limit: i32,
    },
    /// The book is not `ACTIVE`.
    #[error("the book is not active")]
    BookNotActive,
    /// The book's `startsAt` is in the future.
    #[error("the book has not started yet")]
    BookNotStarted,
    /// The book's `expiresAt` has passed.
    #[error("the book has expired")]
    BookExpired,
    /// The book is `CLOSED`, which is permanent.
    #[error("the book is closed")]
    BookClosed,
    /// The book cannot be deleted, because codes of it were assigned.
    #[error("the book cannot be deleted: codes of it were assigned")]
    BookInUse,
    /// The transition between these statuses does not exist.
    #[error("the status of a book cannot change from {from} to {to}")]
    InvalidTransition {
        /// The current status.
        from: String,
        /// The requested status.
        to: String,
    },
    /// A job has added codes to the book, or is to add them.
    #[error("codeKind cannot change: codes were added to the book")]
    CodeKindFixed,
    /// The code has no holder.
    #[error("the code is not assigned")]
    NotAssigned,
    /// The code is of a SHARED book: it has no holder.
    #[error("a code of a SHARED book is not assigned: all users may redeem it")]
    NotAssignable,
    /// Another user holds the code.
    #[error("the code is already assigned to another user")]
    AlreadyAssigned,
    /// The named user is not the holder.
    #[error("the user does not hold this code")]
    NotHolder,
    /// The code is locked by its holder. Of a SHARED code: its users have locked all uses that are left.
    #[error("the code is locked until {locked_until}")]
    CouponLocked {
        /// The expiry of the lock; of several, the first.
        locked_until: DateTime<Utc>,
    },
    /// The book requires a lock, and the code has no live lock.
    #[error("the book requires a lock for a redemption: lock the code first")]
    LockRequired,
    /// The named lock was replaced by a newer lock.
    #[error("a newer lock has replaced this lock")]
    LockStale,
    /// The lock expired or was released.
    #[error("the lock has expired: lock the code again")]
    LockExpired,
    /// The code was redeemed the maximum number of times.
    #[error("all uses of the code are redeemed")]
    CouponAlreadyRedeemed,
    /// The code has expired for its holder.
    #[error("the code has expired")]
    CouponExpired,
    /// The code's own `startsAt` is in the future.
    #[error("the code has not started yet")]
    CouponNotStarted,
    /// The code is suspended.
    #[error("the code is suspended")]
    CouponSuspended,
    /// The user has redeemed and locked the SHARED code as often as allowed.
    #[error("the user has redeemed this code {limit} times, the maximum for each user")]
    RedeemLimitReached {
        /// The `maxRedeemsPerUser` of the code, or of its book.
        limit: i32,
    },
    /// The business has a code with this text.
    #[error("the business already has this code")]
    CodeExists,
    /// The code was voided, which is permanent.
    #[error("the code is void")]
    CouponVoid,
    /// The redemption was rolled back before.
    #[error("the redemption has been rolled back already")]
    AlreadyRolledBack,
    /// Another user redeemed the code with this reference.
    #[error("another user redeemed the code with this reference")]
    ReferenceUsed,
    /// The recipient key was used for another user, or for a code that was taken back.
    #[error("the recipientKey was used for another user, or its code was taken back")]
    RecipientKeyUsed,
    /// The code is reserved for a distribution.
    #[error("the code is reserved for a distribution")]
    CouponReserved,
    /// The book has too few free codes for a distribution.
    #[error("the distribution needs {needed} codes, and the book has {available}")]
    NotEnoughCodes {
        /// Number of codes that the distribution needs.
        needed: u64,
        /// Number of free codes that are not reserved.
        available: u64,
    },
    /// Another pool of the business has the name.
    #[error("the business has a pool with this name")]
    NameTaken,
    /// The business has the maximum number of webhooks.
    #[error("the business has {limit} webhooks, the maximum: delete one first")]
    WebhookLimitReached {
        /// The maximum.
        limit: i64,
    },
    /// The webhook is disabled.
    #[error("the webhook is disabled: enable it first")]
    WebhookDisabled,
    /// Fewer codes of the pattern remain than requested.
    #[error("the pattern has only {remaining} codes left")]
    PatternExhausted {
        /// Number of remaining codes.
        remaining: u64,
    },
    /// The job's status does not allow it.
    #[error("the job is {status}: {hint}")]
    WrongJobState {
        /// The current status.
        status: String,
        /// The condition under which it is allowed.
        hint: String,
    },
    /// The chunks and files of the job were deleted.
    #[error(
        "the retention period of the job has ended: its rejected rows and uploads are deleted, and it cannot be retried"
    )]
    JobDiscarded,
    /// The file of the export was deleted.
    #[error("the file of an export is kept for 7 days after it is complete: export again")]
    ExportExpired,
    /// Events after the position of a follower were archived.
    #[error(
        "events after this position are archived, up to {month}: follow without Last-Event-ID, and read the files of the archives"
    )]
    EventsArchived {
        /// The last month that is archived, such as `2027-06`.
        month: String,
    },
    /// The email belongs to another account.
    #[error("the email is already in use")]
    EmailTaken,
    /// The holder id belongs to another account of the business.
    #[error("the userId is already in use")]
    UserIdTaken,
    /// The account belongs to another business as well.
    #[error("the account also belongs to another business: only its user can change the password")]
    AccountShared,
    /// The account is the last enabled admin of the business.
    #[error("this is the last enabled admin of the business: create or enable another admin first")]
    LastAdmin,
    /// The uploaded file cannot be imported.
    #[error("{detail}")]
    BadFile {
        /// The code of the error: `not_utf8`, `empty_file`, `unclear_header`, `unknown_delimiter`, `record_too_long`,
        /// `unclosed_quote`.
        fault: String,
        /// The explanation for the uploader.
        detail: String,
        /// The physical line, from 1.
        line: Option<u64>,
        /// With `unclear_header`: the cells of the record in question.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_record: Option<Vec<String>>,
    },
    /// The file exceeds the size limit of uploads.
    #[error("the file exceeds the limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The file, the rejected rows of an import, or an export would exceed the storage quota of the business.
    #[error(
        "the quota of uploads, rejected rows and exports is {allowed_bytes} bytes, of which other jobs use {used_bytes}"
    )]
    StorageQuotaExceeded {
        /// Bytes stored for other jobs of the business.
        used_bytes: u64,
        /// The quota.
        allowed_bytes: u64,
    },
    /// The idempotency key was used before with another request.
    #[error("the Idempotency-Key was used before with another request: use a new key")]
    KeyReused,
    /// The first request with this key is still running.
    #[error("the first request with this Idempotency-Key is still running: retry shortly")]
    KeyInProgress,
    /// A rejection stored by a newer program, with a code that this program does not know.
    #[error("{detail}")]
    #[serde(untagged)]
    Unknown {
        /// Its stable code.
        code: String,
        /// Its class.
        #[serde(default)]
        class: RejectionClass,
        /// Its explanation.
        #[serde(default)]
        detail: String,
    },
}

impl Rejection {
    /// The rejection [`Self::NotFound`].
    pub fn not_found(what: &str) -> Self {
        Self::NotFound { what: what.to_owned() }
    }

    /// The stable code, for clients and in the stored form.
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
            Self::CodeKindFixed => "code_kind_fixed",
            Self::NotAssigned => "not_assigned",
            Self::NotAssignable => "not_assignable",
            Self::AlreadyAssigned => "already_assigned",
            Self::NotHolder => "not_holder",
            Self::CouponLocked { .. } => "coupon_locked",
            Self::LockRequired => "lock_required",
            Self::LockStale => "lock_stale",
            Self::LockExpired => "lock_expired",
            Self::CouponAlreadyRedeemed => "coupon_already_redeemed",
            Self::CouponExpired => "coupon_expired",
            Self::CouponNotStarted => "coupon_not_started",
            Self::CouponSuspended => "coupon_suspended",
            Self::RedeemLimitReached { .. } => "redeem_limit_reached",
            Self::CodeExists => "code_exists",
            Self::CouponVoid => "coupon_void",
            Self::AlreadyRolledBack => "already_rolled_back",
            Self::ReferenceUsed => "reference_used",
            Self::RecipientKeyUsed => "recipient_key_used",
            Self::CouponReserved => "coupon_reserved",
            Self::NotEnoughCodes { .. } => "not_enough_codes",
            Self::NameTaken => "name_taken",
            Self::WebhookLimitReached { .. } => "webhook_limit_reached",
            Self::WebhookDisabled => "webhook_disabled",
            Self::PatternExhausted { .. } => "pattern_exhausted",
            Self::WrongJobState { .. } => "wrong_job_state",
            Self::JobDiscarded => "job_discarded",
            Self::ExportExpired => "export_expired",
            Self::EventsArchived { .. } => "events_archived",
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

    /// The class of the rejection.
    pub fn class(&self) -> RejectionClass {
        match self {
            Self::NotFound { .. } => RejectionClass::NotFound,
            Self::Forbidden { .. } => RejectionClass::Forbidden,
            Self::Invalid { .. } | Self::PatternExhausted { .. } | Self::BadFile { .. } | Self::KeyReused => {
                RejectionClass::Invalid
            }
            Self::TooLarge { .. } | Self::StorageQuotaExceeded { .. } => RejectionClass::TooLarge,
            Self::LockExpired
            | Self::CouponExpired
            | Self::JobDiscarded
            | Self::ExportExpired
            | Self::EventsArchived { .. } => RejectionClass::Gone,
            Self::SoldOut
            | Self::UserLimitReached { .. }
            | Self::BookNotActive
            | Self::BookNotStarted
            | Self::BookExpired
            | Self::BookClosed
            | Self::BookInUse
            | Self::InvalidTransition { .. }
            | Self::CodeKindFixed
            | Self::NotAssigned
            | Self::NotAssignable
            | Self::AlreadyAssigned
            | Self::NotHolder
            | Self::CouponLocked { .. }
            | Self::LockRequired
            | Self::LockStale
            | Self::CouponAlreadyRedeemed
            | Self::CouponNotStarted
            | Self::CouponSuspended
            | Self::RedeemLimitReached { .. }
            | Self::CodeExists
            | Self::CouponVoid
            | Self::AlreadyRolledBack
            | Self::ReferenceUsed
            | Self::RecipientKeyUsed
            | Self::CouponReserved
            | Self::NotEnoughCodes { .. }
            | Self::NameTaken
            | Self::WebhookLimitReached { .. }
            | Self::WebhookDisabled
            | Self::WrongJobState { .. }
            | Self::EmailTaken
            | Self::UserIdTaken
            | Self::AccountShared
            | Self::LastAdmin
            | Self::KeyInProgress => RejectionClass::Conflict,
            Self::Unknown { class, .. } => *class,
        }
    }

    /// The stored form. It includes class and explanation, so that an older program without this code can return it.
    pub fn to_stored(&self) -> serde_json::Result<Value> {
        let mut stored = serde_json::to_value(self)?;
        stored["class"] = serde_json::to_value(self.class())?;
        stored["detail"] = self.to_string().into();
        Ok(stored)
    }

    /// The rejection [`Self::Invalid`] with one field.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { faults: vec![FieldError::new(field, message)] }
    }
}

fn list(faults: &[FieldError]) -> String {
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
            serde_json::from_value::<Rejection>(stored).unwrap(),
            Rejection::UserLimitReached { limit: 3 }
        );
    }

    #[test]
    fn a_refusal_of_a_newer_program_keeps_its_code_class_and_sentence() {
        let stored = json!({"code": "budget_exhausted", "class": "gone", "detail": "the budget is spent", "budget": 5});
        let read: Rejection = serde_json::from_value(stored).unwrap();
        assert_eq!(
            (read.code(), read.class(), read.to_string().as_str()),
            ("budget_exhausted", RejectionClass::Gone, "the budget is spent")
        );
        assert_eq!(serde_json::from_value::<Rejection>(read.to_stored().unwrap()).unwrap(), read);
    }

    #[test]
    fn a_class_that_is_not_known_counts_as_a_conflict() {
        let stored = json!({"code": "odd", "class": "teapot", "detail": "odd"});
        assert_eq!(serde_json::from_value::<Rejection>(stored).unwrap().class(), RejectionClass::Conflict);
    }

    #[test]
    fn an_older_program_reads_the_stored_form() {
        for rejection in [
            Rejection::SoldOut,
            Rejection::not_found("coupon"),
            Rejection::invalid("userId", "is required"),
            Rejection::BadFile {
                fault: "empty_file".into(),
                detail: "the file is empty".into(),
                line: None,
                first_record: None,
            },
        ] {
            // A tagged enum ignores unknown fields.
            let stored = rejection.to_stored().unwrap();
            assert_eq!(stored["detail"], rejection.to_string());
            assert_eq!(serde_json::from_value::<Rejection>(stored).unwrap(), rejection);
        }
    }
}
