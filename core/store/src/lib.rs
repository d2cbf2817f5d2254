//! Postgres: the only truth, and the only place with SQL.
//!
//! **Invariants.** A function that writes a state repeats its precondition in `WHERE`. Rows are locked in one order:
//! chunk before job; coupons by key, then quotas, then keys; a book's row before its codes. Nothing waits for the
//! network inside a transaction.

// Connections, transactions and the schema.
mod address;
mod audit;
mod connect;
mod index;
mod schema;

// Hot writes: batches, and their transitions.
mod batch;
mod request_key;

mod assign;
mod lock;
mod redeem;
mod revoke;
mod rollback;
mod void;

mod hot_transaction;
mod shared;

mod expire;

// Books, coupons and their events.
mod book;
mod coupon;
mod deletion;
mod event_log;
mod reconcile;
mod redemption;
mod statistics;

// Jobs, the codes that they write, and the messages that announce them.
mod job;

mod codes;

mod distribution;
mod export;
mod pool;

mod outbox;

mod dead_letter;
mod notifier;
mod rescue;

// Tenants and callers.
mod business;

mod account;
mod error;
mod generate_id;
mod membership;
pub mod metrics;
mod private_database;
mod stored_kind;
mod stored_status;
mod work_channel;

mod api_key;
mod login;
mod password_attempt;

// Readers of events: webhooks, and the chain of seals.
mod webhook;

mod audit_chain;

// Erasure of users, in all of these.
mod erasure;

// Housekeeping and diagnostics.
mod sweep;

mod diagnostics;
mod pool_metrics;

pub use account::{Account, AccountChange, AccountCredential, Membership, NewAccount};
pub use address::{AddressError, connect_options};
pub use api_key::{ApiKey, KeyHolder, NewApiKey};
pub use assign::{AssignNamed, AssignRandom, Assigned};
pub use audit_chain::{
    AnchorLines, ArchiveContent, ArchiveLock, ArchiveObstacle, AuditStatus, DetachRound, LastVerification,
    LogReader, MAX_EVENTS_SEALED, MAX_FINDINGS, OpenArchive, RecordedArchive, ScannedMonth, SealRound,
    SealingLag, Verification, VerifyOptions, verify_chain,
};
pub use batch::{AttemptResult, Call, TIMEOUT, Transition, Visibility};
pub use book::MAX_BOOKS_EXAMINED;
pub use business::Business;
pub use codes::{
    BulkOutcome, FindLines, ImportPart, ImportRow, RejectedRow, RejectedRowCursor, RejectedRowPage,
    RowRejection, SampleRow, Space,
};
pub use connect::{Pools, Store};
pub use coupon::{
    CodeFilter, CouponOfUser, HeldFilter, MAX_FREE_POSITIONS_EXAMINED, MAX_NEIGHBORS_EXAMINED, MAX_SCATTERED_EXAMINED,
};
pub use dead_letter::{DeadLetterRun, Redriven};
pub use deletion::{Deletion, MAX_CODES_DELETED_AT_ONCE, Step};
pub use diagnostics::{ExamineError, Examined, ServerState, Untrimmed, examine};
pub use distribution::{DistributionFilter, MAX_MEMBERS_PREVIEWED, NewDistribution, Preview, ReportRow};
pub use erasure::{Erased, Erasure, ErasurePreview, ErasureProgress, ErasureStart};
pub use error::{Error, Result, breaches};
pub use event_log::{
    AdminEvent, AdminEventFilter, EventCursor, EventFilter, EventLogEnd, InvalidCursor, LoggedEvent,
    MAX_ADMIN_EVENTS_EXAMINED, MAX_EVENTS_EXAMINED,
};
pub use expire::Expired;
pub use export::{ExportFile, ExportPage, ExportPart, ExportRow, Exported, NewExport, StoredPart};
pub use generate_id::GenerateId;
pub use job::{
    Claim, ClaimState, Finished, JobFilter, MAX_JOBS_EXAMINED, NewImport, NewMemberImport, Redrive,
};
pub use lock::{Lock, LockOwner, Locked, Unlock, Unlocked};
pub use login::{LoginHolder, RefreshGrant, Rotated};
pub use notifier::Notifier;
pub use outbox::{Outgoing, OutgoingKind};
pub use password_attempt::{AttemptCheck, PasswordAttempt};
pub use pool_metrics::PoolLevel;
pub use private_database::{PRIVATE_DATABASE, create_private_database, private_database_url};
pub use reconcile::{Difference, compare_statistics};
pub use redeem::{Presenter, Redeem, Redeemed};
pub use redemption::{MAX_REDEMPTIONS_EXAMINED, RedemptionFilter};
pub use request_key::{CallResult, IdempotencyKey};
pub use rescue::{Backlog, RESCUE_AFTER, WorkerAvailability};
pub use revoke::{Revoke, Revoked};
pub use rollback::{Rollback, RolledBack};
pub use schema::SchemaState;
pub use shared::{NewSharedCode, SharedAsk, SharedEffect};
pub use statistics::Statistics;
pub use void::{Void, VoidPreview, VoidSelection, Voided};
pub use webhook::{AttemptOutcome, ClaimLimits, ClaimedDelivery, Finish, ReadRound, WebhookWithSecret};
pub use work_channel::listen_for_work;
