//! Housekeeping that decides nothing: counts are rolled up, partitions made ahead, old answers and tokens forgotten.

use sqlx::{query, query_file};

use crate::error::Result;

use super::Store;

impl Store {
    /// Folds the counts that have gathered into the books' totals.
    pub async fn roll_up_counts(&self) -> Result<u64> {
        Ok(query_file!("src/store/sql/roll_up_counts.sql").execute(&self.pool).await?.rows_affected())
    }

    /// Makes the partitions of the audit trail for the months to come.
    pub async fn ensure_event_months(&self) -> Result<()> {
        query!("select coupon_event_ensure_months(3) as _made").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Forgets the codes that dry runs have seen which are over and will not be tried again.
    pub async fn forget_dry_runs(&self) -> Result<u64> {
        let gone = query!(
            "delete from dry_run_code d using job j where j.id = d.job_id and j.status in ('SUCCEEDED', 'CANCELLED')"
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }

    /// Forgets refresh tokens that ran out a week ago. One that was revoked stays as long as its login has another: it is
    /// what says that the login has ended.
    pub async fn forget_refresh_tokens(&self) -> Result<u64> {
        let gone = query!(
            "delete from refresh_token t where t.expires_at < now() - interval '7 days'
             and (t.revoked_at is null or not exists (
               select from refresh_token f
               where f.family_id = t.family_id and f.expires_at >= now() - interval '7 days'))"
        )
        .execute(&self.pool)
        .await?;
        Ok(gone.rows_affected())
    }
}
