//! Redemption of codes, and its validation without an effect.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::id::{AssignmentId, EventId, LockId, RedemptionId};
use cuponera_domain::lock::LockNote;
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::batch::parameters::{BatchColumns, WhyColumns, apply_batch, column, why_batch};
use super::batch::{Call, Transition, Visibility, Why, rejection};
use super::shared::{SharedAsk, SharedEffect, validate_shared};

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
    /// The maximum number of redemptions; `i32::MAX` for a SHARED code without a limit.
    pub max_redeems: i32,
    /// The time of this redemption.
    pub redeemed_at: DateTime<Utc>,
    /// The version of the coupon's row; 0 if the call changed nothing, and for a SHARED code.
    #[serde(default)]
    pub version: i32,
    /// Whether an earlier call with the same reference made it.
    #[serde(default)]
    pub replayed: bool,
    /// Whether the code is SHARED: it has no holder.
    #[serde(default)]
    pub is_shared: bool,
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
            waits,
        )
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        why_batch!(
            pool,
            calls,
            "src/sql/redeem_why.sql",
            |row| row.foreign,
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.presenter.user()) as _,
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &column(calls, |call| call.ask.reference.clone()) as _,
        )
    }

    fn of_shared(&self) -> Option<SharedAsk> {
        Some(SharedAsk::Redeem {
            user: self.presenter.user(),
            lock: self.lock,
            reference: self.reference.clone(),
            metadata: self.metadata.clone(),
        })
    }

    fn outcome_of_shared(effect: SharedEffect) -> Option<Redeemed> {
        match effect {
            SharedEffect::Redeemed(redeemed) => Some(redeemed),
            SharedEffect::Locked(_) | SharedEffect::Unlocked(_) | SharedEffect::RolledBack(_) => None,
        }
    }

    fn lock_note(call: &Call<Self>, done: &Redeemed) -> Option<LockNote> {
        LockNote::of_none(call.business, &done.code, done.version)
    }
}

impl Store {
    /// Checks whether a redemption would be allowed now, with the same rules, and changes nothing.
    pub async fn validate(&self, call: &Call<Redeem>) -> Result<()> {
        let call = Call { key: None, ..call.clone() };
        let why = Redeem::why(&self.hot, &[&call]).await?.pop();
        let why = why.ok_or_else(|| Error::internal("the why-statement returned no row"))?;
        match why.verdict.as_str() {
            "again" => Ok(()),
            "shared" => Ok(validate_shared(&self.hot, &call).await?),
            _ if why.foreign && call.visibility == Visibility::OwnOnly => {
                Err(Rejection::not_found("coupon").into())
            }
            verdict => Err(rejection(verdict, why.detail)?.into()),
        }
    }
}
