//! Faults of a program: SIGKILL, SIGSTOP for a while, SIGTERM. The program is restarted. A program that
//! ended by itself is restarted too, as a supervisor would: a start fails while the database is
//! unavailable.
//!
//! The lease of a dead or frozen worker is 15 s, longer than a storm. The storm ends it at once, as if that
//! time had passed.

use std::time::Duration;

use futures::FutureExt;
use rand::RngExt;
use rustix::process::Signal;
use sqlx::query;

use super::Fault;
use crate::installation::Installation;

const MAX_FREEZE_MS: u64 = 1_200;
/// Maximum delay before a killed program is restarted.
const MAX_ABSENCE_MS: u64 = 300;

pub(super) const KILL: Fault = Fault {
    name: "kill",
    needs_fleet: false,
    leaves_files: true,
    strike: |installation, mut random| {
        async move {
            let mut program = installation.any_program(&mut random).exclusive().await;
            let Ok(pid) = program.pid() else { return program.restart() };
            program.kill().await?;
            end_leases_of(installation, pid).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..MAX_ABSENCE_MS))).await;
            program.restart()
        }
        .boxed_local()
    },
};

pub(super) const FREEZE: Fault = Fault {
    name: "freeze",
    needs_fleet: false,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let mut program = installation.any_program(&mut random).exclusive().await;
            let Ok(pid) = program.pid() else { return program.restart() };
            program.signal(Signal::STOP)?;
            end_leases_of(installation, pid).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..MAX_FREEZE_MS))).await;
            program.signal(Signal::CONT)
        }
        .boxed_local()
    },
};

pub(super) const TERMINATE: Fault = Fault {
    name: "terminate",
    needs_fleet: false,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let mut program = installation.any_program(&mut random).exclusive().await;
            if program.pid().is_err() {
                return program.restart();
            }
            let ended = program.terminate().await;
            program.restart()?;
            ended
        }
        .boxed_local()
    },
};

/// Ends the leases of a process, as if their time had passed: chunks, housekeeping, and messages being
/// sent.
async fn end_leases_of(installation: &Installation, pid: u32) {
    // If the database is unavailable, another fault has struck it and ends the leases later.
    let Ok(mut database) = installation.connect().await else { return };
    let chunks =
        query("update job_chunk set lease_until = now() where status = 'RUNNING' and worker like $1");
    let _ = chunks.bind(format!("%-{pid}/%")).execute(&mut database).await;
    let housekeeping = query("update housekeeping_lease set until = now() where holder like $1");
    let _ = housekeeping.bind(format!("%-{pid}")).execute(&mut database).await;
    let messages = query("update outbox set claimed_until = now() where claimed_until > now()");
    let _ = messages.execute(&mut database).await;
}
