//! Lists of codes: those of a book, and all codes with a prefix.
//!
//! **Invariant I-60.** A page of codes examines a bounded number of rows in the order of one index, which the filter selects: the holder,
//! the prefix, the free codes or the position. The other conditions apply to the examined rows.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::query_file;

use cuponera_domain::book::Book;
use cuponera_domain::coupon::state::{Coupon, CouponStatus};
use cuponera_domain::id::{BookId, BusinessId, JobId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::time_range::TimeRange;

use super::{MAX_SCATTERED_EXAMINED, most, place_of_assignment};
use crate::Store;
use crate::codes::CodesOfJob;
use crate::error::Result;
use crate::stored_kind::StoredKind;
use crate::stored_status::StoredStatus;

/// Maximum number of codes that a page examines by position. They are usually adjacent in the table: a block has about
/// 40, and a page reads 3 MB.
pub const MAX_NEIGHBORS_EXAMINED: i64 = 10_000;
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
    /// Only codes that this user holds or has redeemed.
    pub user: Option<String>,
    /// Only codes that this job of the book created.
    pub job: Option<JobId>,
    /// Only codes that were assigned to their holder in this range.
    pub assigned: TimeRange,
    /// Only codes whose last redemption is in this range.
    pub redeemed: TimeRange,
    /// Only codes after this one.
    pub after: Option<String>,
    /// With `user`: the time at which the code `after` was assigned.
    pub after_assigned_at: Option<DateTime<Utc>>,
}

impl CodeFilter {
    /// Whether all codes of the book are in the list.
    pub fn is_whole_book(&self) -> bool {
        self.status.is_none() && self.prefix.is_none() && self.user.is_none() && self.has_only_status()
    }

    /// Whether a page may examine codes of other books, and end at one of them.
    pub fn examines_all_books(&self) -> bool {
        self.user.is_some() || self.prefix.is_some()
    }

    /// Whether neither the job nor the times limit the list.
    fn has_only_status(&self) -> bool {
        self.job.is_none() && self.assigned.is_unlimited() && self.redeemed.is_unlimited()
    }
}

/// The positions that a list reads.
struct Positions {
    range: Range<i32>,
    /// Whether the list ends at the first code of another job.
    ends_at_other_job: bool,
}

impl Positions {
    const ALL: Self = Self { range: 0..i32::MAX, ends_at_other_job: false };
}

impl Store {
    /// A book's codes. They are ordered by assignment if the filter has a user, otherwise by code if it has a prefix, otherwise by
    /// position. A page may be short.
    pub async fn list_codes(&self, book: &Book, filter: &CodeFilter, limit: u32) -> Result<Page<Coupon>> {
        let positions = match filter.job {
            Some(job) => self.positions_of_job(book, job).await?,
            None => Positions::ALL,
        };
        let is_empty = positions.range.is_empty()
            || filter.status.is_some_and(|status| !book.counts.may_show(status))
            || filter.assigned.is_reversed()
            || filter.redeemed.is_reversed();
        if is_empty {
            return Ok(Page::empty());
        }
        match (&filter.user, &filter.prefix, filter.status) {
            (Some(user), ..) => self.codes_of_holder(book, filter, user, limit).await,
            (None, Some(prefix), _) if book.counts.all() <= MAX_NEIGHBORS_EXAMINED => {
                self.codes_of_small_book(book, filter, prefix, limit).await
            }
            (None, Some(prefix), _) => {
                self.codes_by_prefix(book.business, &[book.id], filter, prefix, limit).await
            }
            (None, None, Some(CouponStatus::Available)) if filter.has_only_status() => {
                self.free_codes(book, filter, limit).await
            }
            (None, None, _) => self.codes_by_position(book, filter, positions, limit).await,
        }
    }

    /// The positions of the codes of a job. A job of another book is not found: the caller may have access to this book only.
    async fn positions_of_job(&self, book: &Book, job: JobId) -> Result<Positions> {
        let mut connection = self.reads.acquire().await?;
        let codes = CodesOfJob::find(&mut connection, book.business, job, Some(book.id)).await?;
        Ok(Positions { range: codes.positions, ends_at_other_job: codes.ends_at_other_job })
    }

    async fn codes_by_position(
        &self,
        book: &Book,
        filter: &CodeFilter,
        positions: Positions,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let mut rows = query_file!(
            "src/sql/codes_by_position.sql",
            book.business.0,
            book.id.0,
            filter.status.map(StoredStatus) as _,
            filter.after.as_deref(),
            positions.range.start,
            positions.range.end,
            filter.job.map(|job| job.0),
            filter.assigned.from,
            filter.assigned.to,
            filter.redeemed.from,
            filter.redeemed.to,
            MAX_NEIGHBORS_EXAMINED,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        // The positions of a job's codes follow each other, so a code of another job is behind the last one.
        if positions.ends_at_other_job {
            rows.pop_if(|last| !last.is_found && filter.job.is_some_and(|job| job.0 != last.job_id));
        }
        let rows = rows.into_iter().map(|row| examined!(row)).collect();
        self.page_by_position(book, filter, rows, limit).await
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
        let rows = rows.into_iter().map(|row| examined!(row)).collect();
        self.page_by_position(book, filter, rows, limit).await
    }

    /// A page that begins at the position of the cursor's code. Rejected if the book does not have that code: its position is unknown
    /// then, and no row follows it.
    async fn page_by_position(
        &self,
        book: &Book,
        filter: &CodeFilter,
        rows: Vec<ExaminedRow<Coupon>>,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        if let Some(after) = filter.after.as_deref().filter(|_| rows.is_empty())
            && self.find_book_of_code(book.business, after).await? != Some(book.id)
        {
            return Err(Rejection::invalid("cursor", "must be the nextCursor of an earlier page").into());
        }
        Ok(Page::of_examined(rows, limit, code_of))
    }

    async fn codes_by_prefix(
        &self,
        business: BusinessId,
        books: &[BookId],
        filter: &CodeFilter,
        prefix: &str,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let books: Vec<_> = books.iter().map(|book| book.0).collect();
        let rows = query_file!(
            "src/sql/codes_by_prefix.sql",
            business.0,
            &books,
            filter.status.map(StoredStatus) as _,
            prefix,
            past(prefix),
            filter.after.as_deref(),
            filter.job.map(|job| job.0),
            filter.assigned.from,
            filter.assigned.to,
            filter.redeemed.from,
            filter.redeemed.to,
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
            filter.job.map(|job| job.0),
            filter.assigned.from,
            filter.assigned.to,
            filter.redeemed.from,
            filter.redeemed.to,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::cut(rows.into_iter().map(|row| shown!(row)).collect(), limit, code_of))
    }

    async fn codes_of_holder(
        &self,
        book: &Book,
        filter: &CodeFilter,
        user: &str,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let rows = query_file!(
            "src/sql/codes_of_holder.sql",
            book.business.0,
            book.id.0,
            user,
            filter.status.map(StoredStatus) as _,
            filter.prefix.as_deref(),
            filter.job.map(|job| job.0),
            filter.assigned.from,
            filter.assigned.to,
            filter.redeemed.from,
            filter.redeemed.to,
            filter.after_assigned_at,
            filter.after.as_deref(),
            MAX_SCATTERED_EXAMINED,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        let rows = rows.into_iter().map(|row| examined!(row)).collect();
        Ok(Page::of_examined(rows, limit, place_of_assignment))
    }

    /// The coupons of a business with a prefix, in byte order: of all its books, or only of `books`. With `books` a page may be short.
    pub async fn find_coupons(
        &self,
        business: BusinessId,
        books: Option<&[BookId]>,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        if let Some(books) = books {
            let filter = CodeFilter { after: after.map(str::to_owned), ..CodeFilter::default() };
            return self.codes_by_prefix(business, books, &filter, prefix, limit).await;
        }
        let rows = query_file!(
            "src/sql/coupons_by_prefix.sql",
            business.0,
            prefix,
            past(prefix),
            after,
            most(limit)
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(Page::cut(rows.into_iter().map(|row| shown!(row)).collect(), limit, code_of))
    }
}

/// The first text after all codes with a prefix.
fn past(prefix: &str) -> String {
    format!("{prefix}\u{7f}")
}

fn code_of(coupon: &Coupon) -> String {
    coupon.code.clone()
}
