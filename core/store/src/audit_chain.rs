//! The tamper-evident chain of seals over coupon events and admin events: sealing, verification, export.
//!
//! **Invariant I-68.** The seals of a log cover ranges that follow each other without a gap, and each ends below the oldest transaction
//! that was running: an event that is committed late is not below the end of a seal. So each committed event is in one seal, or will be.

mod archive;
mod archive_obstacle;
mod archive_scan;
mod archived;
mod erase;
mod erasure;
mod events;
mod sealer;
mod status;
mod verify;

use std::time::Duration;

use sqlx::{Connection, PgConnection, PgExecutor, PgPool, query, query_file, query_scalar};
use tokio::time::{Instant, sleep};

use cuponera_domain::audit::{Finding, Fingerprint, Hash, Log, Position, Seal, SealFault};

use crate::Store;
use crate::error::{Error, Result};
use crate::event_log::EventCursor;

pub use archive::{ArchiveLock, DetachRound, RecordedArchive};
pub use archive_obstacle::{ArchiveObstacle, LogReader};
pub use archive_scan::ScannedMonth;
pub use archived::{ArchiveContent, OpenArchive};
pub(crate) use erase::{EraseLog, ErasedIds};
pub use sealer::{MAX_EVENTS_SEALED, SealRound};
pub use status::{AuditStatus, LastVerification, SealingLag};
pub use verify::{AnchorLines, MAX_FINDINGS, Verification, VerifyOptions, verify_chain};

/// The advisory lock of an erasure or an archive. A verification shares it: it reads seals and their events in several snapshots.
pub(crate) const ERASURE_LOCK: i64 = 0x6375_706f_6572_6173;

/// The longest wait for that lock. The server ends the session of a program that was killed at the end of its statement.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Takes the lock alone, on a connection of its own. `None` if another command holds it.
pub(crate) async fn take_lock(pool: &PgPool) -> Result<Option<PgConnection>> {
    let mut connection = pool.acquire().await?.detach();
    let started = Instant::now();
    while !query_scalar!(r#"select pg_try_advisory_lock($1) as "is_ours!""#, ERASURE_LOCK)
        .fetch_one(&mut connection)
        .await?
    {
        if started.elapsed() >= LOCK_WAIT {
            connection.close().await?;
            return Ok(None);
        }
        sleep(LOCK_PAUSE).await;
    }
    Ok(Some(connection))
}

/// Closes a connection that holds the lock. The server would end it a moment later, and a command that follows would find the lock.
pub(crate) async fn release_lock(mut connection: PgConnection) -> Result<()> {
    query!("select pg_advisory_unlock_all() as released").execute(&mut connection).await?;
    Ok(connection.close().await?)
}

/// A connection that reads long ranges of the logs, without a timeout.
async fn connect_to_read(pool: &PgPool) -> Result<PgConnection> {
    let mut connection = pool.acquire().await?.detach();
    // A wrong estimate must not turn a range into a scan of the whole log.
    query(
        "select set_config('statement_timeout', '0', false), set_config('enable_seqscan', 'off', false),
                set_config('enable_bitmapscan', 'off', false)",
    )
    .execute(&mut connection)
    .await?;
    Ok(connection)
}

/// Number of seals that an export reads at once.
const EXPORT_PAGE: i64 = 1_000;

/// A seal without its leaves, with its HMAC.
struct StoredSeal {
    seal: Seal,
    hmac: Vec<u8>,
}

/// The seal of a row. An unknown log is a fault of the seal, not of the database.
macro_rules! stored_seal {
    ($row:ident) => {
        crate::audit_chain::StoredSeal::new(
            &$row.log,
            $row.hmac,
            crate::audit_chain::SealValues {
                number: $row.number,
                form: $row.form,
                from: ($row.from_epoch, $row.from_tx, $row.from_id),
                through: ($row.through_epoch, $row.through_tx, $row.through_id),
                through_at: $row.through_at,
                count: $row.count,
                root: $row.root,
                previous: $row.previous,
                key: $row.key,
                created_at: $row.created_at,
            },
        )
    };
}
use stored_seal;

/// The values of a row, in the types of the database.
struct SealValues {
    number: i64,
    form: i16,
    from: (i16, String, uuid::Uuid),
    through: (i16, String, uuid::Uuid),
    through_at: chrono::DateTime<chrono::Utc>,
    count: i32,
    root: Vec<u8>,
    previous: Vec<u8>,
    key: Vec<u8>,
    created_at: chrono::DateTime<chrono::Utc>,
}

impl StoredSeal {
    /// None if the row cannot be a seal of this version.
    fn new(log: &str, hmac: Vec<u8>, row: SealValues) -> Option<Self> {
        let position =
            |(epoch, tx, id): (i16, String, uuid::Uuid)| Some(Position { epoch, tx: tx.parse().ok()?, id });
        let seal = Seal {
            number: row.number,
            form: row.form,
            log: Log::parse(log)?,
            from: position(row.from)?,
            through: position(row.through)?,
            through_at: row.through_at,
            count: row.count,
            root: Hash::try_from(row.root).ok()?,
            previous: Hash::try_from(row.previous).ok()?,
            key: Fingerprint::try_from(row.key).ok()?,
            created_at: row.created_at,
        };
        Some(Self { seal, hmac })
    }
}

impl From<EventCursor> for Position {
    fn from(EventCursor { epoch, tx, id }: EventCursor) -> Self {
        Self { epoch, tx, id }
    }
}

/// The last seal. None if there is none; an error if it is not of this version.
async fn head(executor: impl PgExecutor<'_>) -> Result<Option<StoredSeal>> {
    let row = query_file!("src/sql/audit_seals.sql", None::<i64>, 1).fetch_optional(executor).await?;
    let Some(row) = row else { return Ok(None) };
    let number = row.number;
    stored_seal!(row).map(Some).ok_or_else(|| {
        Error::internal(Finding::SealBroken { seal: number, fault: SealFault::Form }.to_string())
    })
}

/// The position at which the seals of a log end, before the seal of this number.
async fn end_of_log(executor: impl PgExecutor<'_>, log: Log, before: i64) -> Result<Option<Position>> {
    let row =
        query_file!("src/sql/end_of_sealed_log.sql", log.as_str(), before).fetch_optional(executor).await?;
    row.map(|row| {
        let tx = row.through_tx.parse().map_err(Error::internal)?;
        Ok(Position { epoch: row.through_epoch, tx, id: row.through_id })
    })
    .transpose()
}

impl Store {
    /// The lines of an export: the next seals from a number on. Empty at the end of the chain.
    pub async fn export_seals(&self, from: i64) -> Result<Vec<(i64, String)>> {
        let rows = query_file!("src/sql/audit_seals.sql", from, EXPORT_PAGE).fetch_all(&self.reads).await?;
        rows.into_iter()
            .map(|row| {
                let number = row.number;
                let broken = || Finding::SealBroken { seal: number, fault: SealFault::Form }.to_string();
                let stored = stored_seal!(row).ok_or_else(|| Error::internal(broken()))?;
                Ok((number, stored.seal.exported(&stored.hmac)))
            })
            .collect()
    }
}
