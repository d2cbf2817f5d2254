//! Codes that end permanently.

mod job;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};

use crate::GenerateId;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::EventId;
use cuponera_domain::lock::LockNote;

pub use job::{VoidPreview, VoidSelection};

use super::batch::parameters::{BatchColumns, WhyColumns, apply_batch, column, why_batch};
use super::batch::{Call, Transition, Why};

/// End a code that is not used up.
#[derive(Debug, Clone)]
pub struct Void {
    /// The code.
    pub code: String,
    /// The user that must hold it; any or none if absent.
    pub user: Option<String>,
    /// The effective status that it must have; any if absent.
    pub only: Option<CouponStatus>,
    /// The reason, for the event.
    pub reason: String,
}

/// A code that is void.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Voided {
    /// The code.
    pub code: String,
    /// The version of the coupon's row; 0 if the call changed nothing.
    #[serde(default)]
    pub version: i32,
}

impl Transition for Void {
    type Outcome = Voided;

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }

    fn row(&self) -> &str {
        &self.code
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], waits: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        void_each(pool, calls, waits).await
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        why_not_voided(pool, calls).await
    }

    fn lock_note(call: &Call<Self>, done: &Voided) -> Option<LockNote> {
        LockNote::of_none(call.business, &done.code, done.version)
    }
}

/// Voids these codes in one statement and returns the indexes and outcomes of those that no rule rejects and no other
/// transaction holds. Each code occurs once. In the transaction of a chunk: once.
pub(super) async fn void_each(
    executor: impl PgExecutor<'_>,
    calls: &[&Call<Void>],
    waits: bool,
) -> sqlx::Result<Vec<(i32, Value)>> {
    apply_batch!(
        executor,
        calls,
        "src/sql/void.sql",
        &column(calls, |call| call.ask.code.clone()),
        &column(calls, |call| call.ask.user.clone()) as _,
        &column(calls, |call| call.ask.only.map(|status| status.as_str().to_owned())) as _,
        &column(calls, |call| call.ask.reason.clone()),
        &column(calls, |_| EventId::generate().0),
        waits,
    )
}

/// Determines why these calls changed nothing.
pub(super) async fn why_not_voided(
    executor: impl PgExecutor<'_>,
    calls: &[&Call<Void>],
) -> sqlx::Result<Vec<Why>> {
    why_batch!(
        executor,
        calls,
        "src/sql/void_why.sql",
        |_| false,
        &column(calls, |call| call.ask.code.clone()),
        &column(calls, |call| call.ask.user.clone()) as _,
        &column(calls, |call| call.ask.only.map(|status| status.as_str().to_owned())) as _,
    )
}
