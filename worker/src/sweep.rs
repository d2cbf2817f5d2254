//! Housekeeping: lapsed locks, counts, partitions, and what may be forgotten. Nothing waits for it and nothing is decided
//! by it, so every worker may do it.

use std::time::{Duration, Instant};

use cuponera_core::error::Result;
use cuponera_core::files::Files;
use cuponera_core::store::Store;
use cuponera_core::telemetry::metrics;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Lapsed locks and counts: at most a second behind.
const OFTEN: Duration = Duration::from_secs(1);
/// Everything else.
const SELDOM: Duration = Duration::from_hours(1);
/// How many lapsed locks are ended in one statement.
const LOCKS_AT_ONCE: i64 = 1_000;
/// An upload that no job refers to is left alone for so long: its body may still be coming in.
const UPLOAD_GRACE: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// Keeps house until told to stop.
pub(crate) async fn run(store: Store, files: Files, stop: CancellationToken) {
    let mut often = Mood::default();
    let mut seldom = Mood::default();
    let mut next_clean_out = Instant::now();
    while !stop.is_cancelled() {
        often.note(tidy_up(&store).await);
        if Instant::now() >= next_clean_out {
            seldom.note(clean_out(&store, &files).await);
            next_clean_out = Instant::now() + SELDOM;
        }
        let _ = tokio::time::timeout(OFTEN, stop.cancelled()).await;
    }
}

/// Says once that something is away, not every second.
#[derive(Default)]
struct Mood {
    is_bad: bool,
}

impl Mood {
    fn note(&mut self, result: Result<()>) {
        match result {
            Ok(()) => self.is_bad = false,
            Err(failure) => {
                if !self.is_bad {
                    warn!(error = failure.chain(), "housekeeping has to wait");
                }
                self.is_bad = true;
            }
        }
    }
}

async fn tidy_up(store: &Store) -> Result<()> {
    loop {
        let swept = store.expire_locks(LOCKS_AT_ONCE).await?;
        metrics::locks_expired(swept.expired);
        if swept.taken < LOCKS_AT_ONCE {
            break;
        }
    }
    store.roll_up_counts().await?;
    Ok(())
}

/// One step that fails keeps no other from being done; the first failure is told.
async fn clean_out(store: &Store, files: &Files) -> Result<()> {
    let steps = [
        store.ensure_event_months().await,
        store.forget_answers().await.map(drop),
        store.forget_refresh_tokens().await.map(drop),
        store.forget_dry_runs().await.map(drop),
        delete_uploads(store, files).await,
    ];
    steps.into_iter().collect()
}

async fn delete_uploads(store: &Store, files: &Files) -> Result<()> {
    let uploads = files.uploads_older_than(UPLOAD_GRACE).await?;
    let needed = store.jobs_that_need_files(&uploads).await?;
    for job in uploads.into_iter().filter(|job| !needed.contains(job)) {
        files.delete_upload(job).await?;
        info!(%job, "the parts of an upload that is over were deleted");
    }
    Ok(())
}
