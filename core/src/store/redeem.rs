//! Using codes, and asking whether one could be used.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgPool, query_file};

use crate::cache::LockNote;
use crate::error::{Error, Refusal, Result};
use crate::id::{EventId, LockId, RedemptionId};

use super::Store;
use super::batch::{Call, Columns, Sight, Transition, Why, column, refusal};

/// Use a code once.
#[derive(Debug, Clone)]
pub struct Redeem {
    /// The code.
    pub code: String,
    /// The holder.
    pub user: String,
    /// The lock the caller believes in; refused if it is not the live one.
    pub lock: Option<LockId>,
    /// The caller's own name for the sale.
    pub reference: Option<String>,
    /// What else the caller wants kept with it.
    pub metadata: Option<Value>,
}

/// A use of a code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The code.
    pub code: String,
    /// This use.
    pub redemption: RedemptionId,
    /// How many uses there are now, this one included.
    pub redeem_count: i32,
    /// How many there may be.
    pub max_redeems: i32,
    /// When.
    pub redeemed_at: DateTime<Utc>,
    /// The version of the coupon's row; 0 if the call changed nothing.
    #[serde(default)]
    pub version: i32,
}

impl Redeemed {
    /// Whether it was the last use there may be.
    pub fn is_final(&self) -> bool {
        self.redeem_count >= self.max_redeems
    }
}

impl Transition for Redeem {
    type Outcome = Redeemed;

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }

    fn row(&self) -> &str {
        &self.code
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], waits: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        let columns = Columns::of(calls);
        let rows = query_file!(
            "src/store/sql/redeem.sql",
            &columns.n,
            &columns.business,
            &columns.event,
            &columns.actor,
            &columns.ip as _,
            &columns.user_agent as _,
            &columns.request as _,
            &columns.key as _,
            &columns.fingerprint as _,
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.user.clone()),
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &column(calls, |_| RedemptionId::new().0),
            &column(calls, |call| call.ask.reference.clone()) as _,
            &column(calls, |call| call.ask.metadata.clone()) as _,
            &column(calls, |_| EventId::new().0),
            waits,
        )
        .fetch_all(pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.n, row.outcome)).collect())
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let columns = Columns::of(calls);
        let rows = query_file!(
            "src/store/sql/redeem_why.sql",
            &columns.n,
            &columns.business,
            &columns.key as _,
            &columns.fingerprint as _,
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.user.clone()),
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
        )
        .fetch_all(pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Why { n: row.n, verdict: row.verdict, detail: row.detail, foreign: row.foreign })
            .collect())
    }

    fn lock_note(call: &Call<Self>, done: &Redeemed) -> Option<LockNote> {
        LockNote::of_none(call.business, &done.code, done.version)
    }
}

impl Store {
    /// Asks whether a redemption would be allowed now, with the same checks, changing nothing.
    pub async fn validate(&self, call: &Call<Redeem>) -> Result<()> {
        let call = Call { key: None, ..call.clone() };
        let why = Redeem::why(&self.hot, &[&call]).await?.pop();
        let why = why.ok_or_else(|| Error::internal("the why-statement answered nothing"))?;
        match why.verdict.as_str() {
            "again" => Ok(()),
            _ if why.foreign && call.sight == Sight::Own => Err(Refusal::not_found("coupon").into()),
            verdict => Err(refusal(verdict, why.detail)?.into()),
        }
    }
}
