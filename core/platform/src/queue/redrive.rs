//! Redrives dead letters after the cause of the failures was fixed: their jobs are retried, as their owners
//! could do.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use cuponera_domain::job::Message;
use cuponera_store::Result;
use cuponera_store::{DeadLetterRun, Redriven, Store};

use super::sqs::{DeadLetter, Sqs};

/// How long a dead letter is hidden while it is processed. Letters that stay become visible at the end of
/// the pass, or after this.
const HIDDEN: Duration = Duration::from_mins(1);
/// Maximum duration of a pass: letters that stay are still hidden at its end.
const PASS: Duration = Duration::from_secs(30);
/// Maximum number of letters that a pass leaves in the queue.
const MAX_LEFT: usize = 500;

/// The outcome of a redrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedriveReport {
    /// Jobs that run again.
    pub retried: u64,
    /// Dead letters of jobs that need no retry: done, retried since, or deleted.
    pub not_needed: u64,
    /// Dead letters that stay: their job still runs, or they are of unknown origin.
    pub left: u64,
}

/// What to do with a dead letter whose job has failed and was not retried since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Retry,
    Leave,
}

/// Reads all dead letters, retries their jobs and deletes the letters. A letter is deleted after the retry
/// of its job is committed; reading a letter twice retries its job once.
pub async fn redrive(store: &Store, sqs: &Sqs) -> Result<RedriveReport> {
    read_all(store, sqs, Failed::Retry).await
}

/// Deletes the dead letters of jobs that need no retry, for example after a retry by the owner. The others
/// stay.
pub async fn delete_unneeded_dead_letters(store: &Store, sqs: &Sqs) -> Result<RedriveReport> {
    read_all(store, sqs, Failed::Leave).await
}

/// Reads in passes: letters that stay are hidden until the end of a pass and read again in the next. Ends
/// when a pass finds no more letters, or only letters that stay.
async fn read_all(store: &Store, sqs: &Sqs, failed: Failed) -> Result<RedriveReport> {
    let mut report = RedriveReport::default();
    loop {
        let pass = read_some(store, sqs, failed).await?;
        report.retried += pass.report.retried;
        report.not_needed += pass.report.not_needed;
        report.left = pass.report.left;
        if pass.is_whole || pass.report.retried + pass.report.not_needed == 0 {
            return Ok(report);
        }
    }
}

/// The outcome of one pass.
struct Pass {
    report: RedriveReport,
    /// Whether the queue was read to its end.
    is_whole: bool,
}

async fn read_some(store: &Store, sqs: &Sqs, failed: Failed) -> Result<Pass> {
    let (begun, mut report, mut left) = (Instant::now(), RedriveReport::default(), Vec::new());
    let mut is_whole = false;
    while !is_whole && begun.elapsed() < PASS && left.len() < MAX_LEFT {
        let letters = sqs.receive_dead_letters(HIDDEN).await?;
        is_whole = letters.is_empty();
        let mut read = Vec::new();
        for letter in letters {
            let is_done_with = open(store, &letter, failed, &mut report).await?;
            if is_done_with { read.push(letter) } else { left.push(letter) }
        }
        sqs.delete_dead_letters(&read).await?;
    }
    for letter in left {
        // If this fails, the letter becomes visible a little later.
        let _ = sqs.release_dead_letter(&letter).await;
    }
    Ok(Pass { report, is_whole })
}

/// Processes a letter; returns whether it can be deleted.
async fn open(
    store: &Store,
    letter: &DeadLetter,
    failed: Failed,
    report: &mut RedriveReport,
) -> Result<bool> {
    let redriven = match Message::parse(&letter.body) {
        Some(Message::Dead { job, attempt, .. }) if failed == Failed::Leave => {
            match store.find_run(job, attempt).await? {
                DeadLetterRun::Past => Redriven::NotNeeded,
                DeadLetterRun::Open | DeadLetterRun::Failed(_) => Redriven::TooEarly,
            }
        }
        Some(Message::Dead { job, number, attempt }) => {
            let redriven = store.redrive_job_if_failed(job, attempt).await?;
            info!(%job, number, attempt, ?redriven, "a dead letter was read");
            redriven
        }
        // A wake-up that was received too often: the chunk is announced again if it is not claimed.
        Some(Message::Chunk { .. }) => Redriven::NotNeeded,
        None => {
            warn!("a dead letter of an unknown kind or version is kept");
            Redriven::TooEarly
        }
    };
    match redriven {
        Redriven::Retried => report.retried += 1,
        Redriven::NotNeeded => report.not_needed += 1,
        Redriven::TooEarly => report.left += 1,
    }
    Ok(redriven != Redriven::TooEarly)
}
