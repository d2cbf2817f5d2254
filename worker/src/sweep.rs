//! Housekeeping: lapsed locks, counts, partitions, and what may be forgotten. Nothing waits for it and nothing is decided
//! by it, so every worker may do it.

mod locks;

use std::time::{Duration, Instant};

use cuponera_core::cache::Cache;
use cuponera_core::error::Result;
use cuponera_core::files::Files;
use cuponera_core::store::Store;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use locks::Locks;

/// Counts: at most a second behind.
const OFTEN: Duration = Duration::from_secs(1);
/// Everything else.
const SELDOM: Duration = Duration::from_hours(1);
/// An upload that no job refers to is left alone for so long: its body may still be coming in.
const UPLOAD_GRACE: chrono::TimeDelta = chrono::TimeDelta::hours(24);

/// Keeps house until told to stop.
pub(crate) async fn run(store: Store, files: Files, cache: Cache, stop: CancellationToken) {
    tokio::join!(end_locks(Locks::new(store.clone(), cache), &stop), keep_house(&store, &files, &stop));
}

async fn end_locks(mut locks: Locks, stop: &CancellationToken) {
    let mut mood = Mood::default();
    while !stop.is_cancelled() {
        mood.note(locks.tidy_up().await);
        let _ = tokio::time::timeout(locks.pause(), stop.cancelled()).await;
    }
}

async fn keep_house(store: &Store, files: &Files, stop: &CancellationToken) {
    let mut often = Mood::default();
    let mut stalled = Mood::default();
    let mut seldom = Mood::default();
    let mut next_clean_out = Instant::now();
    while !stop.is_cancelled() {
        often.note(store.roll_up_counts().await.map(drop));
        stalled.note(end_lapsed_sessions(store).await);
        if Instant::now() >= next_clean_out {
            seldom.note(clean_out(store, files).await);
            next_clean_out = Instant::now() + SELDOM;
        }
        let _ = tokio::time::timeout(OFTEN, stop.cancelled()).await;
    }
}

async fn end_lapsed_sessions(store: &Store) -> Result<()> {
    let ended = store.end_lapsed_sessions().await?;
    if ended > 0 {
        warn!(ended, "workers stood still in the middle of a chunk; what they held is free");
    }
    Ok(())
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
