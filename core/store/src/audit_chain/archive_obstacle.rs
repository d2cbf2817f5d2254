//! What still needs the events of a month, and which months there are.

use std::fmt;

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::audit::{Log, Month};
use cuponera_domain::id::JobId;

use super::archive_scan::range_of;
use super::end_of_log;
use crate::Store;
use crate::error::Result;
use crate::event_log::EventCursor;

/// Why a month cannot be archived yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArchiveObstacle {
    /// Its events are not all sealed.
    Unsealed,
    /// The statistics have not counted the events of an earlier version.
    Uncounted,
    /// The reader of events for webhooks is behind.
    Undelivered,
    /// Exports that may read its events.
    Exports(Vec<JobId>),
    /// Its partition exists although the month was archived.
    ArchivedBefore,
    /// Distributions that began before its end and can still be taken back: a take-back reads their events.
    Distributions(Vec<JobId>),
}

impl fmt::Display for ArchiveObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |jobs: &[JobId]| jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Self::Unsealed => f.write_str(
                "its events are not all sealed: start a worker with the audit key, and see `cuponera audit status`",
            ),
            Self::Uncounted => {
                f.write_str("the statistics have not counted the events of an earlier version: start a worker, and wait for it")
            }
            Self::Undelivered => {
                f.write_str("the webhooks have not got its events: start a worker, and wait for it")
            }
            Self::ArchivedBefore => f.write_str(
                "it was archived before, and its partition exists again, for example because the clock of the database was set back",
            ),
            Self::Exports(jobs) => {
                write!(
                    f,
                    "these exports of events may read it: wait until they have ended, or cancel them; retry a failed one, or wait until its \
                     parts are deleted, 7 days after its end: {}",
                    list(jobs)
                )
            }
            Self::Distributions(jobs) => {
                write!(
                    f,
                    "these distributions can still be taken back, until their details are deleted (CUPONERA_JOB_RETENTION): {}",
                    list(jobs)
                )
            }
        }
    }
}

/// A transaction that reads the log, or a month of it, for longer than a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogReader {
    /// The process of the Postgres server.
    pub pid: i32,
    /// The `application_name` of the client.
    pub application: String,
    /// The beginning of the transaction.
    pub since: DateTime<Utc>,
}

impl Store {
    /// The current month of the database.
    pub async fn current_month(&self) -> Result<Month> {
        let now = query_scalar!(r#"select now() as "now!""#).fetch_one(&self.pool).await?;
        Ok(Month::of(now))
    }

    /// The months whose events are in the log, oldest first.
    pub async fn event_months(&self) -> Result<Vec<Month>> {
        let names = query_scalar!(
            r#"select c.relname::text as "name!" from pg_inherits i join pg_class c on c.oid = i.inhrelid
               where i.inhparent = 'coupon_event'::regclass order by 1"#
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(names.iter().filter_map(|name| Month::of_partition(name)).collect())
    }

    /// The number of events of a month in the log. Reads the month.
    pub async fn count_events_of(&self, month: Month) -> Result<i64> {
        let count = query_scalar!(
            r#"select count(*) as "count!" from coupon_event
               where at >= $1 and at < $1 + interval '1 month'"#,
            month.start()
        );
        Ok(count.fetch_one(&self.pool).await?)
    }

    /// Why a month cannot be archived yet.
    pub async fn archive_obstacle(&self, month: Month) -> Result<Option<ArchiveObstacle>> {
        let mut connection = self.pool.acquire().await?;
        let Some((_, through)) = range_of(&mut connection, month).await? else { return Ok(None) };
        if end_of_log(&mut *connection, Log::Coupon, i64::MAX).await?.is_none_or(|end| end < through) {
            return Ok(Some(ArchiveObstacle::Unsealed));
        }
        let found = query_file!(
            "src/sql/archive_obstacles.sql",
            month.start(),
            through.epoch,
            through.tx.to_string(),
            through.id
        )
        .fetch_one(&mut *connection)
        .await?;
        let jobs = |ids: Vec<Uuid>| ids.into_iter().map(JobId).collect();
        Ok(if found.was_archived {
            Some(ArchiveObstacle::ArchivedBefore)
        } else if found.is_uncounted {
            Some(ArchiveObstacle::Uncounted)
        } else if found.is_undelivered {
            Some(ArchiveObstacle::Undelivered)
        } else if !found.exports.is_empty() {
            Some(ArchiveObstacle::Exports(jobs(found.exports)))
        } else if !found.distributions.is_empty() {
            Some(ArchiveObstacle::Distributions(jobs(found.distributions)))
        } else {
            None
        })
    }

    /// Whether there are archives.
    pub async fn has_archives(&self) -> Result<bool> {
        let has = query_scalar!(r#"select exists (select from audit_archive) as "has!""#);
        Ok(has.fetch_one(&self.pool).await?)
    }

    /// The last archived month that has events after a position: a reader of the log would pass over them.
    pub async fn find_archive_after(&self, cursor: EventCursor) -> Result<Option<Month>> {
        let month = query_scalar!(
            "select month from audit_archive
             where detached_at is not null and (through_epoch, through_tx, through_id) > ($1, $2::text::xid8, $3)
             order by month desc limit 1",
            cursor.epoch,
            cursor.tx.to_string(),
            cursor.id
        )
        .fetch_optional(&self.reads)
        .await?;
        Ok(month.map(Month::of_day))
    }

    /// Whether an erasure was interrupted.
    pub async fn has_open_erasures(&self) -> Result<bool> {
        let has = query_scalar!(r#"select exists (select from erasure) as "has!""#);
        Ok(has.fetch_one(&self.pool).await?)
    }

    /// The oldest transaction that reads the log or a month of it, if it began more than a second ago: a detaching would wait for it, and
    /// calls behind the detaching.
    pub async fn find_log_reader(&self, month: Month) -> Result<Option<LogReader>> {
        let found = query!(
            r#"select a.pid as "pid!", a.application_name as "application!", a.xact_start as "since!"
               from pg_locks l join pg_stat_activity a on a.pid = l.pid
               where l.locktype = 'relation' and l.granted and a.pid <> pg_backend_pid()
                 and l.database = (select oid from pg_database where datname = current_database())
                 and l.relation in ('coupon_event'::regclass, to_regclass($1)) and a.xact_start < now() - interval '1 second'
               order by a.xact_start limit 1"#,
            month.partition()
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(found.map(|row| LogReader { pid: row.pid, application: row.application, since: row.since }))
    }
}
