//! The stored bytes of uploads, rejected rows and exports of each business, and its quota.
//!
//! **Invariant.** A part of an upload is counted before it is written, and its bytes are freed after it is deleted. Reservations
//! of one business run one after the other in all processes, so uploads never exceed the quota. Rejected rows and
//! parts of exports are checked after a chunk has written them, so concurrent chunks may exceed the quota by what they write at the
//! same time.

use sqlx::{PgConnection, PgTransaction, query, query_scalar};

use crate::error::{Error, Result};
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_domain::rejection::Rejection;

use super::claim::Claim;
use crate::Store;

/// Maximum number of jobs with unneeded uploads that one call returns.
const FOUND_AT_ONCE: i64 = 1_000;

impl Store {
    /// The same connections, with a storage quota for each business. Without this call there is no quota.
    #[must_use]
    pub fn with_storage_quota(mut self, bytes: u64) -> Self {
        self.storage_quota = Some(bytes);
        self
    }

    /// Counts a part of an upload before it is written. Rejected if it exceeds the quota.
    pub async fn reserve_upload_if_room(&self, business: BusinessId, job: JobId, bytes: u64) -> Result<()> {
        let bytes = i64::try_from(bytes).map_err(Error::internal)?;
        let mut transaction = self.pool.begin().await?;
        query_scalar!("select id from business where id = $1 for no key update", business.0)
            .fetch_one(&mut *transaction)
            .await?;
        query!(
            "insert into job_storage as s (job_id, business_id, upload_bytes) values ($1, $2, $3)
             on conflict (job_id) do update set upload_bytes = s.upload_bytes + excluded.upload_bytes, reserved_at = now()",
            job.0,
            business.0,
            bytes
        )
        .execute(&mut *transaction)
        .await?;
        check_quota(&mut transaction, self.storage_quota, business, job).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Frees the bytes of a deleted upload.
    pub async fn free_upload(&self, job: JobId) -> Result<()> {
        query!(
            "with kept as (update job_storage set upload_bytes = 0 where job_id = $1 and rejection_bytes > 0)
             delete from job_storage where job_id = $1 and rejection_bytes = 0",
            job.0
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Jobs whose uploads are counted but no longer needed: succeeded and cancelled jobs, and uploads without a job one day
    /// after their last part.
    pub async fn find_unneeded_uploads(&self) -> Result<Vec<JobId>> {
        let jobs = query_scalar!(
            "select s.job_id from job_storage s left join job j on j.id = s.job_id
             where s.upload_bytes > 0
               and (j.status in ('SUCCEEDED', 'CANCELLED') or j.id is null and s.reserved_at < now() - interval '1 day')
             limit $1",
            FOUND_AT_ONCE
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(jobs.into_iter().map(JobId).collect())
    }

    /// The jobs of a business that may have uploads, errors files or exports.
    pub async fn jobs_with_files(&self, business: BusinessId) -> Result<Vec<JobId>> {
        let jobs = query_scalar!(
            "select id from job where business_id = $1 and discarded_at is null
               and kind in ('IMPORT_CODES', 'IMPORT_MEMBERS', 'ASSIGN_CODES', 'EXPORT') order by id",
            business.0
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(jobs.into_iter().map(JobId).collect())
    }

    /// Those of these jobs that still need their uploaded parts: unfinished jobs, and failed jobs, which may be retried.
    pub async fn jobs_that_need_files(&self, ids: &[JobId]) -> Result<Vec<JobId>> {
        let ids: Vec<uuid::Uuid> = ids.iter().map(|id| id.0).collect();
        let kept = query_scalar!(
            r#"select id from job where id = any($1) and status in ('QUEUED', 'RUNNING', 'FAILED')
                 and discarding_at is null"#,
            &ids
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(kept.into_iter().map(JobId).collect())
    }
}

/// Counts the rejected rows that the chunk has written. Rejected if they exceed the quota of the business.
pub(crate) async fn count_rejected_rows(
    transaction: &mut PgTransaction<'_>,
    quota: Option<u64>,
    claim: &Claim,
    bytes: u64,
) -> Result<()> {
    query!(
        "insert into job_storage as s (job_id, business_id, rejection_bytes) values ($1, $2, $3)
         on conflict (job_id) do update set rejection_bytes = s.rejection_bytes + excluded.rejection_bytes",
        claim.job.0,
        claim.business.0,
        i64::try_from(bytes).map_err(Error::internal)?
    )
    .execute(&mut **transaction)
    .await?;
    check_quota(transaction, quota, claim.business, claim.job).await
}

/// Counts the part of an export that the chunk has written. Rejected if it exceeds the quota of the business.
pub(crate) async fn count_export(
    transaction: &mut PgTransaction<'_>,
    quota: Option<u64>,
    claim: &Claim,
    bytes: u64,
) -> Result<()> {
    query!(
        "insert into job_storage as s (job_id, business_id, export_bytes) values ($1, $2, $3)
         on conflict (job_id) do update set export_bytes = s.export_bytes + excluded.export_bytes",
        claim.job.0,
        claim.business.0,
        i64::try_from(bytes).map_err(Error::internal)?
    )
    .execute(&mut **transaction)
    .await?;
    check_quota(transaction, quota, claim.business, claim.job).await
}

/// Rejects if a business has stored more than its quota. The reported use excludes the bytes of the job itself.
async fn check_quota(
    connection: &mut PgConnection,
    quota: Option<u64>,
    business: BusinessId,
    job: JobId,
) -> Result<()> {
    let Some(allowed_bytes) = quota else { return Ok(()) };
    let stored = query!(
        r#"select coalesce(sum(upload_bytes + rejection_bytes + export_bytes), 0)::bigint as "all!",
                  coalesce(sum(upload_bytes + rejection_bytes + export_bytes) filter (where job_id <> $2), 0)::bigint as "others!"
           from job_storage where business_id = $1"#,
        business.0,
        job.0
    )
    .fetch_one(connection)
    .await?;
    let bytes = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    if bytes(stored.all) <= allowed_bytes {
        return Ok(());
    }
    Err(Rejection::StorageQuotaExceeded { used_bytes: bytes(stored.others), allowed_bytes }.into())
}
