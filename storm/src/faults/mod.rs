//! The faults. Each strikes once at its time and recovers by itself.

mod connections;
mod database;
mod programs;
mod queue;
mod redis;

use std::time::Duration;

use futures::future::LocalBoxFuture;
use rand::rngs::StdRng;
use sqlx::{AssertSqlSafe, query};
use tokio::time::sleep;

use crate::Result;
use crate::installation::Installation;
use crate::size::Size;

/// A fault.
pub struct Fault {
    /// Its name on the command line.
    pub name: &'static str,
    /// Whether it needs a service that only a fleet has.
    pub(crate) needs_fleet: bool,
    /// Whether files of an upload may remain: the program died, or does not know whether the job was
    /// committed.
    pub(crate) leaves_files: bool,
    /// Injects the fault and recovers. An error is a violation: the recovery failed.
    pub(crate) strike: for<'a> fn(&'a Installation, StdRng) -> LocalBoxFuture<'a, Result<()>>,
}

/// All faults.
pub const FAULTS: &[Fault] = &[
    programs::KILL,
    programs::FREEZE,
    programs::TERMINATE,
    database::RESTART_POSTGRES,
    database::HOLD_ROWS,
    database::LONG_READER,
    connections::CUT_CONNECTIONS,
    connections::SLOW_CONNECTIONS,
    queue::REFUSE_QUEUE,
    queue::HANG_QUEUE,
    redis::FLUSH_REDIS,
    redis::FREEZE_REDIS,
    redis::KILL_REDIS,
];

impl Fault {
    /// Whether the fault can strike an installation of this size.
    pub(crate) fn strikes(&self, size: Size) -> bool {
        size == Size::Fleet || !self.needs_fleet
    }
}

/// Interval of connection attempts while Postgres recovers.
const POLL: Duration = Duration::from_millis(50);
/// A statement whose client has disconnected commits within this time.
const COMMIT: Duration = Duration::from_millis(100);

/// Ends the leases of chunks and messages (15 s), as if that time had passed, when the database accepts
/// connections: no worker executes a claim whose answer was lost.
async fn end_all_leases(installation: &Installation) {
    sleep(COMMIT).await;
    let mut database = loop {
        match installation.connect().await {
            Ok(database) => break database,
            Err(_) => sleep(POLL).await,
        }
    };
    for leases in [
        "update job_chunk set lease_until = now() where status = 'RUNNING'",
        "update outbox set claimed_until = now() where claimed_until > now()",
    ] {
        // Rows that a frozen program locks keep their leases.
        let _ = query(AssertSqlSafe(leases)).execute(&mut database).await;
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
