//! No leftovers: no transaction, lease, message, reservation or file without a purpose.

use std::time::Duration;

use futures::FutureExt;
use sqlx::{AssertSqlSafe, PgConnection, query_scalar};
use tokio::time::{Instant, sleep};

use super::{Oracle, Verdict};
use crate::Result;
use crate::evidence::Evidence;

/// Time for cleanup that is in progress.
const TIMEOUT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// Descriptions of leftovers, and the statements that count them.
const LEFTOVERS: &[(&str, &str)] = &[
    (
        "open transactions",
        "select count(*) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
           and xact_start < now() - interval '1 second'",
    ),
    (
        "running chunks of succeeded jobs",
        "select count(*) from job_chunk c join job j on j.id = c.job_id
         where c.status = 'RUNNING' and j.status = 'SUCCEEDED'",
    ),
    (
        "unsent messages without a lease",
        "select count(*) from outbox where not_before <= now() and coalesce(claimed_until <= now(), true)",
    ),
    (
        "reservations of codes without a job",
        "select count(*) from code_space s where next_index <> (
           select coalesce(sum(total), 0) from job j where j.business_id = s.business_id and j.work ->> 'pattern' = s.pattern)",
    ),
    (
        "reserved codes of distributions that are over",
        "select count(*) from coupon c where c.reserved_by is not null and not exists (
           select from job j where j.id = c.reserved_by and j.status in ('QUEUED', 'RUNNING'))",
    ),
    (
        "slices with codes of distributions that are over",
        "select count(*) from distribution_slice s join job j on j.id = s.job_id
         where s.positions is not null and j.status in ('SUCCEEDED', 'FAILED', 'CANCELLED')",
    ),
];

pub(super) const LEFTOVERS_ORACLE: Oracle =
    Oracle { name: "leftovers", check: |evidence, database| check(evidence, database).boxed_local() };

async fn check(evidence: &Evidence<'_>, database: &mut PgConnection) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    for (what, count) in LEFTOVERS {
        let mut left = i64::MAX;
        let begun = Instant::now();
        while left > 0 && begun.elapsed() < TIMEOUT {
            left = query_scalar(AssertSqlSafe(*count)).fetch_one(&mut *database).await?;
            if left > 0 {
                sleep(POLL).await;
            }
        }
        verdict.check(left == 0, || format!("{what}: {left}"));
    }
    // These faults leave files, which housekeeping deletes after a day.
    if !evidence.strikes.iter().any(|strike| strike.fault.leaves_files) {
        let strays = strays(evidence).await?;
        verdict.check(strays.is_empty(), || format!("files without a job: {strays:?}"));
    }
    Ok(verdict)
}

/// Uploaded files without a job.
async fn strays(evidence: &Evidence<'_>) -> Result<Vec<String>> {
    let names: Vec<String> = if let Some(folder) = evidence.installation.uploads() {
        let names = std::fs::read_dir(folder)?;
        names.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?
    } else {
        let names = evidence.installation.services()?.bucket.names().await;
        let upload = |name: &String| name.split("uploads/").nth(1)?.split('/').next().map(str::to_owned);
        names.iter().filter_map(upload).collect()
    };
    let is_of_a_job = |name: &String| evidence.jobs.iter().any(|job| job.id == *name);
    Ok(names.into_iter().filter(|name| !is_of_a_job(name)).collect())
}
