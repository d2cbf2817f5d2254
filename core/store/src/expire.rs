//! The expiry of locks, and the locks as they are noted in Redis.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query_file, query_file_as, query_scalar};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::Result;
use cuponera_domain::id::{BusinessId, EventId, LockId};
use cuponera_domain::lock::{Hold, LockNote};

use super::Store;

/// The result of one sweep of the agenda, or of the locks of SHARED codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Agenda rows deleted; expired locks of SHARED codes found.
    pub taken: i64,
    /// Locks ended.
    pub expired: i64,
}

impl Store {
    /// Ends expired locks of up to `most` agenda rows, each with an `EXPIRE` event. No decision depends on this: every
    /// statement treats an expired lock as absent.
    pub async fn expire_locks(&self, most: i64) -> Result<Expired> {
        self.end_expired_locks(&[], most).await
    }

    /// Ends the expired locks of these coupons and returns their number. [`Self::expire_locks`] deletes the agenda rows
    /// later.
    pub async fn expire_locks_of(&self, coupons: &[(BusinessId, String)]) -> Result<i64> {
        Ok(self.end_expired_locks(coupons, 0).await?.expired)
    }

    /// Ends up to `most` expired locks of the users of SHARED codes, each with an `EXPIRE` event. First skips codes that other transactions
    /// hold; if locks of such codes remain, waits for them briefly, because a hot code is held most of the time.
    pub async fn expire_shared_locks(&self, most: usize) -> Result<Expired> {
        let first = self.end_shared_locks(most, false).await?;
        if first.expired == first.taken {
            return Ok(first);
        }
        match self.end_shared_locks(most, true).await {
            Ok(second) => Ok(Expired { expired: first.expired + second.expired, ..second }),
            // The next round tries again.
            Err(sqlx::Error::Database(cause)) if cause.code().as_deref() == Some("55P03") => Ok(first),
            Err(error) => Err(error.into()),
        }
    }

    async fn end_shared_locks(&self, most: usize, waits: bool) -> sqlx::Result<Expired> {
        let events: Vec<Uuid> = (0..most).map(|_| EventId::generate().0).collect();
        let row = query_file!("src/sql/expire_shared_locks.sql", &events, waits).fetch_one(&self.hot).await?;
        Ok(Expired { taken: row.taken, expired: row.expired })
    }

    async fn end_expired_locks(&self, coupons: &[(BusinessId, String)], most: i64) -> Result<Expired> {
        let (businesses, codes) = columns(coupons);
        let row =
            query_file!("src/sql/expire_locks.sql", &businesses, &codes, most).fetch_one(&self.hot).await?;
        Ok(Expired { taken: row.taken, expired: row.expired })
    }

    /// The locks of these coupons. Unknown coupons are returned as unlocked, with version `i32::MAX`.
    pub async fn lock_notes_of(&self, coupons: &[(BusinessId, String)]) -> Result<Vec<LockNote>> {
        let (businesses, codes) = columns(coupons);
        let rows = query_file_as!(LockRow, "src/sql/lock_notes_of.sql", &businesses, &codes)
            .fetch_all(&self.hot)
            .await?;
        Ok(rows.into_iter().map(LockNote::from).collect())
    }

    /// Up to `most` locks that expire within that time, earliest first.
    pub async fn locks_due_within(&self, time: Duration, most: i64) -> Result<Vec<LockNote>> {
        let rows = query_file_as!(LockRow, "src/sql/locks_due_within.sql", time.as_secs_f64(), most)
            .fetch_all(&self.hot)
            .await?;
        Ok(rows.into_iter().map(LockNote::from).collect())
    }

    /// The time of the database's clock.
    pub async fn now(&self) -> Result<DateTime<Utc>> {
        Ok(query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&self.hot).await?)
    }
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
