//! Reading coupons, lists of them, and their history.

use chrono::{DateTime, Utc};
use sqlx::{query, query_file};

use crate::coupon::state::{Coupon, CouponEvent, CouponStatus, effective};
use crate::error::{Refusal, Result};
use crate::id::{AssignmentId, BookId, BusinessId, EventId};
use crate::page::Page;

use super::Store;

/// Which codes of a book.
#[derive(Debug, Clone, Default)]
pub struct CodeFilter {
    /// Only in this state.
    pub status: Option<CouponStatus>,
    /// Only codes that begin so.
    pub prefix: Option<String>,
    /// After this code.
    pub after: Option<String>,
}

/// Which of a user's coupons.
#[derive(Debug, Clone, Default)]
pub struct HeldFilter {
    /// Only of this book.
    pub book: Option<BookId>,
    /// Only in this state.
    pub status: Option<CouponStatus>,
    /// After this one: when it was assigned, and its code.
    pub after: Option<(DateTime<Utc>, String)>,
}

/// A row of either statement, with the database's clock.
struct Row {
    coupon: Coupon,
    now: DateTime<Utc>,
}

impl Row {
    /// The coupon as it counts at the time of reading.
    fn shown(mut self) -> Coupon {
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
        Row {
            coupon: Coupon {
                code: row.code,
                book: BookId(row.book_id),
                status: row.status,
                holder: row.holder,
                assignment: row.assignment_id.map(AssignmentId),
                redeem_count: row.redeem_count,
                max_redeems: row.max_redeems_per_user,
                assigned_at: row.assigned_at,
                locked_at: row.locked_at,
                locked_until: row.locked_until,
                redeemed_at: row.redeemed_at,
                metadata: row.metadata,
                created_at: row.created_at,
            },
            now: row.now,
        }
        .shown()
    }};
}

impl Store {
    /// The coupon of that code, if it is the business's.
    pub async fn get_coupon(&self, business: BusinessId, code: &str) -> Result<Coupon> {
        let row =
            query_file!("src/store/sql/coupon.sql", business.0, code).fetch_optional(&self.pool).await?;
        row.map(|row| shown!(row)).ok_or_else(|| Refusal::not_found("coupon").into())
    }

    /// A book's codes: by position in the book, or by code where a prefix is asked for.
    pub async fn list_codes(
        &self,
        business: BusinessId,
        book: BookId,
        filter: &CodeFilter,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let status = filter.status.map(CouponStatus::as_str);
        let most = i64::from(limit) + 1;
        let after = filter.after.as_deref();
        let coupons: Vec<Coupon> = if let Some(prefix) = &filter.prefix {
            let past = format!("{prefix}\u{7f}");
            query_file!(
                "src/store/sql/codes_by_prefix.sql",
                business.0,
                book.0,
                status,
                prefix,
                past,
                after,
                most
            )
            .fetch_all(&self.pool)
            .await?
            .into_iter()
            .map(|row| shown!(row))
            .collect()
        } else {
            query_file!("src/store/sql/codes_by_position.sql", business.0, book.0, status, after, most)
                .fetch_all(&self.pool)
                .await?
                .into_iter()
                .map(|row| shown!(row))
                .collect()
        };
        Ok(Page::cut(coupons, limit, |coupon| coupon.code.clone()))
    }

    /// A user's coupons, in the order they were given.
    pub async fn list_held(
        &self,
        business: BusinessId,
        user: &str,
        filter: &HeldFilter,
        limit: u32,
    ) -> Result<Page<Coupon>> {
        let (at, code) = filter.after.clone().unzip();
        let rows = query_file!(
            "src/store/sql/held_by_user.sql",
            business.0,
            user,
            filter.book.map(|book| book.0),
            filter.status.map(CouponStatus::as_str),
            at,
            code,
            i64::from(limit) + 1
        )
        .fetch_all(&self.pool)
        .await?;
        let coupons = rows.into_iter().map(|row| shown!(row)).collect();
        Ok(Page::cut(coupons, limit, |coupon: &Coupon| {
            let at = coupon.assigned_at.map_or(0, |at| at.timestamp_micros());
            format!("{at}.{}", coupon.code)
        }))
    }

    /// A coupon's events, newest first.
    pub async fn history(
        &self,
        business: BusinessId,
        code: &str,
        before: Option<i32>,
        limit: u32,
    ) -> Result<Page<CouponEvent>> {
        let coupon = query!(
            "select book_id, position from coupon where business_id = $1 and code = $2",
            business.0,
            code
        )
        .fetch_optional(&self.pool)
        .await?
        .ok_or_else(|| Refusal::not_found("coupon"))?;
        let rows = query!(
            r#"select id, action, from_status as "from_status: CouponStatus", to_status as "to_status: CouponStatus", user_id,
                      actor, at, host(ip) as ip, user_agent, request_id, reason, redeem_count, version
               from coupon_event
               where book_id = $1 and position = $2 and version < $3
               order by version desc limit $4"#,
            coupon.book_id,
            coupon.position,
            before.unwrap_or(i32::MAX),
            i64::from(limit) + 1
        )
        .fetch_all(&self.pool)
        .await?;
        let events = rows
            .into_iter()
            .map(|row| CouponEvent {
                id: EventId(row.id),
                action: row.action,
                from_status: row.from_status,
                to_status: row.to_status,
                user: row.user_id,
                actor: row.actor,
                at: row.at,
                ip: row.ip,
                user_agent: row.user_agent,
                request_id: row.request_id,
                reason: row.reason,
                redeem_count: row.redeem_count,
                version: row.version,
            })
            .collect();
        Ok(Page::cut(events, limit, |event: &CouponEvent| event.version.to_string()))
    }
}
