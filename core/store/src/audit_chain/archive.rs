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

use std::collections::HashMap;

use serde_json::json;
use sqlx::{Connection, PgConnection, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::audit::{
    ArchiveRecord, ArchiveRoot, AuditKey, EventBits, Hash, ID_BYTES, Log, Month, SALT_BYTES, hash_text,
};

use super::archive_scan::ScannedMonth;
use super::erase::delete_salt;
use super::sealer::{MAX_EVENTS_SEALED, SealRound};
use super::{release_lock, take_lock};
use crate::Store;
use crate::error::{Error, Result};

/// The SQLSTATE of a lock timeout.
const LOCK_TIMEOUT: &str = "55P03";

/// Excludes other archives, erasures and verifications of the audit chain. Each step that changes something runs on its connection: if the
/// server has ended that, the lock is lost, and the step fails.
#[derive(Debug)]
pub struct ArchiveLock(PgConnection);

impl ArchiveLock {
    /// Ends the exclusion. Dropping it has the same effect, later.
    pub async fn release(self) -> Result<()> {
        release_lock(self.0).await
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
    /// Events of the month were added after it was recorded: the record cannot be used. Nothing was changed.
    Later,
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
    /// Its SHA-256.
    pub sha256: Hash,
    /// Whether the events are not in the log any more.
    pub is_detached: bool,
}

impl Store {
    /// Excludes other archives, erasures and verifications. `None` if one runs and does not end within five seconds.
    pub async fn lock_archives(&self) -> Result<Option<ArchiveLock>> {
        Ok(take_lock(&self.pool).await?.map(ArchiveLock))
    }

    /// Records the archive of a month, whose file is complete. Each business that has events of the month gets an admin event.
    pub async fn record_archive(
        &self,
        lock: &mut ArchiveLock,
        scanned: &ScannedMonth,
        key: &AuditKey,
    ) -> Result<()> {
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
        let mut transaction = self.begin_on(&mut lock.0).await?;
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
            r#"select month, file, events, bytes, sha256, detached_at is not null as "is_detached!"
               from audit_archive where completed_at is null order by month limit 1"#
        )
        .fetch_optional(&self.pool)
        .await?;
        let recorded = row.map(|row| {
            Ok(RecordedArchive {
                month: Month::of_day(row.month),
                file: row.file,
                events: row.events,
                bytes: row.bytes,
                sha256: Hash::try_from(row.sha256)
                    .map_err(|_| Error::internal("a stored hash has another length"))?,
                is_detached: row.is_detached,
            })
        });
        recorded.transpose()
    }

    /// Gives up a recorded archive whose events are still in the log: deletes its record, with admin events. False if there is none.
    pub async fn abandon_archive(&self, lock: &mut ArchiveLock, month: Month) -> Result<bool> {
        let mut transaction = self.begin_on(&mut lock.0).await?;
        let abandoned = query_file!("src/sql/abandon_archive.sql", month.first_day())
            .fetch_one(&mut *transaction)
            .await?
            .abandoned;
        transaction.commit().await?;
        Ok(abandoned > 0)
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
    pub async fn detach_month(&self, lock: &mut ArchiveLock, month: Month) -> Result<DetachRound> {
        let answer = query_scalar!(r#"select coupon_event_detach_month($1) as "answer!""#, month.first_day())
            .fetch_one(&mut lock.0)
            .await;
        match answer {
            Err(error) if is_lock_timeout(&error) => Ok(DetachRound::Locked),
            Err(error) => Err(error.into()),
            Ok(answer) => match answer.as_str() {
                "DETACHED" => Ok(DetachRound::Detached),
                "UNSEALED" => Ok(DetachRound::Unsealed),
                "EXPORTING" => Ok(DetachRound::Exporting),
                "LATER" => Ok(DetachRound::Later),
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
    pub async fn complete_archive(&self, lock: &mut ArchiveLock, month: Month) -> Result<bool> {
        let dropped = query!("select coupon_event_drop_month($1) as dropped", month.first_day())
            .execute(&mut lock.0)
            .await;
        match dropped {
            Err(error) if is_lock_timeout(&error) => return Ok(false),
            other => other?,
        };
        delete_archived_salts(&mut lock.0, month).await?;
        query!("update audit_archive set completed_at = now() where month = $1", month.first_day())
            .execute(&mut lock.0)
            .await?;
        Ok(true)
    }
}

/// Deletes the salts: a line in the file has the digests that were sealed, so nothing needs the salts any more, and without them no digest
/// can be compared with a user.
async fn delete_archived_salts(connection: &mut PgConnection, month: Month) -> Result<()> {
    query!(
        "delete from audit_salt t using audit_archived a join audit_seal s on s.number = a.seal
         where a.month = $1 and t.seal = a.seal and bit_count(a.events) = s.count",
        month.first_day()
    )
    .execute(&mut *connection)
    .await?;
    // Seals that also have events of other months, and erased events.
    let seals = query_scalar!(
        r#"select a.seal from audit_archived a
           where a.month = $1 and (exists (select from audit_salt t where t.seal = a.seal)
                                   or exists (select from audit_erasure e where e.seal = a.seal))
           order by a.seal"#,
        month.first_day()
    )
    .fetch_all(&mut *connection)
    .await?;
    for seal in seals {
        delete_salts_of(connection, month, seal).await?;
    }
    Ok(())
}

/// The same, of one seal.
async fn delete_salts_of(connection: &mut PgConnection, month: Month, seal: i64) -> Result<()> {
    let mut transaction = connection.begin().await?;
    let sealed = query!(
        "select a.events, s.ids from audit_archived a join audit_seal s on s.number = a.seal where a.month = $1 and a.seal = $2",
        month.first_day(),
        seal
    )
    .fetch_one(&mut *transaction)
    .await?;
    let bits = EventBits::from_stored(sealed.events);
    let salts = query_scalar!("select salts from audit_salt where seal = $1 for update", seal)
        .fetch_optional(&mut *transaction)
        .await?;
    if let Some(mut salts) = salts {
        let events = salts.len() / SALT_BYTES;
        (0..events).filter(|index| bits.has(*index)).for_each(|index| delete_salt(&mut salts, index));
        query!("update audit_salt set salts = $2 where seal = $1", seal, &salts)
            .execute(&mut *transaction)
            .await?;
    }
    let index_of: HashMap<[u8; ID_BYTES], usize> =
        sealed.ids.as_chunks().0.iter().enumerate().map(|(index, id)| (*id, index)).collect();
    let erased = query!("select number, ids, salts from audit_erasure where seal = $1 for update", seal)
        .fetch_all(&mut *transaction)
        .await?;
    for row in erased {
        let mut salts = row.salts;
        for (index, id) in row.ids.as_chunks::<ID_BYTES>().0.iter().enumerate() {
            if index_of.get(id).is_some_and(|at| bits.has(*at)) {
                delete_salt(&mut salts, index);
            }
        }
        query!("update audit_erasure set salts = $2 where number = $1", row.number, &salts)
            .execute(&mut *transaction)
            .await?;
    }
    Ok(transaction.commit().await?)
}

pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some(LOCK_TIMEOUT)
}
