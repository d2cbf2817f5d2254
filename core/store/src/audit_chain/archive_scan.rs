//! Reads the events of a month as their seals prove them, and writes their canonical lines.
//!
//! Each event is compared with its seal, so the lines have the sealed hashes, or those of the last erasure. Memory is bounded: a few seals,
//! one piece of the file, and one bit for each event.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, PgConnection, query_as, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::audit::{
    AuditKey, Comparison, CouponEventForm, EventBits, FORM, FileDigest, Hash, Log, Month, Position, Salt,
    Seal, SealedPage, leaf_of_line, root_of,
};

use super::archived::{self, unproved};
use super::events::{self, Event};
use super::{StoredSeal, connect_to_read, erasure, stored_seal};
use crate::Store;
use crate::error::{Error, Result};

/// Number of seals read at once.
const PAGE: i64 = 32;
/// Size of the pieces that are written.
const PIECE_BYTES: usize = 1024 * 1024;

/// The events of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScannedMonth {
    /// The month.
    pub month: Month,
    /// Number of events.
    pub events: i64,
    /// The length of the file of their lines.
    pub bytes: i64,
    /// Its SHA-256.
    pub sha256: Hash,
    /// The position of the last event.
    pub(super) through: Position,
    /// The events of each seal.
    pub(super) seals: Vec<(i64, EventBits)>,
    /// The books that have events.
    pub(super) books: BTreeSet<Uuid>,
    /// The number of events of each business.
    pub(super) businesses: BTreeMap<Uuid, i64>,
}

impl ScannedMonth {
    /// The name of the file.
    pub fn file_name(&self) -> String {
        self.month.file_name(&self.sha256)
    }
}

impl Store {
    /// Reads the events of a month in the order of the log, compares them with their seals, and hands their lines to `write`. `None` if the
    /// month has no events. Fails if an event is not as it was sealed.
    pub async fn scan_month(
        &self,
        month: Month,
        key: &AuditKey,
        write: impl AsyncFnMut(Vec<u8>) -> Result<()>,
    ) -> Result<Option<ScannedMonth>> {
        self.must_have_event_index().await?;
        let mut connection = connect_to_read(&self.pool).await?;
        let range = range_of(&mut connection, month).await?;
        let scanned = match range {
            None => None,
            Some(range) => Some(Scan::new(&mut connection, month, key, write).run(range).await?),
        };
        connection.close().await?;
        Ok(scanned)
    }
}

/// The positions of the first and the last event of a month.
pub(super) async fn range_of(
    connection: &mut PgConnection,
    month: Month,
) -> Result<Option<(Position, Position)>> {
    let mut ends = Vec::new();
    for order in ["epoch, tx, id", "epoch desc, tx desc, id desc"] {
        let sql = format!("select epoch, tx::text, id from {} order by {order} limit 1", month.partition());
        let row: Option<(i16, String, Uuid)> =
            query_as(AssertSqlSafe(sql)).fetch_optional(&mut *connection).await?;
        let Some((epoch, tx, id)) = row else { return Ok(None) };
        ends.push(Position { epoch, tx: tx.parse().map_err(Error::internal)?, id });
    }
    Ok(ends.first().copied().zip(ends.last().copied()))
}

struct Scan<'c, W> {
    connection: &'c mut PgConnection,
    month: Month,
    key: &'c AuditKey,
    write: W,
    piece: Vec<u8>,
    digest: FileDigest,
    events: i64,
    seals: Vec<(i64, EventBits)>,
    books: BTreeSet<Uuid>,
    businesses: BTreeMap<Uuid, i64>,
}

impl<'c, W: AsyncFnMut(Vec<u8>) -> Result<()>> Scan<'c, W> {
    fn new(connection: &'c mut PgConnection, month: Month, key: &'c AuditKey, write: W) -> Self {
        Self {
            connection,
            month,
            key,
            write,
            piece: Vec::new(),
            digest: FileDigest::default(),
            events: 0,
            seals: Vec::new(),
            books: BTreeSet::new(),
            businesses: BTreeMap::new(),
        }
    }

    async fn run(mut self, (first, through): (Position, Position)) -> Result<ScannedMonth> {
        let mut next = self.seal_of(first).await?;
        let mut end = None;
        'seals: loop {
            let rows = query_file!("src/sql/audit_seals_with_leaves.sql", next, PAGE)
                .fetch_all(&mut *self.connection)
                .await?;
            if rows.is_empty() {
                return Err(Error::internal(format!("the last events of {} are not sealed", self.month)));
            }
            for row in rows {
                let number = row.number;
                // A seal that was removed would leave its events out of the archive.
                if number != next {
                    return Err(unproved(self.month, next));
                }
                next += 1;
                let (ids, leaves, salts) = (row.ids, row.leaves, row.salts.unwrap_or_default());
                let stored = stored_seal!(row).ok_or_else(|| unproved(self.month, number))?;
                if stored.seal.log != Log::Coupon {
                    continue;
                }
                if end.replace(stored.seal.through).is_some_and(|end| end != stored.seal.from) {
                    return Err(unproved(self.month, number));
                }
                let page =
                    SealedPage::new(&ids, &leaves, &salts).ok_or_else(|| unproved(self.month, number))?;
                self.check_seal(&stored, &leaves)?;
                self.add_events(&stored.seal, page).await?;
                if stored.seal.through >= through {
                    break 'seals;
                }
            }
        }
        self.flush().await?;
        self.check_count().await?;
        let Self { month, digest, events, seals, books, businesses, .. } = self;
        let (bytes, sha256) = digest.finish();
        Ok(ScannedMonth { month, events, bytes, sha256, through, seals, books, businesses })
    }

    /// Fails if the month has events that no seal proves.
    async fn check_count(&mut self) -> Result<()> {
        let sql = format!("select count(*) from {}", self.month.partition());
        let count: i64 = query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *self.connection).await?;
        if count == self.events {
            return Ok(());
        }
        let (month, events) = (self.month, self.events);
        Err(Error::internal(format!(
            "{month} has {count} events, of which the seals prove {events}: run `cuponera audit verify`"
        )))
    }

    /// The number of the seal that covers an event.
    async fn seal_of(&mut self, event: Position) -> Result<i64> {
        let number = query_scalar!(
            "select number from audit_seal
             where log = 'COUPON' and (through_epoch, through_tx, through_id) >= ($1, $2::text::xid8, $3)
             order by log, number limit 1",
            event.epoch,
            event.tx.to_string(),
            event.id
        )
        .fetch_optional(&mut *self.connection)
        .await?;
        number.ok_or_else(|| Error::internal(format!("the events of {} are not sealed", self.month)))
    }

    fn check_seal(&self, StoredSeal { seal, hmac }: &StoredSeal, leaves: &[u8]) -> Result<()> {
        let is_valid =
            seal.form == FORM && root_of(leaves) == seal.root && seal.sign(self.key)[..] == hmac[..];
        if is_valid { Ok(()) } else { Err(unproved(self.month, seal.number)) }
    }

    /// Writes the lines of the events of a seal that are of the month.
    async fn add_events(&mut self, seal: &Seal, mut page: SealedPage) -> Result<()> {
        let unproved = || unproved(self.month, seal.number);
        for erased in erasure::of_seal(self.connection, seal.number).await? {
            if !erased.is_recorded(Some(self.key))
                || !page.add_erased(&erased.ids, &erased.leaves, &erased.salts)
            {
                return Err(unproved());
            }
        }
        for (month, events) in archived::of_seal(self.connection, seal.number).await? {
            // A recorded month whose file is written again is still in the log.
            if month != self.month && !page.add_archived(&events) {
                return Err(unproved());
            }
        }
        let mut bits = EventBits::none_of(page.len());
        let mut lines: Vec<u8> = Vec::new();
        let mut events = events::events(self.connection, seal.log, seal.from, seal.through);
        while let Some(event) = events.try_next().await? {
            let Event::Coupon(event) = event else { return Err(unproved()) };
            let (index, line) = line_of(&event, &mut page).ok_or_else(unproved)?;
            if Month::of(event.at) != self.month {
                continue;
            }
            bits.add(index);
            lines.extend_from_slice(line.as_bytes());
            lines.push(b'\n');
            self.events += 1;
            self.books.insert(event.book.0);
            *self.businesses.entry(event.business.0).or_default() += 1;
        }
        drop(events);
        if page.missing().next().is_some() {
            return Err(unproved());
        }
        if bits.count() > 0 {
            self.seals.push((seal.number, bits));
        }
        self.digest.add(&lines);
        self.piece.append(&mut lines);
        if self.piece.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        let piece = std::mem::take(&mut self.piece);
        if piece.is_empty() { Ok(()) } else { (self.write)(piece).await }
    }
}

/// The line of an event, and its index in the seal. `None` if it is not the sealed one.
fn line_of(event: &CouponEventForm, page: &mut SealedPage) -> Option<(usize, String)> {
    let id = event.position.id;
    let (index, salt) = page.salt_of(id)?;
    let line = event.line(&salt);
    let leaf = leaf_of_line(line.as_bytes());
    (page.compare(id, Some(|_: &Salt| leaf)) == Comparison::Same).then_some((index, line))
}
