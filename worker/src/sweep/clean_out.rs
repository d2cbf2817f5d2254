//! Hourly housekeeping: creates partitions in advance, builds indexes, and deletes old rows and files.

use std::time::Duration;

use cuponera_platform::files::Files;
use cuponera_store::Result;
use cuponera_store::Store;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::lead::HousekeepingLease;
use super::{FailureLog, ROLL_UP_INTERVAL, pause};

const CLEANUP_INTERVAL: Duration = Duration::from_hours(1);
/// Interval after a round in which a step failed.
const RETRY_INTERVAL: Duration = Duration::from_mins(1);
/// Minimum age at which a file without a job is deleted: a younger one may still be arriving.
const FILE_GRACE: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// The hourly housekeeping of the worker with the lease.
pub(super) struct Cleanup {
    pub(super) store: Store,
    pub(super) files: Files,
    /// How long the details of a job are kept after its end.
    pub(super) retention: Duration,
}

impl Cleanup {
    /// Runs until `stop`, which also aborts the running step. No step begins a transaction.
    pub(super) async fn run(&self, lead: &HousekeepingLease, stop: &CancellationToken) {
        let mut failures = FailureLog::default();
        while !stop.is_cancelled() {
            if !lead.is_held() {
                pause(ROLL_UP_INTERVAL, stop).await;
                continue;
            }
            let Some(done) = stop.run_until_cancelled(self.round()).await else { return };
            let next = if done.is_ok() { CLEANUP_INTERVAL } else { RETRY_INTERVAL };
            failures.note(done);
            pause(next, stop).await;
        }
    }

    /// Runs all steps, also after a failure, and returns the first error.
    async fn round(&self) -> Result<()> {
        let store = &self.store;
        let steps = [
            store.ensure_event_months().await,
            // The next steps find their rows by these indexes.
            store.build_indexes().await,
            store.begin_epoch_if_restored().await,
            store.forget_answers().await.map(drop),
            store.forget_refresh_tokens().await.map(drop),
            store.forget_logins().await.map(drop),
            store.forget_password_attempts().await.map(drop),
            store.forget_dry_runs().await.map(drop),
            store.forget_deleted_pools().await.map(drop),
            self.discard_jobs().await,
            self.delete_uploads().await,
            self.delete_exports().await,
        ];
        steps.into_iter().collect()
    }

    /// Deletes the files and chunks of jobs whose retention period has ended.
    async fn discard_jobs(&self) -> Result<()> {
        loop {
            let jobs = self.store.mark_jobs_to_discard(self.retention).await?;
            if jobs.is_empty() {
                return Ok(());
            }
            for job in jobs {
                self.files.delete_upload(job).await?;
                self.files.delete_errors(job).await?;
                self.files.delete_export(job).await?;
                self.store.discard_job(job).await?;
                info!(%job, "deleted the chunks and files of a job whose retention period has ended");
            }
        }
    }

    /// Deletes the files of exports that are no longer needed, and those that a lost worker wrote later.
    async fn delete_exports(&self) -> Result<()> {
        loop {
            self.store.mark_failed_exports().await?;
            let unneeded = self.store.find_unneeded_exports().await?;
            for job in &unneeded {
                self.files.delete_export(*job).await?;
                self.store.forget_export(*job).await?;
                info!(%job, "deleted the file of an export");
            }
            if unneeded.is_empty() {
                break;
            }
        }
        let exports = self.files.exports_older_than(FILE_GRACE).await?;
        let kept = self.store.jobs_with_exports(&exports).await?;
        for job in exports.into_iter().filter(|job| !kept.contains(job)) {
            self.files.delete_export(job).await?;
        }
        Ok(())
    }

    /// Deletes the uploads of jobs that do not need them any more, and those without a job. Uploads of earlier versions
    /// have no row and are found by their files.
    async fn delete_uploads(&self) -> Result<()> {
        loop {
            let unneeded = self.store.find_unneeded_uploads().await?;
            for job in &unneeded {
                self.files.delete_upload(*job).await?;
                self.store.free_upload(*job).await?;
            }
            if unneeded.is_empty() {
                break;
            }
        }
        let uploads = self.files.uploads_older_than(FILE_GRACE).await?;
        let needed = self.store.jobs_that_need_files(&uploads).await?;
        for job in uploads.into_iter().filter(|job| !needed.contains(job)) {
            self.files.delete_upload(job).await?;
            info!(%job, "deleted the parts of an unneeded upload");
        }
        Ok(())
    }
}
