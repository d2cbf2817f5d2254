//! Locks on codes during a checkout: lock and unlock.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgPool;

use crate::GenerateId;
use cuponera_domain::id::{AssignmentId, EventId, LockId};
use cuponera_domain::lock::{Hold, LockNote};

use super::batch::parameters::{BatchColumns, WhyColumns, apply_batch, column, why_batch};
use super::batch::{Call, Transition, Why};
use super::shared::{SharedAsk, SharedEffect};

/// Lock a code for its holder, or renew the live lock. A free code of a BEARER book is assigned to the user. Of a SHARED code a use is locked.
#[derive(Debug, Clone)]
pub struct Lock {
    /// The code.
    pub code: String,
    /// The holder.
    pub user: String,
    /// Duration of the lock; by default the book's `lock_ttl_seconds`.
    pub ttl_seconds: Option<i32>,
}

/// Release a lock.
#[derive(Debug, Clone)]
pub struct Unlock {
    /// The code.
    pub code: String,
    /// Whose lock to release.
    pub owner: LockOwner,
    /// The id of the lock; rejected if another lock is live.
    pub lock: Option<LockId>,
}

/// Whose lock to release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockOwner {
    /// Only this user's lock.
    User(String),
    /// The lock of any user.
    Anyone,
}

/// A live lock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Locked {
    /// The code.
    pub code: String,
    /// The id of the lock; a renewal does not change it.
    pub lock: LockId,
    /// When it was taken.
    pub locked_at: DateTime<Utc>,
    /// When it expires.
    pub locked_until: DateTime<Utc>,
    /// The version of the coupon's row; 0 if the call changed nothing, and for a SHARED code: the locks of its users are not noted.
    #[serde(default)]
    pub version: i32,
}

/// A code that is not locked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unlocked {
    /// The code.
    pub code: String,
    /// The version of the coupon's row; 0 if the call changed nothing, and for a SHARED code.
    #[serde(default)]
    pub version: i32,
    /// Whether the code is SHARED: it has no holder.
    #[serde(default)]
    pub is_shared: bool,
}

impl Transition for Lock {
    type Outcome = Locked;

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
            "src/sql/lock.sql",
            &column(calls, |call| call.ask.code.clone()),
            &column(calls, |call| call.ask.user.clone()),
            &column(calls, |call| call.ask.ttl_seconds) as _,
            &column(calls, |_| LockId::generate().0),
            &column(calls, |_| EventId::generate().0),
            &column(calls, |_| AssignmentId::generate().0),
            waits,
        )
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let owners = column(calls, |call| LockOwner::User(call.ask.user.clone()));
        why(
            pool,
            calls,
            &column(calls, |call| call.ask.code.clone()),
            &owners,
            &column(calls, |_| None),
            "lock",
        )
        .await
    }

    fn of_shared(&self) -> Option<SharedAsk> {
        Some(SharedAsk::Lock { user: self.user.clone(), ttl_seconds: self.ttl_seconds })
    }

    fn outcome_of_shared(effect: SharedEffect) -> Option<Locked> {
        match effect {
            SharedEffect::Locked(locked) => Some(locked),
            SharedEffect::Unlocked(_) | SharedEffect::Redeemed(_) | SharedEffect::RolledBack(_) => None,
        }
    }

    fn lock_note(call: &Call<Self>, done: &Locked) -> Option<LockNote> {
        let hold = Hold { lock: done.lock, holder: call.ask.user.clone(), until: done.locked_until };
        let (business, code, version) = (call.business, done.code.clone(), done.version);
        (version > 0).then_some(LockNote { business, code, version, hold: Some(hold) })
    }
}

impl Transition for Unlock {
    type Outcome = Unlocked;

    fn code(&self) -> Option<&str> {
        Some(&self.code)
    }

    fn row(&self) -> &str {
        &self.code
    }

    async fn apply(pool: &PgPool, calls: &[&Call<Self>], waits: bool) -> sqlx::Result<Vec<(i32, Value)>> {
        let (users, forced) = split_owners(&column(calls, |call| call.ask.owner.clone()));
        apply_batch!(
            pool,
            calls,
            "src/sql/unlock.sql",
            &column(calls, |call| call.ask.code.clone()),
            &users as _,
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &forced,
            waits,
        )
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let owners = column(calls, |call| call.ask.owner.clone());
        let locks = column(calls, |call| call.ask.lock);
        why(pool, calls, &column(calls, |call| call.ask.code.clone()), &owners, &locks, "unlock").await
    }

    fn of_shared(&self) -> Option<SharedAsk> {
        Some(SharedAsk::Unlock { owner: self.owner.clone(), lock: self.lock })
    }

    fn outcome_of_shared(effect: SharedEffect) -> Option<Unlocked> {
        match effect {
            SharedEffect::Unlocked(unlocked) => Some(unlocked),
            SharedEffect::Locked(_) | SharedEffect::Redeemed(_) | SharedEffect::RolledBack(_) => None,
        }
    }

    fn lock_note(call: &Call<Self>, done: &Unlocked) -> Option<LockNote> {
        LockNote::of_none(call.business, &done.code, done.version)
    }
}

async fn why<T>(
    pool: &PgPool,
    calls: &[&Call<T>],
    codes: &[String],
    owners: &[LockOwner],
    locks: &[Option<LockId>],
    statement: &str,
) -> sqlx::Result<Vec<Why>> {
    let (users, forced) = split_owners(owners);
    why_batch!(
        pool,
        calls,
        "src/sql/lock_why.sql",
        |row| row.foreign,
        codes,
        &users as _,
        &locks.iter().map(|lock| lock.map(|id| id.0)).collect::<Vec<_>>() as _,
        &forced,
        statement,
    )
}

fn split_owners(owners: &[LockOwner]) -> (Vec<Option<String>>, Vec<bool>) {
    owners
        .iter()
        .map(|owner| match owner {
            LockOwner::User(user) => (Some(user.clone()), false),
            LockOwner::Anyone => (None, true),
        })
        .unzip()
}
