//! Revocation of codes: an unused code goes back to the free codes of its book.

mod take_back;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};

use crate::GenerateId;
use cuponera_domain::id::{AssignmentId, BookId, EventId};
use cuponera_domain::lock::LockNote;

pub(crate) use take_back::{divide_again, find_open_take_backs};

use super::batch::parameters::{BatchColumns, WhyColumns, apply_batch, column, why_batch};
use super::batch::{Call, Transition, Why};

/// Take a code back from its holder.
#[derive(Debug, Clone)]
pub struct Revoke {
    /// The code.
    pub code: String,
    /// The user that must hold it; any holder if absent.
    pub user: Option<String>,
    /// The assignment to end; the current one if absent. A job takes back only what it assigned itself.
    pub assignment: Option<AssignmentId>,
    /// The reason, for the event.
    pub reason: String,
}

/// A code that is free again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Revoked {
    /// The code.
    pub code: String,
    /// Its book.
    pub book: BookId,
    /// The version of the coupon's row.
    pub version: i32,
}

impl Transition for Revoke {
    type Outcome = Revoked;

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }

    fn row(&self) -> &str {
        &self.code
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], waits: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        revoke_each(pool, calls, waits).await
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        why_not_revoked(pool, calls).await
    }

    fn lock_note(call: &Call<Self>, done: &Revoked) -> Option<LockNote> {
        LockNote::of_none(call.business, &done.code, done.version)
    }
}

/// Revokes these codes in one statement and returns the indexes and outcomes of those that no rule rejects and no other
/// transaction holds. Each code occurs once. In the transaction of a chunk: once, with `waits` false and about 1,000 calls.
pub(super) async fn revoke_each(
    executor: impl PgExecutor<'_>,
    calls: &[&Call<Revoke>],
    waits: bool,
) -> sqlx::Result<Vec<(i32, Value)>> {
    apply_batch!(
        executor,
        calls,
        "src/sql/revoke.sql",
        &column(calls, |call| call.ask.code.clone()),
        &column(calls, |call| call.ask.user.clone()) as _,
        &column(calls, |call| call.ask.assignment.map(|assignment| assignment.0)) as _,
        &column(calls, |call| call.ask.reason.clone()),
        &column(calls, |_| EventId::generate().0),
        waits,
    )
}

/// Determines why these calls changed nothing.
pub(super) async fn why_not_revoked(
    executor: impl PgExecutor<'_>,
    calls: &[&Call<Revoke>],
) -> sqlx::Result<Vec<Why>> {
    why_batch!(
        executor,
        calls,
        "src/sql/revoke_why.sql",
        |_| false,
        &column(calls, |call| call.ask.code.clone()),
        &column(calls, |call| call.ask.user.clone()) as _,
        &column(calls, |call| call.ask.assignment.map(|assignment| assignment.0)) as _,
    )
}
