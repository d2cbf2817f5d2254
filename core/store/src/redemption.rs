//! Reading redemptions: one, and lists, newest first.

use chrono::{DateTime, Utc};
use sqlx::{query, query_file};

use crate::error::Result;
use cuponera_domain::coupon::redemption::Redemption;
use cuponera_domain::id::{BookId, BusinessId, RedemptionId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::rejection::Rejection;

use super::Store;
use super::stored_currency::StoredCurrency;

/// Maximum number of redemptions that a page examines. They are in the order of their times, adjacent in the table, unless the
/// list is one of a user or of a reference.
pub const MAX_REDEMPTIONS_EXAMINED: i64 = 5_000;

/// A filter of a list of redemptions.
#[derive(Debug, Clone, Default)]
pub struct RedemptionFilter {
    /// Only of this book.
    pub book: Option<BookId>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only with this reference.
    pub reference: Option<String>,
    /// Only from this time on.
    pub from: Option<DateTime<Utc>>,
    /// Only before this time.
    pub to: Option<DateTime<Utc>>,
    /// Only after this one in the list: its time, and its id.
    pub after: Option<(DateTime<Utc>, RedemptionId)>,
}

macro_rules! redemption {
    ($row:expr) => {{
        let row = $row;
        cuponera_domain::coupon::redemption::Redemption {
            id: cuponera_domain::id::RedemptionId(row.id),
            code: row.code,
            book: cuponera_domain::id::BookId(row.book_id),
            user: row.user_id,
            use_number: row.use_number,
            reference: row.reference,
            metadata: row.metadata,
            amounts: crate::stored_currency::amounts(row.currency, row.amount, row.discount),
            redeemed_at: row.at,
            rolled_back_at: row.rolled_back_at,
        }
    }};
}
pub(crate) use redemption;

macro_rules! examined {
    ($row:expr) => {{
        let row = $row;
        let examined = if row.is_found { ExaminedRow::Found } else { ExaminedRow::Stopped };
        examined(redemption!(row))
    }};
}

impl Store {
    /// The redemption, if it belongs to the business.
    pub async fn get_redemption(&self, business: BusinessId, id: RedemptionId) -> Result<Redemption> {
        let row = query!(
            r#"select id, code, book_id, user_id, use_number, reference, metadata, at, rolled_back_at, amount, discount,
                      currency as "currency: StoredCurrency"
               from redemption where id = $1 and business_id = $2"#,
            id.0,
            business.0
        )
        .fetch_optional(&self.reads)
        .await?;
        row.map(|row| redemption!(row)).ok_or_else(|| Rejection::not_found("redemption").into())
    }

    /// A business's redemptions, newest first. A page may be short.
    pub async fn list_redemptions(
        &self,
        business: BusinessId,
        filter: &RedemptionFilter,
        limit: u32,
    ) -> Result<Page<Redemption>> {
        let rows = match (&filter.reference, &filter.user) {
            (Some(reference), _) => {
                self.redemptions_with_reference(business, filter, reference, limit).await?
            }
            (None, Some(user)) => self.redemptions_of_user(business, filter, user, limit).await?,
            (None, None) => self.redemptions(business, filter, limit).await?,
        };
        Ok(Page::of_examined(rows, limit, |redemption| {
            format!("{}.{}", redemption.redeemed_at.timestamp_micros(), redemption.id)
        }))
    }

    async fn redemptions(
        &self,
        business: BusinessId,
        filter: &RedemptionFilter,
        limit: u32,
    ) -> Result<Vec<ExaminedRow<Redemption>>> {
        let (at, id) = filter.after.unzip();
        let rows = query_file!(
            "src/sql/redemptions.sql",
            business.0,
            filter.book.map(|book| book.0),
            filter.from,
            filter.to,
            at,
            id.map(|id| id.0),
            MAX_REDEMPTIONS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(rows.into_iter().map(|row| examined!(row)).collect())
    }

    async fn redemptions_of_user(
        &self,
        business: BusinessId,
        filter: &RedemptionFilter,
        user: &str,
        limit: u32,
    ) -> Result<Vec<ExaminedRow<Redemption>>> {
        let (at, id) = filter.after.unzip();
        let rows = query_file!(
            "src/sql/redemptions_of_user.sql",
            business.0,
            filter.book.map(|book| book.0),
            filter.from,
            filter.to,
            at,
            id.map(|id| id.0),
            MAX_REDEMPTIONS_EXAMINED,
            i64::from(limit) + 1,
            user
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(rows.into_iter().map(|row| examined!(row)).collect())
    }

    async fn redemptions_with_reference(
        &self,
        business: BusinessId,
        filter: &RedemptionFilter,
        reference: &str,
        limit: u32,
    ) -> Result<Vec<ExaminedRow<Redemption>>> {
        let (at, id) = filter.after.unzip();
        let rows = query_file!(
            "src/sql/redemptions_with_reference.sql",
            business.0,
            filter.book.map(|book| book.0),
            filter.from,
            filter.to,
            at,
            id.map(|id| id.0),
            MAX_REDEMPTIONS_EXAMINED,
            i64::from(limit) + 1,
            reference,
            filter.user.as_deref()
        )
        .fetch_all(&self.reads)
        .await?;
        Ok(rows.into_iter().map(|row| examined!(row)).collect())
    }
}
