//! Reading coupons: one coupon, and the coupons of a user. [`list`] reads the codes of a book.

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, query_file, query_scalar};

use cuponera_domain::book::CodeKind;
use cuponera_domain::coupon::state::{Coupon, CouponStatus, SharedPart, UsesOfUser, effective};

use crate::error::Result;
use crate::stored_kind::StoredKind;
use crate::stored_status::StoredStatus;
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;

use super::Store;

/// Maximum number of codes that a page examines by code or by holder. Each may be in a different block: a page reads at
/// most 20 MB.
pub const MAX_SCATTERED_EXAMINED: i64 = 2_000;

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

/// A coupon of a user: one that the user holds or has redeemed, or a SHARED code that the user has redeemed or locked.
#[derive(Debug, Clone, PartialEq)]
pub struct CouponOfUser {
    /// The coupon.
    pub coupon: Coupon,
    /// The user's uses, of a SHARED code.
    pub uses: Option<UsesOfUser>,
    /// When it was assigned, or first used.
    at: DateTime<Utc>,
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
        // VOID ends all locks, although their rows remain until they are swept.
        if let Some(shared) = self.coupon.shared.as_mut().filter(|_| self.coupon.status == CouponStatus::Void) {
            shared.locked_count = 0;
        }
        if self.coupon.status != CouponStatus::Locked {
            self.coupon.locked_at = None;
            self.coupon.locked_until = None;
        }
        self.coupon
    }
}

/// The part of a SHARED code; `None` for the codes of other books.
pub(crate) fn shared_part(kind: CodeKind, part: SharedPart) -> Option<SharedPart> {
    (kind == CodeKind::Shared).then_some(part)
}

macro_rules! shown {
    ($row:expr) => {{
        let row = $row;
        $crate::coupon::CouponRow {
            coupon: cuponera_domain::coupon::state::Coupon {
                code: row.code,
                book: cuponera_domain::id::BookId(row.book_id),
                kind: row.code_kind.0,
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
                suspended_at: row.suspended_at,
                shared: $crate::coupon::shared_part(
                    row.code_kind.0,
                    cuponera_domain::coupon::state::SharedPart {
                        max_redemptions: row.max_redemptions,
                        max_redeems_per_user: row
                            .own_max_redeems_per_user
                            .unwrap_or(row.max_redeems_per_user),
                        starts_at: row.starts_at,
                        locked_count: row.live_locks.unwrap_or(0),
                    },
                ),
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

mod list;

pub use list::{CodeFilter, MAX_FREE_POSITIONS_EXAMINED, MAX_NEIGHBORS_EXAMINED};

impl Store {
    /// The coupon of that code, if it belongs to the business.
    pub async fn get_coupon(&self, business: BusinessId, code: &str) -> Result<Coupon> {
        get(&self.reads, business, code).await
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

    /// The uses of a SHARED code by a user.
    pub async fn uses_of_user(&self, business: BusinessId, code: &str, user: &str) -> Result<UsesOfUser> {
        let row = query_file!("src/sql/uses_of_user.sql", business.0, code, user)
            .fetch_optional(&self.reads)
            .await?;
        Ok(row.map_or(UsesOfUser { redeem_count: 0, locked_until: None }, |row| UsesOfUser {
            redeem_count: row.used,
            locked_until: row.locked_until,
        }))
    }

    /// A user's coupons in the order of their assignment, or of the first use of a SHARED code. A page may be short.
    pub async fn list_held(
        &self,
        business: BusinessId,
        user: &str,
        filter: &HeldFilter,
        limit: u32,
    ) -> Result<Page<CouponOfUser>> {
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
        let rows = rows.into_iter().map(|row| {
            let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
            let uses = row
                .used
                .map(|used| UsesOfUser { redeem_count: used, locked_until: row.own_locked_until });
            examined(CouponOfUser { at: row.at, uses, coupon: shown!(row) })
        });
        Ok(Page::of_examined(rows.collect(), limit, |of_user: &CouponOfUser| {
            format!("{}.{}", of_user.at.timestamp_micros(), of_user.coupon.code)
        }))
    }
}

/// The same, in a transaction.
pub(crate) async fn get(executor: impl PgExecutor<'_>, business: BusinessId, code: &str) -> Result<Coupon> {
    let row = query_file!("src/sql/coupon.sql", business.0, code).fetch_optional(executor).await?;
    row.map(|row| shown!(row)).ok_or_else(|| Rejection::not_found("coupon").into())
}

/// The number of codes to read: one more than the page has, which shows whether the list continues.
fn most(limit: u32) -> i64 {
    i64::from(limit) + 1
}

/// The position of a coupon among those of its holder: the time of the assignment and the code.
fn place_of_assignment(coupon: &Coupon) -> String {
    let at = coupon.assigned_at.map_or(0, |at| at.timestamp_micros());
    format!("{at}.{}", coupon.code)
}
