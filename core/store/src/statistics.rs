//! Statistics of books and businesses: reading them, and the housekeeping that adds new sums to the buckets.
//!
//! **Invariant.** Each event is in exactly one row of sums, which is either in a bucket or not yet. A reader adds both in one
//! statement, so numbers are exact and never go backwards.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{PgPool, query, query_file, query_file_scalar, query_scalar};
use uuid::Uuid;

use crate::error::{Error, Result};
use cuponera_domain::book::Counts;
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::statistics::{
    DEFAULT_INTERVALS, EventSums, Funnel, MAX_TOP_HOLDERS, RedeemTimes, TopHolder, Window,
};
use cuponera_domain::time_zone::unknown_zone;

use super::Store;

/// The error code of Postgres for an unknown time zone.
const INVALID_PARAMETER: &str = "22023";
/// Minimum time between two listings of the top holders of a book or a business.
const LISTING_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum number of rows of sums that a roll-up adds in one statement.
const ROLLED_UP_AT_ONCE: i64 = 50_000;
/// A listing that takes longer is repeated after ten times its duration instead.
const LISTING_SHARE: f64 = 10.0;

/// The statistics of a book, or of all books of a business.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// When they were read.
    pub as_of: DateTime<Utc>,
    /// The beginnings of the intervals, and the end of the last one.
    pub edges: Vec<DateTime<Utc>>,
    /// The events of each interval.
    pub series: Vec<EventSums>,
    /// The times from assignment to first redemption, of the redemptions in the window.
    pub redeem_times: RedeemTimes,
    /// The current number of codes by status.
    pub counts: Counts,
    /// The current number of codes by stage.
    pub funnel: Funnel,
    /// The users with the most codes.
    pub top_holders: Vec<TopHolder>,
    /// When these users had the most codes; `None` before they are listed for the first time.
    pub top_holders_as_of: Option<DateTime<Utc>>,
}

#[derive(Deserialize)]
struct StoredHolder {
    user_id: String,
    held: i64,
}

impl Store {
    /// The statistics of a book of the business, or of the business. `None` while the events of an earlier version are counted.
    pub async fn statistics(
        &self,
        business: BusinessId,
        book: Option<BookId>,
        window: &Window,
    ) -> Result<Option<Statistics>> {
        if let Some(book) = book {
            self.get_book(business, book).await?;
        }
        if self.backfill_remains(&self.reads).await? {
            return Ok(None);
        }
        let edges = self.intervals(window).await?;
        let scope = book.map_or(business.0, |book| book.0);
        let series = self.series(scope, &edges).await?;
        let redeem_times = self.redeem_times(scope, &edges).await?;
        let now = query_file!("src/sql/stat_current.sql", business.0, book.map(|book| book.0))
            .fetch_one(&self.reads)
            .await?;
        let counts = Counts {
            available: now.available,
            assigned: now.assigned,
            locked: now.locked,
            redeemed: now.redeemed,
            void: now.void,
        };
        let holders: Vec<StoredHolder> = serde_json::from_value(now.holders).map_err(Error::internal)?;
        Ok(Some(Statistics {
            as_of: now.now,
            edges,
            series,
            redeem_times,
            counts,
            funnel: Funnel {
                generated: counts.all(),
                assigned: now.ever_assigned,
                locked: now.ever_locked,
                redeemed: now.used,
            },
            top_holders: holders
                .into_iter()
                .map(|holder| TopHolder { user_id: holder.user_id, held: holder.held })
                .collect(),
            top_holders_as_of: now.listed_at,
        }))
    }

    /// The beginnings of the intervals that cover the window, and the end of the last one.
    async fn intervals(&self, window: &Window) -> Result<Vec<DateTime<Utc>>> {
        let found = query_file!(
            "src/sql/stat_intervals.sql",
            window.from,
            window.to,
            window.interval.as_str(),
            window.time_zone,
            DEFAULT_INTERVALS
        )
        .fetch_one(&self.reads)
        .await;
        let found = found.map_err(|error| {
            match error.as_database_error().and_then(sqlx::error::DatabaseError::code) {
                Some(code) if code == INVALID_PARAMETER => unknown_zone().into(),
                _ => Error::from(error),
            }
        })?;
        Ok(Window::cover(found.first, found.last, found.edges)?)
    }

    async fn series(&self, scope: Uuid, edges: &[DateTime<Utc>]) -> Result<Vec<EventSums>> {
        let mut series = vec![EventSums::default(); edges.len().saturating_sub(1)];
        let rows = query_file!("src/sql/stat_series.sql", scope, edges).fetch_all(&self.reads).await?;
        for row in rows {
            let at = usize::try_from(row.interval - 1).ok().and_then(|at| series.get_mut(at));
            *at.ok_or_else(|| Error::internal("a bucket is in no interval"))? = EventSums {
                assigned: row.assigned,
                locked: row.locked,
                unlocked: row.unlocked,
                lock_expired: row.lock_expired,
                redeemed: row.redeemed,
                revoked: row.revoked,
                rolled_back: row.rolled_back,
                voided: row.voided,
            };
        }
        Ok(series)
    }

    async fn redeem_times(&self, scope: Uuid, edges: &[DateTime<Utc>]) -> Result<RedeemTimes> {
        let (first, last) = (edges.first(), edges.last());
        let steps =
            query_file!("src/sql/stat_redeem_times.sql", scope, first, last).fetch_all(&self.reads).await?;
        Ok(RedeemTimes::new(steps.into_iter().map(|row| (row.step, row.redeemed)).collect()))
    }

    /// Adds all sums of events to the buckets, a bounded number in each statement.
    pub async fn roll_up_statistics(&self) -> Result<()> {
        let is_full = |rolled_up: i64| rolled_up >= ROLLED_UP_AT_ONCE;
        while is_full(
            query_file_scalar!("src/sql/roll_up_statistics.sql", ROLLED_UP_AT_ONCE)
                .fetch_one(&self.pool)
                .await?,
        ) {}
        while is_full(
            query_file_scalar!("src/sql/roll_up_redeem_times.sql", ROLLED_UP_AT_ONCE)
                .fetch_one(&self.pool)
                .await?,
        ) {}
        Ok(())
    }

    /// Counts the events of one month from before the statistics, the latest month first. Returns whether there may be more. It reads
    /// the month without a timeout.
    pub async fn backfill_statistics(&self) -> Result<bool> {
        let mut transaction = self.pool.begin().await?;
        // The first step counts the current month and what follows it.
        let month = query!(
            r#"select counted_from as "until!",
                      date_trunc('month', least(counted_from - interval '1 month', now()), 'UTC') as "from!",
                      (select min(to_date(right(c.relname, 7), 'YYYY_MM')::timestamp at time zone 'UTC')
                       from pg_inherits i join pg_class c on c.oid = i.inhrelid
                       where i.inhparent = 'coupon_event'::regclass and c.relname ~ '_[0-9]{4}_[0-9]{2}$') as "first!"
               from stat_backfill where counted_from is not null for update skip locked"#
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(month) = month else { return Ok(false) };
        query!("select set_config('statement_timeout', '0', true)").fetch_one(&mut *transaction).await?;
        query_file!("src/sql/backfill_events.sql", month.from, month.until)
            .execute(&mut *transaction)
            .await?;
        query_file!("src/sql/backfill_redeem_times.sql", month.from, month.until)
            .execute(&mut *transaction)
            .await?;
        // The partitions of events are named by month, and each redemption has an event.
        let from = Some(month.from).filter(|from| *from > month.first);
        query!("update stat_backfill set counted_from = $1", from).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(from.is_some())
    }

    /// Whether events from before the statistics are still to be counted.
    pub(super) async fn backfill_remains(&self, pool: &PgPool) -> Result<bool> {
        let remains = query_scalar!(
            r#"select exists (select from stat_backfill where counted_from is not null) as "remains!""#
        );
        Ok(remains.fetch_one(pool).await?)
    }

    /// Lists the top holders of one book or business in which they may have changed. Returns whether there was one.
    pub async fn list_top_holders(&self) -> Result<bool> {
        let due = query!(
            "update stat_top_holder set tried_at = now() where scope_id = (
               select scope_id from stat_top_holder
               where changed_at > coalesce(listed_at, '-infinity')
                 and tried_at + greatest(make_interval(secs => $1), took * $2) <= now()
               order by tried_at limit 1)
             returning scope_id, is_book",
            LISTING_INTERVAL.as_secs_f64(),
            LISTING_SHARE
        )
        .fetch_optional(&self.pool)
        .await?;
        let Some(due) = due else { return Ok(false) };
        let limit = i64::try_from(MAX_TOP_HOLDERS).unwrap_or(i64::MAX);
        if due.is_book {
            query_file!("src/sql/list_holders_of_book.sql", due.scope_id, limit).execute(&self.pool).await?;
        } else {
            query_file!("src/sql/list_holders_of_business.sql", due.scope_id, limit)
                .execute(&self.pool)
                .await?;
        }
        Ok(true)
    }
}
