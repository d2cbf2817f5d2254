//! The event log: its monthly partitions, the cursor with which readers follow it, and the history of one coupon. Admin events are a log
//! with positions of the same kind.
//!
//! **Invariant.** Events are ordered by (epoch, tx, id), and no event is committed below a position that a reader has
//! passed. Ids do not have this property: they commit out of order.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::{query, query_file, query_scalar};
use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;

use cuponera_domain::coupon::state::CouponEvent;

use crate::error::{Error, Result};
use crate::stored_status::StoredStatus;
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::page::Page;
use cuponera_domain::rejection::Rejection;

use super::Store;

/// Months for which partitions are created ahead: an installation works for a year without housekeeping.
const MONTHS_AHEAD: i32 = 12;
/// Attempts of a change while other changes hold the lock of the table, and the pause between attempts. Each attempt
/// waits 200 ms for the lock.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);

/// A position in the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct EventCursor {
    /// Counts restores of the database from a dump, from 1. A restored database numbers its transactions anew.
    pub epoch: i16,
    /// The transaction that wrote the event.
    pub tx: u64,
    /// The id of the event.
    pub id: Uuid,
}

impl EventCursor {
    /// The position before all events of a transaction.
    pub fn before(epoch: i16, tx: u64) -> Self {
        Self { epoch, tx, id: Uuid::nil() }
    }

    /// The position after all events of a transaction and of earlier ones.
    pub(crate) fn after(epoch: i16, tx: u64) -> Self {
        Self { epoch, tx, id: Uuid::max() }
    }
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.tx, self.id)
    }
}

/// A text is not a position in the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position in the event log")]
pub struct InvalidCursor;

impl FromStr for EventCursor {
    type Err = InvalidCursor;

    /// Parses the text that `to_string` returns.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let parts: Vec<&str> = text.splitn(3, '.').collect();
        let [epoch, tx, id] = parts[..] else { return Err(InvalidCursor) };
        let cursor = Self {
            epoch: epoch.parse().map_err(|_| InvalidCursor)?,
            tx: tx.parse().map_err(|_| InvalidCursor)?,
            id: id.parse().map_err(|_| InvalidCursor)?,
        };
        if cursor.epoch >= 0 && cursor.to_string() == text { Ok(cursor) } else { Err(InvalidCursor) }
    }
}

/// The end of the event log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventLogEnd {
    /// All events before this position are committed.
    pub committed: EventCursor,
    /// No event has a position after this one.
    pub last: EventCursor,
}

/// An event with its position and its coupon.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// The position of the event.
    pub cursor: EventCursor,
    /// The owner of the coupon.
    pub business: BusinessId,
    /// The coupon's book.
    pub book: BookId,
    /// The coupon's position in the book.
    pub position: i32,
    /// The coupon's code. Absent if the coupon does not exist.
    pub code: Option<String>,
    /// The event.
    pub event: CouponEvent,
}

/// The event of a row.
macro_rules! event {
    ($row:expr) => {{
        let row = $row;
        cuponera_domain::coupon::state::CouponEvent {
            id: cuponera_domain::id::EventId(row.id),
            action: row.action,
            from_status: row.from_status.0,
            to_status: row.to_status.0,
            user: row.user_id,
            actor: row.actor,
            at: row.at,
            ip: row.ip,
            user_agent: row.user_agent,
            request_id: row.request_id,
            reason: row.reason,
            redeem_count: row.redeem_count,
            version: row.version,
        }
    }};
}
pub(crate) use event;

/// The event of a row, with its position and its coupon.
macro_rules! logged {
    ($row:expr) => {{
        let row = $row;
        LoggedEvent {
            cursor: EventCursor {
                epoch: row.epoch,
                tx: row.tx.parse().map_err(Error::internal)?,
                id: row.id,
            },
            business: BusinessId(row.business_id),
            book: BookId(row.book_id),
            position: row.position,
            code: row.code.clone(),
            event: event!(row),
        }
    }};
}

mod list;

mod admin;

pub use admin::{AdminEvent, AdminEventFilter, MAX_ADMIN_EVENTS_EXAMINED};
pub use list::{EventFilter, MAX_EVENTS_EXAMINED};

impl Store {
    /// Prepares the event log at the start of a program: begins a new epoch if the database was restored from a dump,
    /// and creates the partitions of the coming months. Housekeeping retries months that cannot be created now.
    pub async fn open_event_log(&self) -> Result<()> {
        self.begin_epoch_if_restored().await?;
        if let Err(failure) = self.ensure_event_months().await {
            warn!(
                error = failure.chain(),
                "cannot create the partitions of the coming months; housekeeping retries"
            );
        }
        Ok(())
    }

    /// Creates the partitions of this month and the next 12 months.
    pub async fn ensure_event_months(&self) -> Result<()> {
        for ahead in 0..=MONTHS_AHEAD {
            repeat_while_locked(|| self.make_event_month(ahead)).await?;
        }
        Ok(())
    }

    async fn make_event_month(&self, ahead: i32) -> Result<()> {
        query_scalar!(
            "select coupon_event_make_month(date_trunc('month', now(), 'UTC') + make_interval(months => $1))",
            ahead
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(())
    }

    /// Begins a new epoch if the database was restored from a dump.
    pub async fn begin_epoch_if_restored(&self) -> Result<()> {
        if let Some(epoch) = repeat_while_locked(|| self.begin_epoch()).await? {
            info!(epoch, "the database was restored from a dump: its event log begins a new epoch");
        }
        Ok(())
    }

    async fn begin_epoch(&self) -> Result<Option<i16>> {
        let epoch = query_scalar!("select coupon_event_begin_epoch_if_restored()");
        Ok(epoch.fetch_one(&self.pool).await?)
    }

    /// The committed events after a position, in order. It stops at the oldest transaction that still runs, so that no
    /// event is missed.
    pub async fn events_after(&self, after: EventCursor, limit: i64) -> Result<Vec<LoggedEvent>> {
        let tx = after.tx.to_string();
        let rows = query_file!("src/sql/events_after.sql", after.epoch, tx, after.id, limit)
            .fetch_all(&self.reads)
            .await?;
        rows.into_iter().map(|row| Ok(logged!(row))).collect()
    }

    /// The current end of the log.
    pub async fn event_log_end(&self) -> Result<EventLogEnd> {
        let row = query!(
            r#"select max(epoch) as "epoch!", pg_snapshot_xmin(pg_current_snapshot())::text as "committed!",
                      pg_snapshot_xmax(pg_current_snapshot())::text as "last!"
               from event_epoch"#
        )
        .fetch_one(&self.reads)
        .await?;
        let tx = |text: &str| text.parse().map_err(Error::internal);
        Ok(EventLogEnd {
            committed: EventCursor::before(row.epoch, tx(&row.committed)?),
            last: EventCursor::after(row.epoch, tx(&row.last)?),
        })
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
        .fetch_optional(&self.reads)
        .await?
        .ok_or_else(|| Rejection::not_found("coupon"))?;
        let rows = query!(
            r#"select id, action, from_status as "from_status: StoredStatus", to_status as "to_status: StoredStatus", user_id,
                      actor, at, host(ip) as ip, user_agent, request_id, reason, redeem_count, version
               from coupon_event
               where book_id = $1 and position = $2 and version < $3
               order by version desc limit $4"#,
            coupon.book_id,
            coupon.position,
            before.unwrap_or(i32::MAX),
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let events = rows.into_iter().map(|row| event!(row)).collect();
        Ok(Page::cut(events, limit, |event: &CouponEvent| event.version.to_string()))
    }
}

/// Repeats a change that fails because another change holds the lock of the table.
async fn repeat_while_locked<T, F: Future<Output = Result<T>>>(change: impl Fn() -> F) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match change().await {
            Err(Error::Unavailable(_)) => sleep(PAUSE).await,
            done => return done,
        }
    }
    change().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written_and_nothing_else_is() {
        let cursor = EventCursor { epoch: 2, tx: u64::MAX, id: Uuid::max() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let id = Uuid::nil();
        for text in
            ["", "1", "1.2", "1.2.3", &format!("-1.2.{id}"), &format!("1.02.{id}"), &format!("1.2.{id}.3")]
        {
            assert_eq!(text.parse::<EventCursor>(), Err(InvalidCursor), "{text}");
        }
    }
}
