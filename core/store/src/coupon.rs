//! Reading coupons: one coupon, and lists.

use chrono::{DateTime, Utc};
use sqlx::{query_file, query_scalar};

use cuponera_domain::book::Book;
use cuponera_domain::coupon::state::{Coupon, CouponStatus, effective};

use crate::error::Result;
use crate::stored_status::StoredStatus;
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;

use super::Store;

/// Maximum number of codes that a page examines by position. They are usually adjacent in the table: a block has about
/// 40, and a page reads 3 MB.
pub const MAX_NEIGHBORS_EXAMINED: i64 = 10_000;
/// Maximum number of codes that a page examines by code or by holder. Each may be in a different block: a page reads at
/// most 20 MB.
pub const MAX_SCATTERED_EXAMINED: i64 = 2_000;
/// Maximum number of positions that a page of free codes examines. Until the next vacuum the index of free codes also
/// has the codes that were free before, each of which requires reading its block: a page reads less than 50 MB.
pub const MAX_FREE_POSITIONS_EXAMINED: i32 = 200_000;

/// A filter of a list of a book's codes.
#[derive(Debug, Clone, Default)]
pub struct CodeFilter {
    /// Only codes with this status.
    pub status: Option<CouponStatus>,
    /// Only codes with this prefix.
    pub prefix: Option<String>,
    /// Only codes after this one.
    pub after: Option<String>,
}

/// A filter of a list of a user's coupons.
#[derive(Debug, Clone, Default)]
pub struct HeldFilter {
    /// Only coupons of this book.
    pub book: Option<BookId>,
    /// Only coupons with this status.
    pub status: Option<CouponStatus>,
    /// Only coupons after this one: the time of its assignment, and its code.
    pub after: Option<(DateTime<Utc>, String)>,
}

/// A row, with the time of the database's clock.
pub(crate) struct CouponRow {
    pub(crate) coupon: Coupon,
    pub(crate) now: DateTime<Utc>,
}

impl CouponRow {
    /// The coupon with its effective status at the time of reading: an expired lock is treated as absent.
    pub(crate) fn shown(mut self) -> Coupon {
        self.coupon.status = effective(self.coupon.status, self.coupon.locked_until, self.now);
        if self.coupon.status != CouponStatus::Locked {
            self.coupon.locked_at = None;
            self.coupon.locked_until = None;
        }
        self.coupon
    }
}

macro_rules! shown {
    ($row:expr) => {{
        let row = $row;
        $crate::coupon::CouponRow {
            coupon: cuponera_domain::coupon::state::Coupon {
                code: row.code,
                book: cuponera_domain::id::BookId(row.book_id),
                status: row.status.0,
                holder: row.holder,
                assignment: row.assignment_id.map(cuponera_domain::id::AssignmentId),
                redeem_count: row.redeem_count,
                max_redeems: row.max_redeems_per_user,
                assigned_at: row.assigned_at,
                locked_at: row.locked_at,
                locked_until: row.locked_until,
                redeemed_at: row.redeemed_at,
                expires_at: row.expires_at,
                metadata: row.metadata,
                created_at: row.created_at,
            },
            now: row.now,
        }
        .shown()
    }};
}

pub(crate) use shown;

/// Like `shown!`, for a row of a bounded list.
macro_rules! examined {
    ($row:expr) => {{
        let row = $row;
        let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
        examined(shown!(row))
    }};
}

impl Store {
    /// The coupon of that code, if it belongs to the business.
    pub async fn get_coupon(&self, business: BusinessId, code: &str) -> Result<Coupon> {
        let row = query_file!("src/sql/coupon.sql", business.0, code).fetch_optional(&self.reads).await?;
        row.map(|row| shown!(row)).ok_or_else(|| Rejection::not_found("coupon").into())
    }

    /// The book of a code, if the code belongs to the business. It never changes.
    pub async fn find_book_of_code(&self, business: BusinessId, code: &str) -> Result<Option<BookId>> {
        let book = query_scalar!(
            r#"select book_id from coupon where business_id = $1 and code = $2 collate "C""#,
            business.0,
            code
        );
        Ok(book.fetch_optional(&self.reads).await?.map(BookId))
    }

    /// A book's codes, ordered by position, or by code if the filter has a prefix. A page may be short.
    pub async fn list_codes(&self, book: &Book, filter: &CodeFilter, limit: u32) -> Result<Page<Coupon>> {
        if filter.status.is_some_and(|status| !book.counts.may_show(status)) {
            return Ok(Page::empty());
        }
        match (&filter.prefix, filter.status) {
            (Some(prefix), _) if book.counts.all() <= MAX_NEIGHBORS_EXAMINED => {
                self.codes_of_small_book(book, filter, prefix, limit).await
            }
            (Some(prefix), _) => self.codes_by_prefix(book, filter, prefix, limit).await,
            (None, Some(CouponStatus::Available)) => self.free_codes(book, filter, limit).await,
            (None, _) => self.codes_by_position(book, filter, limit).await,
        }
    }

    async fn codes_by_position(&self, book: &Book, filter: &CodeFilter, limit: u32) -> Result<Page<Coupon>> {
        let rows = query_file!(
            "src/sql/codes_by_position.sql",
            book.business.0,
            book.id.0,
            filter.status.map(StoredStatus) as _,
            filter.after.as_deref(),
            MAX_NEIGHBORS_EXAMINED,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::of_examined(rows.into_iter().map(|row| examined!(row)).collect(), limit, code_of))
    }

    async fn free_codes(&self, book: &Book, filter: &CodeFilter, limit: u32) -> Result<Page<Coupon>> {
        let rows = query_file!(
            "src/sql/free_codes.sql",
            book.business.0,
            book.id.0,
            filter.after.as_deref(),
            MAX_FREE_POSITIONS_EXAMINED,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::of_examined(rows.into_iter().map(|row| examined!(row)).collect(), limit, code_of))
    }

    async fn codes_by_prefix(
        &self,
        book: &Book,
        filter: &CodeFilter,
        prefix: &str,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let rows = query_file!(
            "src/sql/codes_by_prefix.sql",
            book.business.0,
            book.id.0,
            filter.status.map(StoredStatus) as _,
            prefix,
            past(prefix),
            filter.after.as_deref(),
            MAX_SCATTERED_EXAMINED,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::of_examined(rows.into_iter().map(|row| examined!(row)).collect(), limit, code_of))
    }

    async fn codes_of_small_book(
        &self,
        book: &Book,
        filter: &CodeFilter,
        prefix: &str,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let rows = query_file!(
            "src/sql/codes_of_small_book.sql",
            book.business.0,
            book.id.0,
            filter.status.map(StoredStatus) as _,
            prefix,
            past(prefix),
            filter.after.as_deref(),
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::cut(rows.into_iter().map(|row| shown!(row)).collect(), limit, code_of))
    }

    /// A user's coupons, in the order of their assignment. A page may be short.
    pub async fn list_held(
        &self,
        business: BusinessId,
        user: &str,
        filter: &HeldFilter,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let (at, code) = filter.after.clone().unzip();
        let rows = query_file!(
            "src/sql/held_by_user.sql",
            business.0,
            user,
            filter.book.map(|book| book.0),
            filter.status.map(StoredStatus) as _,
            at,
            code,
            MAX_SCATTERED_EXAMINED,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::of_examined(
            rows.into_iter().map(|row| examined!(row)).collect(),
            limit,
            |coupon: &Coupon| {
                let at = coupon.assigned_at.map_or(0, |at| at.timestamp_micros());
                format!("{at}.{}", coupon.code)
            },
        ))
    }
}

/// The number of codes to read: one more than the page has, which shows whether the list continues.
fn most(limit: u32) -> i64 {
    i64::from(limit) + 1
}

/// The first text after all codes with a prefix.
fn past(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

fn code_of(coupon: &Coupon) -> String {
    coupon.code.clone()
}
