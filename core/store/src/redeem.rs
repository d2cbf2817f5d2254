//! Redemption of codes, and its validation without an effect.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgPool, query_file};

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::discount::{Discount, discounted};
use cuponera_domain::id::{AssignmentId, EventId, LockId, RedemptionId};
use cuponera_domain::lock::LockNote;
use cuponera_domain::money::{Amounts, Money};
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::batch::parameters::{AmountColumns, BatchColumns, WhyColumns, apply_batch, column, why_batch};
use super::batch::{Call, Transition, Visibility, Why, rejection};

/// Redeem a code once.
#[derive(Debug, Clone)]
pub struct Redeem {
    /// The code.
    pub code: String,
    /// The user who presents it.
    pub presenter: Presenter,
    /// The id of the caller's lock; rejected if it is not the live lock.
    pub lock: Option<LockId>,
    /// The caller's reference for the sale. The code is redeemed once for each.
    pub reference: Option<String>,
    /// Data that the caller stores with the redemption.
    pub metadata: Option<Value>,
    /// The amount of the sale before the discount.
    pub amount: Option<Money>,
}

/// The user who presents a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presenter {
    /// This user. A free code of a BEARER book is assigned to it.
    User(String),
    /// No user: a trusted caller redeems a code of a BEARER book, whose holder is then `bearer:<code>`.
    Bearer,
}

impl Presenter {
    fn user(&self) -> Option<String> {
        match self {
            Self::User(user) => Some(user.clone()),
            Self::Bearer => None,
        }
    }
}

/// A redemption of a code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Redeemed {
    /// The code.
    pub code: String,
    /// The id of this redemption.
    pub redemption: RedemptionId,
    /// The number of redemptions of the code, this one included.
    pub redeem_count: i32,
    /// The maximum number of redemptions.
    pub max_redeems: i32,
    /// The time of this redemption.
    pub redeemed_at: DateTime<Utc>,
    /// The amount and the discount, if the call that made it had an amount.
    #[serde(default)]
    pub amounts: Option<Amounts>,
    /// The version of the coupon's row; 0 if the call changed nothing.
    #[serde(default)]
    pub version: i32,
    /// Whether an earlier call with the same reference made it.
    #[serde(default)]
    pub replayed: bool,
}

impl Redeemed {
    /// Whether this was the last allowed redemption.
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
        let amounts = AmountColumns::of(calls, |call| call.ask.amount);
        apply_batch!(
            pool,
            calls,
            "src/sql/redeem.sql",
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.presenter.user()) as _,
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &column(calls, |_| RedemptionId::generate().0),
            &column(calls, |call| call.ask.reference.clone()) as _,
            &column(calls, |call| call.ask.metadata.clone()) as _,
            &column(calls, |_| EventId::generate().0),
            &column(calls, |_| AssignmentId::generate().0),
            &amounts.amount as _,
            &amounts.currency as _,
            &amounts.minor_units as _,
            waits,
        )
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let amounts = AmountColumns::of(calls, |call| call.ask.amount);
        why_batch!(
            pool,
            calls,
            "src/sql/redeem_why.sql",
            |row| row.foreign,
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.presenter.user()) as _,
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &column(calls, |call| call.ask.reference.clone()) as _,
            &amounts.amount as _,
            &amounts.currency as _,
            &amounts.minor_units as _,
        )
    }

    fn lock_note(call: &Call<Self>, done: &Redeemed) -> Option<LockNote> {
        LockNote::of_none(call.business, &done.code, done.version)
    }
}

impl Store {
    /// Checks whether a redemption would be allowed now, with the same rules, and changes nothing. Returns the amounts that it would store.
    pub async fn validate(&self, call: &Call<Redeem>) -> Result<Option<Amounts>> {
        let call = Call { key: None, ..call.clone() };
        let calls = [&call];
        let (columns, amounts) = (WhyColumns::of(&calls), AmountColumns::of(&calls, |call| call.ask.amount));
        let why = query_file!(
            "src/sql/redeem_why.sql",
            &columns.n,
            &columns.business,
            &columns.key as _,
            &columns.fingerprint as _,
            &column(&calls, |call| call.ask.code.clone()),
            &column(&calls, |call| call.ask.presenter.user()) as _,
            &column(&calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &column(&calls, |call| call.ask.reference.clone()) as _,
            &amounts.amount as _,
            &amounts.currency as _,
            &amounts.minor_units as _
        )
        .fetch_one(&self.hot)
        .await?;
        match why.verdict.as_str() {
            "again" => {
                let discount = why.discount.map(serde_json::from_value::<Discount>).transpose();
                Ok(discounted(discount.map_err(Error::internal)?.as_ref(), call.ask.amount)?)
            }
            _ if why.foreign && call.visibility == Visibility::OwnOnly => {
                Err(Rejection::not_found("coupon").into())
            }
            verdict => Err(rejection(verdict, why.detail)?.into()),
        }
    }
}
