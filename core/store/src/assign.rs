//! Assignment of codes to users, at random or by code.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use crate::GenerateId;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::{AssignmentId, BookId};

use super::batch::parameters::{BatchColumns, WhyColumns, column, why_batch};
use super::batch::{Call, Transition, Why};

/// Assign a random free code of a book to a user.
#[derive(Debug, Clone)]
pub struct AssignRandom {
    /// The book.
    pub book: BookId,
    /// The user.
    pub user: String,
    /// The caller's key of the recipient: a repeated one gets the same code.
    pub recipient_key: Option<String>,
}

/// Assign a code to a user.
#[derive(Debug, Clone)]
pub struct AssignNamed {
    /// The code.
    pub code: String,
    /// The user.
    pub user: String,
}

/// An assigned code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assigned {
    /// The id of the assignment.
    pub id: AssignmentId,
    /// The code.
    pub code: String,
    /// Its book.
    pub book: BookId,
    /// The holder.
    pub user: String,
    /// When it was assigned.
    pub assigned_at: DateTime<Utc>,
    /// Whether the code was assigned to the user before this call.
    pub repeated: bool,
    /// The status of the code; after a repeated call it may be locked or redeemed.
    #[serde(default = "assigned")]
    pub status: CouponStatus,
}

fn assigned() -> CouponStatus {
    CouponStatus::Assigned
}

impl Transition for AssignRandom {
    type Outcome = Assigned;

    fn code(&self) -> Option<&str> {
        None
    }

    fn row(&self) -> &str {
        &self.user
    }

    fn natural_key(&self) -> Option<(Uuid, &str)> {
        Some((self.book.0, self.recipient_key.as_deref()?))
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], _: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        BatchColumns::of(calls)
            .bind(sqlx::query_as(include_str!("sql/assign_random.sql")))
            .bind(column(calls, |call| call.ask.book.0))
            .bind(column(calls, |call| call.ask.user.clone()))
            .bind(column(calls, |_| AssignmentId::generate().0))
            .bind(column(calls, |call| call.ask.recipient_key.clone()))
            .fetch_all(pool)
            .await
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        why_batch!(
            pool,
            calls,
            "src/sql/assign_random_why.sql",
            |_| false,
            &column(calls, |call| call.ask.book.0),
            &column(calls, |call| call.ask.user.clone()),
            &column(calls, |call| call.ask.recipient_key.clone()) as _,
        )
    }
}

impl Transition for AssignNamed {
    type Outcome = Assigned;

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }

    fn row(&self) -> &str {
        &self.user
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], waits: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        BatchColumns::of(calls)
            .bind(sqlx::query_as(include_str!("sql/assign_named.sql")))
            .bind(column(calls, |call| call.ask.code.clone()))
            .bind(column(calls, |call| call.ask.user.clone()))
            .bind(column(calls, |_| AssignmentId::generate().0))
            .bind(waits)
            .fetch_all(pool)
            .await
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        why_not_assigned(pool, calls).await
    }
}

/// Determines why these codes were not assigned.
pub(super) async fn why_not_assigned(
    executor: impl PgExecutor<'_>,
    calls: &[&Call<AssignNamed>],
) -> sqlx::Result<Vec<Why>> {
    why_batch!(
        executor,
        calls,
        "src/sql/assign_named_why.sql",
        |_| false,
        &column(calls, |call| call.ask.code.clone()),
        &column(calls, |call| call.ask.user.clone()),
    )
}
