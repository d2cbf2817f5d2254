//! Housekeeping that decides nothing: counts are rolled up, old answers, tokens and dry runs deleted.
//!
//! **Invariant.** No statement reads a whole table, and each deletes a bounded number of rows: others use the table meanwhile.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_file_scalar};
use uuid::Uuid;

use crate::error::Result;

use super::Store;

/// Rows that one statement deletes: a few milliseconds of work.
const SLICE: i64 = 5_000;
/// How long an answer under an idempotency key is kept.
const ANSWERS_KEPT_HOURS: i32 = 24;
/// How long a used refresh token is kept: if it comes again in this time, its login ends. Later it is an unknown token.
const USED_TOKENS_KEPT_DAYS: i32 = 7;
/// How long a login without a token is kept: it shows that its address has logged in within 30 days.
const LOGINS_KEPT_DAYS: i32 = 37;

impl Store {
    /// Whether this process keeps house: it has the lease, or takes it because no other has. It holds for `lease`.
    pub async fn lead_housekeeping(&self, holder: &str, lease: Duration) -> Result<bool> {
        let leads = query!(
            "update housekeeping_lease set holder = $1, until = now() + make_interval(secs => $2)
             where holder = $1 or until <= now()",
            holder,
            lease.as_secs_f64()
        )
        .execute(&self.pool)
        .await?;
        Ok(leads.rows_affected() > 0)
    }

    /// Gives the lease back if this process has it, so that another need not wait until it runs out.
    pub async fn yield_housekeeping(&self, holder: &str) -> Result<()> {
        query!("update housekeeping_lease set until = now() where holder = $1", holder)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Folds the counts that have gathered into the books' totals.
    pub async fn roll_up_counts(&self) -> Result<u64> {
        Ok(query_file!("src/store/sql/roll_up_counts.sql").execute(&self.pool).await?.rows_affected())
    }

    /// Deletes the answers under idempotency keys that are older than a day; answers how many.
    pub async fn forget_answers(&self) -> Result<u64> {
        // The end of the previous slice. Index entries of deleted rows stand before it.
        let (mut from, mut deleted) = (DateTime::UNIX_EPOCH, 0);
        loop {
            let slice = query_file!("src/store/sql/forget_answers.sql", from, ANSWERS_KEPT_HOURS, SLICE)
                .fetch_one(&self.pool)
                .await?;
            deleted += u64::try_from(slice.deleted).unwrap_or(0);
            match slice.last {
                Some(last) if slice.deleted == SLICE => from = last,
                _ => return Ok(deleted),
            }
        }
    }

    /// Deletes refresh tokens that expired a week ago, and those that were used up longer ago than a reuse is looked for; returns how
    /// many.
    pub async fn forget_refresh_tokens(&self) -> Result<u64> {
        let (mut from, mut deleted) = (DateTime::UNIX_EPOCH, 0);
        loop {
            let slice = query_file!("src/store/sql/forget_refresh_tokens.sql", from, SLICE)
                .fetch_one(&self.pool)
                .await?;
            deleted += u64::try_from(slice.deleted).unwrap_or(0);
            match slice.last {
                Some(last) if slice.deleted == SLICE => from = last,
                _ => break,
            }
        }
        let mut from = DateTime::UNIX_EPOCH;
        loop {
            let slice =
                query_file!("src/store/sql/forget_used_tokens.sql", from, USED_TOKENS_KEPT_DAYS, SLICE)
                    .fetch_one(&self.pool)
                    .await?;
            deleted += u64::try_from(slice.deleted).unwrap_or(0);
            match slice.last {
                Some(last) if slice.deleted == SLICE => from = last,
                _ => return Ok(deleted),
            }
        }
    }

    /// Deletes logins that were last used long ago and have no token left; returns how many.
    pub async fn forget_logins(&self) -> Result<u64> {
        let (mut from, mut deleted): ((DateTime<Utc>, Uuid), u64) = ((DateTime::UNIX_EPOCH, Uuid::nil()), 0);
        loop {
            let slice =
                query_file!("src/store/sql/forget_logins.sql", from.0, from.1, LOGINS_KEPT_DAYS, SLICE)
                    .fetch_one(&self.pool)
                    .await?;
            deleted += u64::try_from(slice.deleted).unwrap_or(0);
            match slice.last_use.zip(slice.last_id) {
                Some(last) if slice.examined == SLICE => from = last,
                _ => return Ok(deleted),
            }
        }
    }

    /// Deletes the counts of wrong passwords that no longer matter; returns how many.
    pub async fn forget_password_attempts(&self) -> Result<u64> {
        let mut deleted = 0;
        loop {
            let slice = self.forget_old_attempts(SLICE).await?;
            deleted += slice;
            if slice < SLICE.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }

    /// Deletes the codes that dry runs have seen which are over and will not be tried again.
    pub async fn forget_dry_runs(&self) -> Result<u64> {
        let over = query_file_scalar!("src/store/sql/dry_runs_over.sql").fetch_all(&self.pool).await?;
        let mut deleted = 0;
        for job in over {
            loop {
                let slice = query!(
                    "delete from dry_run_code where job_id = $1
                       and ctid = any(array(select ctid from dry_run_code where job_id = $1 limit $2))",
                    job,
                    SLICE
                )
                .execute(&self.pool)
                .await?
                .rows_affected();
                deleted += slice;
                if slice == 0 {
                    break;
                }
            }
        }
        Ok(deleted)
    }
}
