//! Housekeeping on which no decision depends: rolls up counts, and deletes old answers, tokens, logins and dry runs.
//!
//! **Invariant.** No statement reads a whole table, and each deletes a bounded number of rows, because others use the table
//! at the same time.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_file_scalar};
use uuid::Uuid;

use crate::error::Result;

use super::Store;

/// Maximum number of rows that a statement deletes: a few milliseconds of work.
const SLICE: i64 = 5_000;
/// How long an answer under an idempotency key is kept.
const ANSWERS_KEPT_HOURS: i32 = 24;
/// How long a used refresh token is kept. A reuse in this time ends its login. Later it is an unknown token.
const USED_TOKENS_KEPT_DAYS: i32 = 7;
/// How long a login without a token is kept. It shows that its address logged in within the last 30 days.
const LOGINS_KEPT_DAYS: i32 = 37;

impl Store {
    /// Acquires or renews the lease of housekeeping for the time `lease`; returns whether this process holds it.
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

    /// Releases the lease if this process holds it, so that another process need not wait for its end.
    pub async fn yield_housekeeping(&self, holder: &str) -> Result<()> {
        query!("update housekeeping_lease set until = now() where holder = $1", holder)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Adds the collected counts to the totals of the books.
    pub async fn roll_up_counts(&self) -> Result<u64> {
        Ok(query_file!("src/sql/roll_up_counts.sql").execute(&self.pool).await?.rows_affected())
    }

    /// Deletes the answers under idempotency keys that are older than a day; returns their number.
    pub async fn forget_answers(&self) -> Result<u64> {
        // Index entries of deleted rows are before the end of the previous slice.
        delete_in_slices(DateTime::UNIX_EPOCH, |from| async move {
            let slice = query_file!("src/sql/forget_answers.sql", from, ANSWERS_KEPT_HOURS, SLICE)
                .fetch_one(&self.pool)
                .await?;
            Ok(Slice::of(slice.deleted, slice.deleted, slice.last))
        })
        .await
    }

    /// Deletes refresh tokens that expired a week ago, and used tokens whose reuse is no longer detected; returns their
    /// number.
    pub async fn forget_refresh_tokens(&self) -> Result<u64> {
        let expired = delete_in_slices(DateTime::UNIX_EPOCH, |from| async move {
            let slice =
                query_file!("src/sql/forget_refresh_tokens.sql", from, SLICE).fetch_one(&self.pool).await?;
            Ok(Slice::of(slice.deleted, slice.deleted, slice.last))
        });
        let expired = expired.await?;
        let used = delete_in_slices(DateTime::UNIX_EPOCH, |from| async move {
            let slice = query_file!("src/sql/forget_used_tokens.sql", from, USED_TOKENS_KEPT_DAYS, SLICE)
                .fetch_one(&self.pool)
                .await?;
            Ok(Slice::of(slice.deleted, slice.deleted, slice.last))
        });
        Ok(expired + used.await?)
    }

    /// Deletes logins that were last used long ago and have no token left; returns their number.
    pub async fn forget_logins(&self) -> Result<u64> {
        delete_in_slices((DateTime::UNIX_EPOCH, Uuid::nil()), |from: (DateTime<Utc>, Uuid)| async move {
            let slice = query_file!("src/sql/forget_logins.sql", from.0, from.1, LOGINS_KEPT_DAYS, SLICE)
                .fetch_one(&self.pool)
                .await?;
            Ok(Slice::of(slice.deleted, slice.examined, slice.last_use.zip(slice.last_id)))
        })
        .await
    }

    /// Deletes the counts of wrong passwords that no longer matter; returns their number.
    pub async fn forget_password_attempts(&self) -> Result<u64> {
        delete_in_slices((), |()| async move {
            let deleted = self.forget_old_attempts(SLICE).await?;
            Ok(Slice { deleted, next: (deleted >= SLICE.unsigned_abs()).then_some(()) })
        })
        .await
    }

    /// Deletes the codes that finished dry runs have seen; they are not retried. Returns their number.
    pub async fn forget_dry_runs(&self) -> Result<u64> {
        let over = query_file_scalar!("src/sql/dry_runs_over.sql").fetch_all(&self.pool).await?;
        let mut deleted = 0;
        for job in over {
            deleted += delete_in_slices((), |()| async move {
                let slice = query!(
                    "delete from dry_run_code where job_id = $1
                       and ctid = any(array(select ctid from dry_run_code where job_id = $1 limit $2))",
                    job,
                    SLICE
                );
                let deleted = slice.execute(&self.pool).await?.rows_affected();
                Ok(Slice { deleted, next: (deleted > 0).then_some(()) })
            })
            .await?;
        }
        Ok(deleted)
    }
}

/// The result of a statement that deletes at most [`SLICE`] rows.
struct Slice<P> {
    deleted: u64,
    /// Where the next slice begins; `None` after the last slice.
    next: Option<P>,
}

impl<P> Slice<P> {
    /// A slice is the last one if fewer rows than [`SLICE`] were examined.
    fn of(deleted: i64, examined: i64, last: Option<P>) -> Self {
        let next = last.filter(|_| examined == SLICE);
        Self { deleted: u64::try_from(deleted).unwrap_or(0), next }
    }
}

/// Deletes rows slice by slice, the first one from this position; returns the number of deleted rows.
async fn delete_in_slices<P, F: Future<Output = Result<Slice<P>>>>(
    first: P,
    delete: impl Fn(P) -> F,
) -> Result<u64> {
    let (mut from, mut deleted) = (first, 0);
    loop {
        let slice = delete(from).await?;
        deleted += slice.deleted;
        match slice.next {
            Some(next) => from = next,
            None => return Ok(deleted),
        }
    }
}
