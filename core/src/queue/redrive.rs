//! Dead letters: what an operator does once the cause is mended. Their jobs are retried as their owners could.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::error::Result;
use crate::job::Message;
use crate::store::{LetteredRun, Redriven, Store};

use super::sqs::{DeadLetter, Sqs};

/// How long letters are hidden while they are dealt with; those that stay are seen again at the end, or after this.
const HIDDEN: Duration = Duration::from_mins(1);
/// How long a pass over the letters may take: all that it leaves are still hidden at its end.
const PASS: Duration = Duration::from_secs(30);
/// How many letters a pass leaves, at most.
const MOST_LEFT: usize = 500;

/// What became of the letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RedriveReport {
    /// Jobs that run again.
    pub retried: u64,
    /// Letters of jobs that need no retry: done, retried since, or gone.
    pub not_needed: u64,
    /// Letters that stay: their job is still at work, or they are not ours.
    pub left: u64,
}

/// What is to become of a letter whose job has failed and was not retried since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Retry,
    Leave,
}

/// Takes all dead letters there are, retries their jobs, and deletes them. Each letter is deleted after its job's retry is
/// committed; one that is read twice retries nothing twice.
pub async fn redrive(store: &Store, sqs: &Sqs) -> Result<RedriveReport> {
    read_all(store, sqs, Failed::Retry).await
}

/// Deletes the dead letters of jobs that need no retry, as after a retry by their owner. The others stay.
pub async fn forget_needless_letters(store: &Store, sqs: &Sqs) -> Result<RedriveReport> {
    read_all(store, sqs, Failed::Leave).await
}

/// Reads in passes: those who stay are hidden until the end of one, and seen again in the next. It ends when a pass finds
/// no more letters, or only such that stay.
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

/// A part of the letters.
struct Pass {
    report: RedriveReport,
    /// Whether there were no more.
    is_whole: bool,
}

async fn read_some(store: &Store, sqs: &Sqs, failed: Failed) -> Result<Pass> {
    let (begun, mut report, mut left) = (Instant::now(), RedriveReport::default(), Vec::new());
    let mut is_whole = false;
    while !is_whole && begun.elapsed() < PASS && left.len() < MOST_LEFT {
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
        // One that cannot be released is seen again a little later.
        let _ = sqs.release_dead_letter(&letter).await;
    }
    Ok(Pass { report, is_whole })
}

/// Says whether the letter is done with.
async fn open(
    store: &Store,
    letter: &DeadLetter,
    failed: Failed,
    report: &mut RedriveReport,
) -> Result<bool> {
    let redriven = match Message::parse(&letter.body) {
        Some(Message::Dead { job, attempt, .. }) if failed == Failed::Leave => {
            match store.find_run(job, attempt).await? {
                LetteredRun::Past => Redriven::NotNeeded,
                LetteredRun::Open | LetteredRun::Failed(_) => Redriven::TooEarly,
            }
        }
        Some(Message::Dead { job, number, attempt }) => {
            let redriven = store.redrive_job_if_failed(job, attempt).await?;
            info!(%job, number, attempt, ?redriven, "a dead letter was read");
            redriven
        }
        // A wake-up that was received too often: the chunk is announced again if nobody came for it.
        Some(Message::Chunk { .. }) => Redriven::NotNeeded,
        None => {
            warn!("a dead letter of an unknown kind or version is left alone");
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
