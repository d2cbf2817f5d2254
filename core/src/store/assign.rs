//! Assignment of codes to users, at random or by code.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgPool, query_file};

use crate::coupon::state::CouponStatus;
use crate::id::{AssignmentId, BookId};

use super::batch::{Call, Columns, Transition, Why, column};

/// Assign a random free code of a book to a user.
#[derive(Debug, Clone)]
pub struct AssignRandom {
    /// The book.
    pub book: BookId,
    /// The user.
    pub user: String,
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
    /// Whether the user held the code before this call.
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

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], _: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        let columns = Columns::of(calls);
        sqlx::query_as(include_str!("sql/assign_random.sql"))
            .bind(columns.n)
            .bind(columns.business)
            .bind(columns.event)
            .bind(columns.actor)
            .bind(columns.ip)
            .bind(columns.user_agent)
            .bind(columns.request)
            .bind(columns.key)
            .bind(columns.fingerprint)
            .bind(column(calls, |call| call.ask.book.0))
            .bind(column(calls, |call| call.ask.user.clone()))
            .bind(column(calls, |_| AssignmentId::new().0))
            .fetch_all(pool)
            .await
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let columns = Columns::of(calls);
        let rows = query_file!(
            "src/store/sql/assign_random_why.sql",
            &columns.n,
            &columns.business,
            &columns.key as _,
            &columns.fingerprint as _,
            &column(calls, |call| call.ask.book.0),
            &column(calls, |call| call.ask.user.clone()),
        )
        .fetch_all(pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Why { n: row.n, verdict: row.verdict, detail: row.detail, foreign: false })
            .collect())
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
        let columns = Columns::of(calls);
        sqlx::query_as(include_str!("sql/assign_named.sql"))
            .bind(columns.n)
            .bind(columns.business)
            .bind(columns.event)
            .bind(columns.actor)
            .bind(columns.ip)
            .bind(columns.user_agent)
            .bind(columns.request)
            .bind(columns.key)
            .bind(columns.fingerprint)
            .bind(column(calls, |call| call.ask.code.clone()))
            .bind(column(calls, |call| call.ask.user.clone()))
            .bind(column(calls, |_| AssignmentId::new().0))
            .bind(waits)
            .fetch_all(pool)
            .await
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let columns = Columns::of(calls);
        let rows = query_file!(
            "src/store/sql/assign_named_why.sql",
            &columns.n,
            &columns.business,
            &columns.key as _,
            &columns.fingerprint as _,
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.user.clone()),
        )
        .fetch_all(pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Why { n: row.n, verdict: row.verdict, detail: row.detail, foreign: false })
            .collect())
    }
}
