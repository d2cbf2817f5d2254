//! Locks on codes during a checkout: lock, unlock, and the expiry of locks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgPool, query_file, query_file_as, query_scalar};
use uuid::Uuid;

use crate::cache::{Hold, LockNote};
use crate::error::Result;
use crate::id::{BusinessId, EventId, LockId};

use super::Store;
use super::batch::{Call, Columns, Transition, Why, column};

/// Lock a code for its holder, or renew the live lock.
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
#[derive(Debug, Clone)]
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
    /// The version of the coupon's row; 0 if the call changed nothing.
    #[serde(default)]
    pub version: i32,
}

/// A code that is not locked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unlocked {
    /// The code.
    pub code: String,
    /// The version of the coupon's row; 0 if the call changed nothing.
    #[serde(default)]
    pub version: i32,
}

/// The result of one sweep of the agenda.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Agenda rows deleted.
    pub taken: i64,
    /// Locks ended.
    pub expired: i64,
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
        let columns = Columns::of(calls);
        let rows = query_file!(
            "src/store/sql/lock.sql",
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
            &column(calls, |call| call.ask.ttl_seconds) as _,
            &column(calls, |_| LockId::new().0),
            &column(calls, |_| EventId::new().0),
            waits,
        )
        .fetch_all(pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.n, row.outcome)).collect())
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
        let columns = Columns::of(calls);
        let (users, forced) = split_owners(&column(calls, |call| call.ask.owner.clone()));
        let rows = query_file!(
            "src/store/sql/unlock.sql",
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
            &users as _,
            &column(calls, |call| call.ask.lock.map(|lock| lock.0)) as _,
            &forced,
            waits,
        )
        .fetch_all(pool)
        .await?;
        Ok(rows.into_iter().map(|row| (row.n, row.outcome)).collect())
    }

    async fn why(pool: &PgPool, calls: &[&Call<Self>]) -> sqlx::Result<Vec<Why>> {
        let owners = column(calls, |call| call.ask.owner.clone());
        let locks = column(calls, |call| call.ask.lock);
        why(pool, calls, &column(calls, |call| call.ask.code.clone()), &owners, &locks, "unlock").await
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
    let columns = Columns::of(calls);
    let (users, forced) = split_owners(owners);
    let rows = query_file!(
        "src/store/sql/lock_why.sql",
        &columns.n,
        &columns.business,
        &columns.key as _,
        &columns.fingerprint as _,
        codes,
        &users as _,
        &locks.iter().map(|lock| lock.map(|id| id.0)).collect::<Vec<_>>() as _,
        &forced,
        statement,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Why { n: row.n, verdict: row.verdict, detail: row.detail, foreign: row.foreign })
        .collect())
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

/// The lock of a coupon, as it is read.
struct LockRow {
    business_id: Uuid,
    code: String,
    version: i32,
    lock_id: Option<Uuid>,
    holder: Option<String>,
    locked_until: Option<DateTime<Utc>>,
}

impl From<LockRow> for LockNote {
    fn from(row: LockRow) -> Self {
        let hold = row.lock_id.zip(row.holder).zip(row.locked_until);
        let hold = hold.map(|((lock, holder), until)| Hold { lock: LockId(lock), holder, until });
        Self { business: BusinessId(row.business_id), code: row.code, version: row.version, hold }
    }
}

fn columns(coupons: &[(BusinessId, String)]) -> (Vec<Uuid>, Vec<String>) {
    coupons.iter().map(|(business, code)| (business.0, code.clone())).unzip()
}

impl Store {
    /// Ends expired locks of up to `most` agenda rows, each with an `EXPIRE` event. No decision depends on this: every
    /// statement treats an expired lock as absent.
    pub async fn expire_locks(&self, most: i64) -> Result<Expired> {
        self.end_lapsed_locks(&[], most).await
    }

    /// Ends the expired locks of these coupons and returns their number. [`Self::expire_locks`] deletes the agenda rows
    /// later.
    pub async fn expire_locks_of(&self, coupons: &[(BusinessId, String)]) -> Result<i64> {
        Ok(self.end_lapsed_locks(coupons, 0).await?.expired)
    }

    async fn end_lapsed_locks(&self, coupons: &[(BusinessId, String)], most: i64) -> Result<Expired> {
        let (businesses, codes) = columns(coupons);
        let row = query_file!("src/store/sql/expire_locks.sql", &businesses, &codes, most)
            .fetch_one(&self.hot)
            .await?;
        Ok(Expired { taken: row.taken, expired: row.expired })
    }

    /// The locks of these coupons. Unknown coupons are returned as unlocked, with version `i32::MAX`.
    pub async fn lock_notes_of(&self, coupons: &[(BusinessId, String)]) -> Result<Vec<LockNote>> {
        let (businesses, codes) = columns(coupons);
        let rows = query_file_as!(LockRow, "src/store/sql/lock_notes_of.sql", &businesses, &codes)
            .fetch_all(&self.hot)
            .await?;
        Ok(rows.into_iter().map(LockNote::from).collect())
    }

    /// Up to `most` locks that expire within that time, earliest first.
    pub async fn locks_due_within(&self, time: Duration, most: i64) -> Result<Vec<LockNote>> {
        let rows = query_file_as!(LockRow, "src/store/sql/locks_due_within.sql", time.as_secs_f64(), most)
            .fetch_all(&self.hot)
            .await?;
        Ok(rows.into_iter().map(LockNote::from).collect())
    }

    /// The time of the database's clock.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        Ok(query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&self.hot).await?)
    }
}
