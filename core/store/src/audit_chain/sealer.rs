//! Seals the next events of a log.
//!
//! **Invariant I-70.** Two sealers produce one chain: a seal is appended by one statement, and only as the successor of the seal whose hash
//! it contains. The key must be that of the last seal.
//!
//! **Invariant I-73.** A seal has the leaves of events as they are: it is not appended if an erasure has changed events since they were read.

use futures::TryStreamExt;
use rand::TryRng;
use sqlx::{PgConnection, query_file, query_scalar};

use cuponera_domain::audit::{
    AuditKey, FORM, HASH_BYTES, ID_BYTES, Log, Position, SALT_BYTES, Salt, Seal, root_of,
};

use super::events::{self, PageEnd};
use super::{StoredSeal, end_of_log, head};
use crate::Store;
use crate::error::{Error, Result};

/// Maximum number of events of a seal: its ids, leaves and salts are 128 kB.
pub const MAX_EVENTS_SEALED: i64 = 2_000;

/// The result of sealing once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SealRound {
    /// A seal of this many events was appended.
    Sealed(i32),
    /// No event can be sealed now: there is none, or the index of the log is being built.
    UpToDate,
    /// Another sealer has appended a seal meanwhile, or an erasure has changed events. Nothing was changed.
    Raced,
    /// The chain was begun with another key. Nothing was changed.
    OtherKey,
}

impl Store {
    /// Seals the next events of a log, at most `limit`.
    pub async fn seal_events(&self, key: &AuditKey, log: Log, limit: i64) -> Result<SealRound> {
        if log == Log::Coupon && !self.has_event_index().await? {
            return Ok(SealRound::UpToDate);
        }
        // These connections read an index in its order, and nothing here begins a transaction.
        let mut connection = self.reads.acquire().await?;
        // Before the events are read.
        let erasures = query_scalar!("select erasures from audit_guard").fetch_one(&mut *connection).await?;
        let head = head(&mut *connection).await?;
        if head.as_ref().is_some_and(|head| head.seal.key != key.fingerprint()) {
            return Ok(SealRound::OtherKey);
        }
        let from = end_of_log(&mut *connection, log, i64::MAX).await?.unwrap_or_default();
        let Some(page) = events::next_page(&mut connection, log, from, limit).await? else {
            return Ok(SealRound::UpToDate);
        };
        let number = head.as_ref().map_or(1, |head| head.seal.number + 1);
        let previous = head.as_ref().map_or([0; HASH_BYTES], |StoredSeal { seal, .. }| seal.hash());
        let sealed = Sealed::read(&mut connection, log, from, &page).await?;
        drop(connection);
        if sealed.count == 0 {
            return Ok(SealRound::UpToDate);
        }
        let seal = Seal {
            number,
            form: FORM,
            log,
            from,
            through: page.position,
            through_at: page.at,
            count: sealed.count,
            root: root_of(&sealed.leaves),
            previous,
            key: key.fingerprint(),
            created_at: page.now,
        };
        let is_appended = self.append(&seal, &seal.sign(key), &sealed, erasures).await?;
        Ok(if is_appended { SealRound::Sealed(sealed.count) } else { SealRound::Raced })
    }

    /// Appends a seal, unless there is one of its number or another number of erasures.
    async fn append(&self, seal: &Seal, hmac: &[u8], sealed: &Sealed, erasures: i64) -> Result<bool> {
        let appended = query_file!(
            "src/sql/create_seal.sql",
            seal.number,
            seal.form,
            seal.log.as_str(),
            seal.from.epoch,
            seal.from.tx.to_string(),
            seal.from.id,
            seal.through.epoch,
            seal.through.tx.to_string(),
            seal.through.id,
            seal.through_at,
            seal.count,
            &sealed.ids,
            &sealed.leaves,
            &seal.root[..],
            &seal.previous[..],
            hmac,
            &seal.key[..],
            seal.created_at,
            &sealed.salts,
            erasures
        )
        .execute(&self.pool)
        .await?;
        Ok(appended.rows_affected() == 1)
    }
}

/// The ids, leaves and salts of the events of a seal.
struct Sealed {
    count: i32,
    ids: Vec<u8>,
    leaves: Vec<u8>,
    salts: Vec<u8>,
}

impl Sealed {
    /// Reads the events of the page. They are committed, so another snapshot shows the same.
    async fn read(connection: &mut PgConnection, log: Log, from: Position, page: &PageEnd) -> Result<Self> {
        let expected = usize::try_from(page.found).unwrap_or(0);
        let mut sealed = Self {
            count: 0,
            ids: Vec::with_capacity(expected * ID_BYTES),
            leaves: Vec::with_capacity(expected * HASH_BYTES),
            salts: Vec::with_capacity(expected * SALT_BYTES),
        };
        let mut events = events::events(connection, log, from, page.position);
        while let Some(event) = events.try_next().await? {
            let mut salt = [0; SALT_BYTES];
            rand::rngs::SysRng.try_fill_bytes(&mut salt).map_err(Error::internal)?;
            sealed.count += 1;
            sealed.ids.extend_from_slice(event.id().as_bytes());
            sealed.leaves.extend_from_slice(&event.leaf(&Salt::new(salt)));
            sealed.salts.extend_from_slice(&salt);
        }
        Ok(sealed)
    }
}
