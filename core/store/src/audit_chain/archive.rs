//! Archives a month of coupon events: the steps of `cuponera archive`, each of which may be repeated.
//!
//! 1. The caller scans the month and writes the file ([`Store::scan_month`]). The file is complete before anything refers to it.
//! 2. [`Store::record_archive`] records it, with admin events, in one transaction.
//! 3. [`Store::seal_archive`] seals these admin events.
//! 4. [`Store::detach_month`] takes the events out of the log.
//! 5. [`Store::complete_archive`] drops the partition and deletes the salts.
//!
//! **Invariant I-77.** An event is in the log or in an archive, never in none: the partition is detached in the transaction that marks the
//! archive, and after its record is sealed.
//!
//! **Invariant I-78.** No call waits for an archive: the lock of the log is requested for 50 ms at most.

use std::fmt;

use serde_json::json;
use sqlx::{Connection, PgConnection, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::audit::{
    ArchiveRecord, ArchiveRoot, AuditKey, EventBits, ID_BYTES, Log, Month, SALT_BYTES, hash_text,
};
use cuponera_domain::id::JobId;

use super::archive_scan::{ScannedMonth, range_of};
use super::erase::delete_salt;
use super::sealer::{MAX_EVENTS_SEALED, SealRound};
use super::{ERASURE_LOCK, end_of_log};
use crate::Store;
use crate::error::{Error, Result};

/// The SQLSTATE of a lock timeout.
const LOCK_TIMEOUT: &str = "55P03";

/// Excludes other archives, erasures and verifications of the audit chain.
#[derive(Debug)]
pub struct ArchiveLock(PgConnection);

impl ArchiveLock {
    /// Ends the exclusion. Dropping it has the same effect, later.
    pub async fn release(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

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
            Self::Exports(jobs) => {
                write!(f, "these exports of events may read it: wait until they have ended, or cancel them: {}", list(jobs))
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

/// The result of an attempt to detach a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetachRound {
    /// Its events are not in the log any more.
    Detached,
    /// The record of the archive is not sealed yet. Nothing was changed.
    Unsealed,
    /// An export of events may read the month. Nothing was changed.
    Exporting,
    /// A reader or another change holds a lock. Nothing was changed.
    Locked,
}

/// An archive whose record exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedArchive {
    /// The month.
    pub month: Month,
    /// The name of the file.
    pub file: String,
    /// Number of events.
    pub events: i64,
    /// The length of the file.
    pub bytes: i64,
    /// Whether the events are not in the log any more.
    pub is_detached: bool,
}

impl Store {
    /// Excludes other archives, erasures and verifications. `None` if one runs.
    pub async fn lock_archives(&self) -> Result<Option<ArchiveLock>> {
        let mut lock = self.pool.acquire().await?.detach();
        let is_ours = query_scalar!(r#"select pg_try_advisory_lock($1) as "is_ours!""#, ERASURE_LOCK)
            .fetch_one(&mut lock)
            .await?;
        Ok(is_ours.then_some(ArchiveLock(lock)))
    }

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
        Ok(if found.is_uncounted {
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

    /// Records the archive of a month, whose file is complete. Each business that has events of the month gets an admin event.
    pub async fn record_archive(&self, scanned: &ScannedMonth, key: &AuditKey) -> Result<()> {
        let ScannedMonth { month, events, bytes, sha256, through, seals, books, businesses } = scanned;
        let file = scanned.file_name();
        let mut root = ArchiveRoot::default();
        for (seal, bits) in seals {
            root.add(*seal, bits);
        }
        let root = root.finish();
        let (month, events, bytes) = (*month, *events, *bytes);
        let record = ArchiveRecord { month, file: &file, bytes, sha256, events, root: &root };
        let (owners, counts): (Vec<Uuid>, Vec<i64>) =
            businesses.iter().map(|(owner, count)| (*owner, *count)).unzip();
        let books: Vec<Uuid> = books.iter().copied().collect();
        let (numbers, bits): (Vec<i64>, Vec<Vec<u8>>) =
            seals.iter().map(|(seal, bits)| (*seal, bits.as_bytes().to_vec())).unzip();
        let values = json!({"file": file, "sha256": hash_text(sha256), "root": hash_text(&root)});
        let mut transaction = self.begin().await?;
        let event =
            query_file!("src/sql/record_archived_events.sql", month.to_string(), values, &owners, &counts)
                .fetch_one(&mut *transaction)
                .await?;
        query!(
            "insert into audit_archive (month, file, bytes, sha256, events, through_epoch, through_tx, through_id, root, hmac,
                                        event_epoch, event_tx, event_id)
             values ($1, $2, $3, $4, $5, $6, $7::text::xid8, $8, $9, $10, $11, $12::text::xid8, $13)",
            month.first_day(),
            file,
            bytes,
            &sha256[..],
            events,
            through.epoch,
            through.tx.to_string(),
            through.id,
            &root[..],
            &record.sign(key)[..],
            event.epoch,
            event.tx,
            event.id
        )
        .execute(&mut *transaction)
        .await?;
        query!(
            "insert into audit_archived (month, seal, events)
             select $1, seal, events from unnest($2::bigint[], $3::bytea[]) part (seal, events)",
            month.first_day(),
            &numbers,
            &bits
        )
        .execute(&mut *transaction)
        .await?;
        query!(
            "insert into archived_book (book_id) select book from unnest($1::uuid[]) part (book) on conflict do nothing",
            &books
        )
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// The archive that was recorded and is not complete: an interrupted one.
    pub async fn find_open_archive(&self) -> Result<Option<RecordedArchive>> {
        let row = query!(
            r#"select month, file, events, bytes, detached_at is not null as "is_detached!"
               from audit_archive where completed_at is null order by month limit 1"#
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| RecordedArchive {
            month: Month::of_day(row.month),
            file: row.file,
            events: row.events,
            bytes: row.bytes,
            is_detached: row.is_detached,
        }))
    }

    /// Whether there are archives.
    pub async fn has_archives(&self) -> Result<bool> {
        let has = query_scalar!(r#"select exists (select from audit_archive) as "has!""#);
        Ok(has.fetch_one(&self.pool).await?)
    }

    /// Seals the admin events that exist. The record of an archive may follow a transaction that still runs: see [`DetachRound::Unsealed`].
    pub async fn seal_archive(&self, key: &AuditKey) -> Result<()> {
        loop {
            match self.seal_events(key, Log::Admin, MAX_EVENTS_SEALED).await? {
                SealRound::Sealed(_) | SealRound::Raced => {}
                SealRound::UpToDate => return Ok(()),
                SealRound::OtherKey => return Err(Error::internal("the seals have another key")),
            }
        }
    }

    /// Takes the events of a recorded month out of the log.
    pub async fn detach_month(&self, month: Month) -> Result<DetachRound> {
        let answer = query_scalar!(r#"select coupon_event_detach_month($1) as "answer!""#, month.first_day())
            .fetch_one(&self.pool)
            .await;
        match answer {
            Err(error) if is_lock_timeout(&error) => Ok(DetachRound::Locked),
            Err(error) => Err(error.into()),
            Ok(answer) => match answer.as_str() {
                "DETACHED" => Ok(DetachRound::Detached),
                "UNSEALED" => Ok(DetachRound::Unsealed),
                "EXPORTING" => Ok(DetachRound::Exporting),
                other => Err(Error::internal(format!("an unknown answer: {other}"))),
            },
        }
    }

    /// Drops the partition of a month without events. False if a reader or another change holds a lock.
    pub async fn drop_empty_month(&self, month: Month) -> Result<bool> {
        let dropped =
            query_scalar!(r#"select coupon_event_drop_empty_month($1) as "dropped!""#, month.first_day())
                .fetch_one(&self.pool)
                .await;
        match dropped {
            Err(error) if is_lock_timeout(&error) => Ok(false),
            Err(error) => Err(error.into()),
            Ok(true) => Ok(true),
            Ok(false) => Err(Error::internal(format!("{month} has events"))),
        }
    }

    /// Drops the detached partition of a month, and deletes the salts of its events. False if a reader holds a lock of the partition.
    pub async fn complete_archive(&self, month: Month) -> Result<bool> {
        let dropped = query!("select coupon_event_drop_month($1) as dropped", month.first_day())
            .execute(&self.pool)
            .await;
        match dropped {
            Err(error) if is_lock_timeout(&error) => return Ok(false),
            other => other?,
        };
        self.delete_archived_salts(month).await?;
        Ok(true)
    }

    /// Deletes the salts: a line in the file has the digests that were sealed, so nothing needs the salts any more, and without them no digest
    /// can be compared with a user.
    async fn delete_archived_salts(&self, month: Month) -> Result<()> {
        let mut transaction = self.begin().await?;
        let first_day = month.first_day();
        query!(
            "delete from audit_salt t using audit_archived a join audit_seal s on s.number = a.seal
             where a.month = $1 and t.seal = a.seal and bit_count(a.events) = s.count",
            first_day
        )
        .execute(&mut *transaction)
        .await?;
        // Seals that also have events of other months.
        let partial = query!(
            "select t.seal, t.salts, a.events from audit_archived a join audit_salt t on t.seal = a.seal
             where a.month = $1 for update of t",
            first_day
        )
        .fetch_all(&mut *transaction)
        .await?;
        for row in partial {
            let (mut salts, bits) = (row.salts, EventBits::from_stored(row.events));
            let events = salts.len() / SALT_BYTES;
            (0..events).filter(|index| bits.has(*index)).for_each(|index| delete_salt(&mut salts, index));
            query!("update audit_salt set salts = $2 where seal = $1", row.seal, &salts)
                .execute(&mut *transaction)
                .await?;
        }
        let erased = query!(
            "select e.number, e.ids, e.salts, s.ids as sealed, a.events
             from audit_archived a join audit_erasure e on e.seal = a.seal join audit_seal s on s.number = a.seal
             where a.month = $1 for update of e",
            first_day
        )
        .fetch_all(&mut *transaction)
        .await?;
        for row in erased {
            let (mut salts, bits) = (row.salts, EventBits::from_stored(row.events));
            let sealed = row.sealed.as_chunks::<ID_BYTES>().0;
            for (index, id) in row.ids.as_chunks::<ID_BYTES>().0.iter().enumerate() {
                let is_archived = sealed.iter().position(|known| known == id).is_some_and(|at| bits.has(at));
                if is_archived {
                    delete_salt(&mut salts, index);
                }
            }
            query!("update audit_erasure set salts = $2 where number = $1", row.number, &salts)
                .execute(&mut *transaction)
                .await?;
        }
        query!("update audit_archive set completed_at = now() where month = $1", first_day)
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some(LOCK_TIMEOUT)
}
