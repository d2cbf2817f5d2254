//! Lists of the events of a business, newest first: in the reverse order of the log.
//!
//! **Invariant I-60.** A page examines a bounded number of events of the log, of all businesses, and none without the index of the log.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::page::{ExaminedRow, Page};
use cuponera_domain::time_range::TimeRange;

use super::{EventCursor, LoggedEvent};
use crate::Store;
use crate::error::{Error, Result};
use crate::stored_status::StoredStatus;

/// Maximum number of events that a page examines. They are adjacent in the table: a block has about 30, and a page reads 3 MB.
pub const MAX_EVENTS_EXAMINED: i64 = 10_000;
/// Maximum time between the start of a transaction, which is the time of its events, and its first write, which is its place in the log.
/// It is larger than all statement timeouts.
pub(super) const MAX_DELAY: TimeDelta = TimeDelta::minutes(10);

/// A search for a time ends when this number of transactions is left.
const SEARCH_SPAN: u64 = 64;

/// A log whose transactions are in the order of their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// The events of coupons.
    Coupon,
    /// Admin events.
    Admin,
}

/// A filter of a list of events.
#[derive(Debug, Clone, Default)]
pub struct EventFilter {
    /// Only of codes of these books.
    pub books: Option<Vec<BookId>>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only with this action.
    pub action: Option<String>,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only in this range.
    pub range: TimeRange,
    /// Only events before this position.
    pub before: Option<EventCursor>,
}

impl EventFilter {
    fn has_book(&self, book: BookId) -> bool {
        self.books.as_ref().is_none_or(|books| books.contains(&book))
    }

    /// Whether an event is in the list, apart from the range and the position.
    pub fn matches(&self, event: &LoggedEvent) -> bool {
        self.has_book(event.book)
            && (self.user.is_none() || self.user == event.event.user)
            && self.action.as_ref().is_none_or(|action| *action == event.event.action)
            && self.actor.as_ref().is_none_or(|actor| *actor == event.event.actor)
    }
}

impl Store {
    /// A business's events, newest first. A page may be short.
    pub async fn list_events(
        &self,
        business: BusinessId,
        filter: &EventFilter,
        limit: u32,
    ) -> Result<Page<LoggedEvent>> {
        self.must_have_event_index().await?;
        let before = self.start_of_page(Log::Coupon, filter.before, filter.range.to).await?;
        let books: Option<Vec<Uuid>> =
            filter.books.as_ref().map(|books| books.iter().map(|book| book.0).collect());
        let rows = query_file!(
            "src/sql/events.sql",
            business.0,
            books.as_deref(),
            filter.user.as_deref(),
            filter.action.as_deref(),
            filter.actor.as_deref(),
            filter.range.from,
            filter.range.to,
            before.epoch,
            before.tx.to_string(),
            before.id,
            MAX_EVENTS_EXAMINED,
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let (mut examined, mut last) = (Vec::with_capacity(rows.len()), None);
        for row in rows {
            let is_found = row.is_found;
            let mut event: LoggedEvent = logged!(row);
            // All events that follow are earlier than the range.
            let is_before_range = filter.range.from.is_some_and(|from| event.event.at < from - MAX_DELAY);
            if !is_found && is_before_range && self.is_ordered(event.cursor).await? {
                break;
            }
            if is_found {
                last = Some(event.cursor);
                examined.push(ExaminedRow::Found(event));
            } else {
                if event.business != business || !filter.has_book(event.book) {
                    event.cursor = without_event(event.cursor, last, before);
                }
                examined.push(ExaminedRow::Stopped(event));
            }
        }
        Ok(Page::of_examined(examined, limit, |event: &LoggedEvent| event.cursor.to_string()))
    }

    /// The stored form of a user id: see `stored_user_id`.
    pub async fn stored_user(&self, business: BusinessId, user: &str) -> Result<String> {
        let stored = query_scalar!(
            r#"select stored as "stored!" from stored_user_id where business_id = $1 and user_id = $2"#,
            business.0,
            user
        );
        Ok(stored.fetch_optional(&self.reads).await?.unwrap_or_else(|| user.to_owned()))
    }

    /// The position before which a page begins: that of the cursor, or of the end of the range, or after all events.
    pub(super) async fn start_of_page(
        &self,
        log: Log,
        cursor: Option<EventCursor>,
        to: Option<DateTime<Utc>>,
    ) -> Result<EventCursor> {
        match (cursor, to) {
            (Some(cursor), _) => Ok(cursor),
            (None, Some(to)) => self.end_of_events_before(log, to).await,
            (None, None) => Ok(EventCursor::after(i16::MAX, u64::MAX)),
        }
    }

    /// An upper bound of the positions of the events before `to`. It searches the transactions of the current epoch, which are in the order
    /// of their times, apart from [`MAX_DELAY`]. Events of earlier epochs follow the bound.
    async fn end_of_events_before(&self, log: Log, to: DateTime<Utc>) -> Result<EventCursor> {
        let past = to.checked_add_signed(MAX_DELAY).unwrap_or(to);
        let row = query!(
            r#"select epoch, ordered_from::text as "begin!", pg_snapshot_xmax(pg_current_snapshot())::text as "end!"
               from event_epoch order by epoch desc limit 1"#
        )
        .fetch_one(&self.reads)
        .await?;
        let tx = |text: &str| text.parse::<u64>().map_err(Error::internal);
        // No event at `high` or above is before `to`: those of transactions that begin later are not.
        let (mut low, mut high) = (tx(&row.begin)?, tx(&row.end)?);
        while high.saturating_sub(low) > SEARCH_SPAN {
            let middle = low + (high - low) / 2;
            match self.time_of_event_from(log, row.epoch, middle).await? {
                Some(at) if at < past => low = middle,
                Some(_) | None => high = middle,
            }
        }
        Ok(EventCursor::before(row.epoch, high))
    }

    /// Whether the event at this position and those of later transactions of its epoch are in the order of their times.
    async fn is_ordered(&self, cursor: EventCursor) -> Result<bool> {
        let is_ordered = query_scalar!(
            r#"select ordered_from <= $2::text::xid8 as "is_ordered!" from event_epoch where epoch = $1"#,
            cursor.epoch,
            cursor.tx.to_string()
        );
        Ok(is_ordered.fetch_optional(&self.reads).await? == Some(true))
    }

    /// The time of the first event of the epoch at a transaction or later.
    async fn time_of_event_from(&self, log: Log, epoch: i16, tx: u64) -> Result<Option<DateTime<Utc>>> {
        let (tx, reads) = (tx.to_string(), &self.reads);
        let at = match log {
            Log::Coupon => {
                query_scalar!(
                    "select at from coupon_event where epoch = $1 and tx >= $2::text::xid8 order by epoch, tx, id limit 1",
                    epoch,
                    tx
                )
                .fetch_optional(reads)
                .await?
            }
            Log::Admin => {
                query_scalar!(
                    "select at from admin_event where epoch = $1 and tx >= $2::text::xid8 order by epoch, tx, id limit 1",
                    epoch,
                    tx
                )
                .fetch_optional(reads)
                .await?
            }
        };
        Ok(at)
    }

    /// Fails as unavailable while the index of the log is being built, after an upgrade from a version without it: without the index,
    /// a page would read the whole log.
    pub async fn must_have_event_index(&self) -> Result<()> {
        if self.has_event_index().await? {
            Ok(())
        } else {
            Err(Error::unavailable("the index of the event log is being built"))
        }
    }

    /// Whether the index of the log is complete.
    pub(crate) async fn has_event_index(&self) -> Result<bool> {
        let is_valid = query_scalar!(
            r#"select indisvalid as "is_valid!" from pg_index where indexrelid = to_regclass('coupon_event_cursor')"#
        );
        Ok(is_valid.fetch_optional(&self.reads).await? == Some(true))
    }
}

/// The position at which a list continues after an event that the caller may not see, without the id of the event: before the whole
/// transaction, or before the last event found if it belongs to it. If a page had only events of one transaction, the position itself.
fn without_event(cursor: EventCursor, last: Option<EventCursor>, before: EventCursor) -> EventCursor {
    let whole = EventCursor::after(cursor.epoch, cursor.tx);
    let next = last.map_or(whole, |last| last.min(whole));
    if next < before { next } else { cursor }
}
