//! Postgres: the only truth, and the only place with SQL.
//!
//! **Invariants.** A function that writes a state repeats its precondition in `WHERE`. Rows are locked in one order:
//! chunk before job; coupons by key, then quotas, then keys; a book's row before its codes. Nothing waits for the
//! network inside a transaction.

mod account;
mod address;
mod api_key;
mod assign;
mod batch;
mod book;
mod bulk;
mod business;
mod chunk;
mod connect;
mod coupon;
mod deletion;
mod distribution;
mod event_log;
mod examine;
mod gauge;
mod hold;
mod index;
mod job;
mod login;
mod membership;
mod outbox;
mod password_attempt;
mod pool;
mod redeem;
mod request_key;
mod schema;
mod space;
mod storage;
mod sweep;

pub use account::{Account, AccountChange, AccountCredential, Membership, NewAccount};
pub use address::{AddressError, connect_options};
pub use api_key::{ApiKey, KeyHolder, NewApiKey};
pub use assign::{AssignNamed, AssignRandom, Assigned};
pub use batch::{Answer, Call, PATIENCE, RequestKey, Sight, Transition, Tried};
pub use book::MAX_BOOKS_EXAMINED;
pub use bulk::{
    ImportPart, ImportRow, Rejected, Rejection, RejectionCursor, RejectionPage, SampleRow, Taken,
};
pub use business::Business;
pub use chunk::{Claim, Finished, Pulse};
pub use connect::{Pools, Store};
pub use coupon::{
    CodeFilter, HeldFilter, MAX_FREE_POSITIONS_EXAMINED, MAX_NEIGHBORS_EXAMINED, MAX_SCATTERED_EXAMINED,
};
pub use deletion::{Deletion, MAX_CODES_DELETED_AT_ONCE, Step};
pub use distribution::{DistributionFilter, MAX_MEMBERS_PREVIEWED, NewDistribution, Preview, ReportRow};
pub use event_log::{EventCursor, LoggedEvent};
pub use examine::{ExamineError, Examined, ServerState, Untrimmed, examine};
pub use gauge::PoolLevel;
pub use hold::{Expired, Lock, LockOwner, Locked, Unlock, Unlocked};
pub use job::{JobFilter, MAX_JOBS_EXAMINED, NewImport, NewMemberImport, Redrive};
pub use login::{LoginHolder, RefreshGrant, Rotated};
pub use outbox::{Backlog, Bell, Hands, LetteredRun, Outgoing, OutgoingKind, RESCUE_AFTER, Redriven};
pub use password_attempt::{Attempted, PasswordAttempt};
pub use redeem::{Redeem, Redeemed};
pub use schema::SchemaState;
pub use space::Space;
