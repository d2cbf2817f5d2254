//! Pages of an export: the rows from a place on, and the place after them.

use chrono::{DateTime, Utc};
use sqlx::{query, query_file, query_scalar};

use crate::Store;
use crate::coupon::shown;
use crate::error::Result;
use crate::event_log::event;
use crate::redemption::redemption;
use crate::stored_currency::StoredCurrency;
use crate::stored_kind::StoredKind;
use crate::stored_status::StoredStatus;
use cuponera_domain::coupon::redemption::Redemption;
use cuponera_domain::coupon::state::{Coupon, CouponEvent};
use cuponera_domain::export::{ExportKind, Filter};
use cuponera_domain::id::{BookId, BusinessId, JobId, RedemptionId};
use cuponera_domain::job::export::{Place, Snapshot};
use uuid::Uuid;

/// Maximum number of rows that a page examines by position or time.
const ROWS_PER_PAGE: i64 = 5_000;
/// Maximum number of codes that a page examines by code. Each may be in a different block.
const SCATTERED_PER_PAGE: i64 = 2_000;

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// The owner of the rows.
    pub business: BusinessId,
    /// What they are.
    pub kind: ExportKind,
    /// The only book of redemptions, if not null. Codes and events have their book in the place.
    pub book: Option<BookId>,
    /// Only these rows.
    pub filter: &'a Filter,
    /// The snapshot of redemptions and events.
    pub snapshot: &'a Snapshot,
}

/// A row of an export.
#[derive(Debug, Clone, PartialEq)]
pub enum ExportRow {
    /// A code, with its effective status.
    Coupon(Box<Coupon>),
    /// A redemption.
    Redemption(Box<Redemption>),
    /// An event of a code of a book.
    Event(Box<(String, BookId, CouponEvent)>),
}

/// A page of an export.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportPage {
    /// The rows that are exported.
    pub rows: Vec<ExportRow>,
    /// The number of rows that were read.
    pub examined: usize,
    /// The place after them; none at the end.
    pub next: Option<Place>,
}

impl Store {
    /// The rows from a place on, read by one statement. A page may have no rows and a next place.
    pub async fn export_page(
        &self,
        what: &Exported<'_>,
        job: Option<JobId>,
        place: Place,
    ) -> Result<ExportPage> {
        match place {
            Place::Book { ordinal } => self.begin_book(what, job, ordinal).await,
            Place::Positions { ordinal, book, positions, imports } => {
                self.codes_by_position_of(what, ordinal, book, positions, imports).await
            }
            Place::Moving { ordinal, book, after, imports } => {
                self.moving_codes(what, ordinal, book, after, imports).await
            }
            Place::Events { ordinal, book, after } => self.events_of(what, ordinal, book, after).await,
            Place::Redemptions { after: None } => {
                let first = (DateTime::UNIX_EPOCH, RedemptionId(Uuid::nil()));
                self.redemptions_after(what, first, |after| Place::RedemptionsWithAmounts { after }).await
            }
            Place::Redemptions { after: Some(after) } => {
                self.redemptions_after(what, after, |after| Place::Redemptions { after: Some(after) }).await
            }
            Place::RedemptionsWithAmounts { after } => {
                self.redemptions_after(what, after, |after| Place::RedemptionsWithAmounts { after }).await
            }
        }
    }

    /// The database's time.
    pub async fn read_clock(&self) -> Result<DateTime<Utc>> {
        Ok(query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(&self.reads).await?)
    }

    async fn begin_book(&self, what: &Exported<'_>, job: Option<JobId>, ordinal: i32) -> Result<ExportPage> {
        let noted = query!(
            "select book_id, positions, imports from export_book where job_id = $1 and ordinal = $2",
            job.map(|job| job.0),
            ordinal
        )
        .fetch_optional(&self.reads)
        .await?;
        let place = |book, positions, imports: Vec<Uuid>| match what.kind {
            ExportKind::Events => Place::of_events(Some(ordinal), book),
            ExportKind::Codes | ExportKind::Assignments | ExportKind::Redemptions => {
                Place::of_codes(Some(ordinal), book, positions, imports.into_iter().map(JobId).collect())
            }
        };
        let next = noted.map(|noted| place(BookId(noted.book_id), noted.positions, noted.imports));
        // A book counts as a row, so a page of many small books ends.
        Ok(ExportPage { rows: Vec::new(), examined: 1, next })
    }

    async fn codes_by_position_of(
        &self,
        what: &Exported<'_>,
        ordinal: Option<i32>,
        book: BookId,
        positions: std::ops::Range<i32>,
        imports: Vec<JobId>,
    ) -> Result<ExportPage> {
        let ids: Vec<Uuid> = imports.iter().map(|job| job.0).collect();
        let found = query_file!(
            "src/sql/export_codes.sql",
            book.0,
            positions.start,
            positions.end,
            ROWS_PER_PAGE,
            &ids
        )
        .fetch_all(&self.reads)
        .await?;
        let last =
            found.last().filter(|row| has_more(found.len(), row.read, ROWS_PER_PAGE)).map(|row| row.position);
        let next = match last.and_then(|last| last.checked_add(1)) {
            Some(start) => Some(Place::Positions { ordinal, book, positions: start..positions.end, imports }),
            None if imports.is_empty() => Place::after_book(ordinal),
            None => Some(Place::Moving { ordinal, book, after: String::new(), imports }),
        };
        let examined = found.len();
        let coupons = found.into_iter().filter(|row| !row.is_moving).map(|row| shown!(row));
        Ok(ExportPage { rows: of_coupons(what, coupons), examined, next })
    }

    async fn moving_codes(
        &self,
        what: &Exported<'_>,
        ordinal: Option<i32>,
        book: BookId,
        after: String,
        imports: Vec<JobId>,
    ) -> Result<ExportPage> {
        let ids: Vec<Uuid> = imports.iter().map(|job| job.0).collect();
        let found = query_file!(
            "src/sql/export_moving_codes.sql",
            what.business.0,
            book.0,
            after,
            &ids,
            SCATTERED_PER_PAGE
        )
        .fetch_all(&self.reads)
        .await?;
        let examined = found.len();
        let last = found.last().filter(|row| has_more(examined, row.read, SCATTERED_PER_PAGE));
        let next = match last.map(|row| row.code.clone()) {
            Some(after) => Some(Place::Moving { ordinal, book, after, imports }),
            None => Place::after_book(ordinal),
        };
        let coupons = found.into_iter().filter(|row| row.is_found).map(|row| shown!(row));
        Ok(ExportPage { rows: of_coupons(what, coupons), examined, next })
    }

    async fn events_of(
        &self,
        what: &Exported<'_>,
        ordinal: Option<i32>,
        book: BookId,
        (position, version): (i32, i32),
    ) -> Result<ExportPage> {
        let found = query_file!(
            "src/sql/export_events.sql",
            book.0,
            position,
            version,
            what.filter.from,
            what.filter.to,
            ROWS_PER_PAGE,
            what.snapshot.epoch,
            what.snapshot.transactions
        )
        .fetch_all(&self.reads)
        .await?;
        let examined = found.len();
        let last = found.last().filter(|_| is_full(examined, ROWS_PER_PAGE));
        let next = match last.map(|row| (row.position, row.version)) {
            Some(after) => Some(Place::Events { ordinal, book, after }),
            None => Place::after_book(ordinal),
        };
        let found = found.into_iter().filter(|row| row.is_found);
        let rows = found.map(|row| ExportRow::Event(Box::new((row.code.clone(), book, event!(row)))));
        Ok(ExportPage { rows: rows.collect(), examined, next })
    }

    async fn redemptions_after(
        &self,
        what: &Exported<'_>,
        (at, id): (DateTime<Utc>, RedemptionId),
        place_after: impl Fn((DateTime<Utc>, RedemptionId)) -> Place,
    ) -> Result<ExportPage> {
        let found = query_file!(
            "src/sql/export_redemptions.sql",
            what.business.0,
            what.book.map(|book| book.0),
            what.filter.from,
            what.filter.to,
            at,
            id.0,
            ROWS_PER_PAGE,
            what.snapshot.epoch,
            what.snapshot.transactions
        )
        .fetch_all(&self.reads)
        .await?;
        let examined = found.len();
        let last = found.last().filter(|_| is_full(examined, ROWS_PER_PAGE));
        let next = last.map(|row| place_after((row.at, RedemptionId(row.id))));
        let found = found.into_iter().filter(|row| row.is_found);
        let rows = found.map(|row| ExportRow::Redemption(Box::new(redemption!(row))));
        Ok(ExportPage { rows: rows.collect(), examined, next })
    }
}

/// Whether more codes may follow a page: its number or its bytes were limited.
fn has_more(returned: usize, read: i64, limit: i64) -> bool {
    read >= limit || i64::try_from(returned).is_ok_and(|returned| returned < read)
}

fn is_full(rows: usize, limit: i64) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows >= limit)
}

fn of_coupons(what: &Exported<'_>, coupons: impl Iterator<Item = Coupon>) -> Vec<ExportRow> {
    coupons
        .filter(|coupon| what.filter.has_coupon(what.kind, coupon))
        .map(|coupon| ExportRow::Coupon(Box::new(coupon)))
        .collect()
}
