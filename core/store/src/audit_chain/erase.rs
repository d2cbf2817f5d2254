//! Replaces a user in the events of a log. Of sealed events the salts are deleted, and the hashes of the changed lines recorded.
//!
//! **Invariant I-72.** The events of a batch, their salts, the hashes of their new lines and the admin event with the root of these hashes change
//! in one transaction. It holds the row of `audit_guard`, so no seal is appended meanwhile (I-73).

use std::collections::{BTreeMap, HashMap};

use rand::TryRng;
use serde_json::{Value, json};
use sqlx::{PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::audit::{
    AdminEventForm, AuditKey, CouponEventForm, ErasedPage, HASH_BYTES, ID_BYTES, Log, Position, SALT_BYTES,
    Salt,
};
use cuponera_domain::id::{BookId, BusinessId};

use super::events::{self, Event};
use crate::Store;
use crate::error::{Error, Result};
use crate::stored_status::StoredStatus;

/// The number of events of a log that a batch reads. Nothing is sealed meanwhile.
const EVENTS_AT_ONCE: i64 = 20_000;

/// What is replaced in events.
#[derive(Debug, Clone)]
pub(crate) struct ErasedIds {
    pub(crate) business: BusinessId,
    pub(crate) pseudonym: String,
    /// The ids of the user as a holder.
    pub(crate) user_ids: Vec<String>,
    /// All identifiers: also those of the account.
    pub(crate) identifiers: Vec<String>,
    /// The user as an actor.
    pub(crate) actors: Vec<String>,
    /// What takes their places.
    pub(crate) erased_actors: Vec<String>,
}

/// A log, and how far it is erased.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EraseLog {
    pub(crate) log: Log,
    pub(crate) erased_through: Position,
}

/// The changed events of a seal.
#[derive(Default)]
struct Page {
    ids: Vec<u8>,
    leaves: Vec<u8>,
    salts: Vec<u8>,
}

impl Store {
    /// Erases the next events of a log. Returns the number of changed events; `None` at the oldest transaction that runs.
    pub(crate) async fn erase_events(
        &self,
        ids: &ErasedIds,
        key: Option<&AuditKey>,
        progress: &mut EraseLog,
    ) -> Result<Option<i64>> {
        let mut transaction = self.begin().await?;
        // A wrong estimate must not turn a range into a scan of the whole log.
        query!(
            "select set_config('enable_seqscan', 'off', true) as a, set_config('enable_bitmapscan', 'off', true) as b,
                    set_config('statement_timeout', '0', true) as c"
        )
        .fetch_one(&mut *transaction)
        .await?;
        let EraseLog { log, erased_through: from } = *progress;
        let page = events::next_page(&mut transaction, log, from, EVENTS_AT_ONCE).await?;
        let Some(page) = page else { return Ok(None) };
        let through = page.position;
        let erased = match log {
            Log::Coupon => erase_coupon_events(&mut transaction, ids, from, through).await?,
            Log::Admin => erase_admin_events(&mut transaction, ids, from, through).await?,
        };
        if !erased.is_empty() {
            // After the change of the events, and before the seals are read: a sealer that has read the old events has appended its seal,
            // which is then read here, or appends nothing.
            query!("update audit_guard set erasures = erasures + 1").execute(&mut *transaction).await?;
            erase_salts(&mut transaction, ids, key, log, &erased).await?;
        }
        let count = i64::try_from(erased.len()).map_err(Error::internal)?;
        query!(
            "update erasure set events = events + $3 where business_id = $1 and pseudonym = $2",
            ids.business.0,
            ids.pseudonym,
            count
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        progress.erased_through = through;
        Ok(Some(count))
    }
}

/// Deletes the salts of the sealed ones of these events, and records the hashes of their new lines.
async fn erase_salts(
    transaction: &mut PgTransaction<'static>,
    ids: &ErasedIds,
    key: Option<&AuditKey>,
    log: Log,
    events: &[Event],
) -> Result<()> {
    let by_id: HashMap<Uuid, &Event> = events.iter().map(|event| (event.id(), event)).collect();
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
    let (first, last) = (first.position(), last.position());
    let seals = query!(
        "select s.number, s.ids, a.salts from audit_seal s join audit_salt a on a.seal = s.number
         where s.log = $1 and (s.through_epoch, s.through_tx, s.through_id) >= ($2, $3::text::xid8, $4)
           and (s.from_epoch, s.from_tx, s.from_id) < ($5, $6::text::xid8, $7)
         order by s.number for update of a",
        log.as_str(),
        first.epoch,
        first.tx.to_string(),
        first.id,
        last.epoch,
        last.tx.to_string(),
        last.id
    )
    .fetch_all(&mut **transaction)
    .await?;
    let mut pages = BTreeMap::new();
    for seal in seals {
        let (sealed, _) = seal.ids.as_chunks::<ID_BYTES>();
        let mut salts = seal.salts;
        let mut page = Page::default();
        for (index, id) in sealed.iter().enumerate() {
            let Some(event) = by_id.get(&Uuid::from_bytes(*id)) else { continue };
            page.add(event)?;
            delete_salt(&mut salts, index);
        }
        if page.ids.is_empty() {
            continue;
        }
        query!("update audit_salt set salts = $2 where seal = $1", seal.number, &salts)
            .execute(&mut **transaction)
            .await?;
        delete_salts_of_earlier_erasures(transaction, seal.number, &page.ids).await?;
        pages.insert(seal.number, page);
    }
    if pages.is_empty() {
        return Ok(());
    }
    let key = key.ok_or_else(|| Error::internal("events are sealed, and there is no audit key"))?;
    record(transaction, ids, key, &pages).await
}

impl Page {
    fn add(&mut self, event: &Event) -> Result<()> {
        let mut salt = [0; SALT_BYTES];
        rand::rngs::SysRng.try_fill_bytes(&mut salt).map_err(Error::internal)?;
        self.ids.extend_from_slice(event.id().as_bytes());
        self.leaves.extend_from_slice(&event.leaf(&Salt::new(salt)));
        self.salts.extend_from_slice(&salt);
        Ok(())
    }

    fn count(&self) -> usize {
        self.leaves.len() / HASH_BYTES
    }
}

/// Zeros take the place of a salt.
pub(super) fn delete_salt(salts: &mut [u8], index: usize) {
    if let Some(salt) = salts.as_chunks_mut::<SALT_BYTES>().0.get_mut(index) {
        *salt = [0; SALT_BYTES];
    }
}

/// An event may name two users, and one of them may have been erased before.
async fn delete_salts_of_earlier_erasures(
    transaction: &mut PgTransaction<'static>,
    seal: i64,
    ids: &[u8],
) -> Result<()> {
    let (erased, _) = ids.as_chunks::<ID_BYTES>();
    let rows = query!("select number, ids, salts from audit_erasure where seal = $1 order by number", seal)
        .fetch_all(&mut **transaction)
        .await?;
    for row in rows {
        let mut salts = row.salts.clone();
        for (index, id) in row.ids.as_chunks::<ID_BYTES>().0.iter().enumerate() {
            if erased.contains(id) {
                delete_salt(&mut salts, index);
            }
        }
        if salts != row.salts {
            query!("update audit_erasure set salts = $2 where number = $1", row.number, &salts)
                .execute(&mut **transaction)
                .await?;
        }
    }
    Ok(())
}

/// Stores the hashes of the changed events, and their roots in an admin event, which is sealed like all others.
async fn record(
    transaction: &mut PgTransaction<'static>,
    ids: &ErasedIds,
    key: &AuditKey,
    pages: &BTreeMap<i64, Page>,
) -> Result<()> {
    let erased_page = |seal: i64, page: &Page| {
        let of_seal = ErasedPage { seal, pseudonym: &ids.pseudonym, ids: &page.ids, leaves: &page.leaves };
        (of_seal.root(), of_seal.sign(key))
    };
    let roots: serde_json::Map<String, Value> = pages
        .iter()
        .map(|(seal, page)| {
            (seal.to_string(), json!({"events": page.count(), "root": erased_page(*seal, page).0}))
        })
        .collect();
    let after = json!({"seals": roots});
    let event = query!(
        r#"insert into admin_event (business_id, subject, subject_id, action, after, actor)
           values ($1, 'USER', $2, 'ERASE', $3, coalesce(nullif(current_setting('cuponera.audit', true), '')::jsonb ->> 'actor', 'system'))
           returning epoch, tx::text as "tx!", id"#,
        ids.business.0,
        ids.pseudonym,
        after
    )
    .fetch_one(&mut **transaction)
    .await?;
    for (seal, page) in pages {
        query!(
            "insert into audit_erasure (seal, pseudonym, event_epoch, event_tx, event_id, ids, leaves, salts, hmac)
             values ($1, $2, $3, $4::text::xid8, $5, $6, $7, $8, $9)",
            seal,
            ids.pseudonym,
            event.epoch,
            event.tx,
            event.id,
            &page.ids,
            &page.leaves,
            &page.salts,
            &erased_page(*seal, page).1[..]
        )
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

async fn erase_coupon_events(
    transaction: &mut PgTransaction<'static>,
    ids: &ErasedIds,
    from: Position,
    through: Position,
) -> Result<Vec<Event>> {
    let rows = query_file!(
        "src/sql/erase_coupon_events.sql",
        from.epoch,
        from.tx.to_string(),
        from.id,
        through.epoch,
        through.tx.to_string(),
        through.id,
        ids.business.0,
        &ids.user_ids,
        ids.pseudonym,
        &ids.actors,
        &ids.erased_actors
    )
    .fetch_all(&mut **transaction)
    .await?;
    rows.into_iter().map(|row| Ok(events::coupon_event!(row))).collect()
}

async fn erase_admin_events(
    transaction: &mut PgTransaction<'static>,
    ids: &ErasedIds,
    from: Position,
    through: Position,
) -> Result<Vec<Event>> {
    let rows = query_file!(
        "src/sql/erase_admin_events.sql",
        from.epoch,
        from.tx.to_string(),
        from.id,
        through.epoch,
        through.tx.to_string(),
        through.id,
        ids.business.0,
        &ids.identifiers,
        ids.pseudonym,
        &ids.actors,
        &ids.erased_actors
    )
    .fetch_all(&mut **transaction)
    .await?;
    rows.into_iter().map(|row| Ok(events::admin_event!(row))).collect()
}

impl Store {
    /// Whether this is the key of the seals, or there are none.
    pub async fn has_key_of_seals(&self, key: Option<&AuditKey>) -> Result<bool> {
        let last = query_scalar!("select key from audit_seal order by number desc limit 1")
            .fetch_optional(&self.reads)
            .await?;
        Ok(last.is_none_or(|last| key.is_some_and(|key| key.fingerprint()[..] == last[..])))
    }
}
