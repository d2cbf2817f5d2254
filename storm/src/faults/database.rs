//! Faults of Postgres: all sessions end and it recovers, another transaction locks rows, a transaction
//! keeps a snapshot.

use std::time::Duration;

use futures::FutureExt;
use rand::RngExt;
use sqlx::{Connection, query, query_scalar};

use super::{Fault, end_all_leases};
use crate::world::held_code;

/// How long the reader keeps its snapshot.
const READ: Duration = Duration::from_millis(1_500);
const MAX_HOLD_MS: u64 = 800;
/// Number of codes locked at once.
const HELD_ROWS: usize = 10;

/// If a backend dies of SIGKILL, Postgres ends all other backends and recovers, as after an immediate
/// restart.
pub(super) const RESTART_POSTGRES: Fault = Fault {
    name: "restart_postgres",
    needs_fleet: false,
    leaves_files: true,
    strike: |installation, _| {
        async move {
            // If Postgres is unavailable or stopping, another fault has already struck it.
            let Ok(mut database) = installation.connect().await else { return Ok(()) };
            let pid = query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(&mut database).await;
            let Ok(pid) = pid else { return Ok(()) };
            let pid = rustix::process::Pid::from_raw(pid).ok_or("a process has an id")?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
            end_all_leases(installation).await;
            Ok(())
        }
        .boxed_local()
    },
};

/// Another transaction locks some codes for a while.
pub(super) const HOLD_ROWS: Fault = Fault {
    name: "hold_rows",
    needs_fleet: false,
    leaves_files: false,
    strike: |installation, mut random| {
        async move {
            let codes: Vec<String> = (0..HELD_ROWS).map(|_| held_code(&mut random)).collect();
            let hold = Duration::from_millis(random.random_range(0..MAX_HOLD_MS));
            let Ok(mut database) = installation.connect().await else { return Ok(()) };
            let held = async {
                let mut transaction = database.begin().await?;
                let rows =
                    query("select from coupon where code = any($1) order by business_id, code for update");
                rows.bind(codes).execute(&mut *transaction).await?;
                tokio::time::sleep(hold).await;
                transaction.rollback().await
            };
            // A restart of Postgres ends it early.
            let _: sqlx::Result<()> = held.await;
            Ok(())
        }
        .boxed_local()
    },
};

/// A reading transaction keeps its snapshot, as a dump does.
pub(super) const LONG_READER: Fault = Fault {
    name: "long_reader",
    needs_fleet: false,
    leaves_files: false,
    strike: |installation, _| {
        async move {
            let Ok(mut database) = installation.connect().await else { return Ok(()) };
            let read = async {
                let mut transaction = database.begin().await?;
                let one_view = "set transaction isolation level repeatable read, read only";
                query(one_view).execute(&mut *transaction).await?;
                let counted = "select (select count(*) from coupon) + (select count(*) from job) + (select count(*) from job_chunk)
                               + (select count(*) from coupon_event) + (select count(*) from outbox)";
                let _: i64 = query_scalar(counted).fetch_one(&mut *transaction).await?;
                tokio::time::sleep(READ).await;
                transaction.rollback().await
            };
            let _: sqlx::Result<()> = read.await;
            Ok(())
        }
        .boxed_local()
    },
};
