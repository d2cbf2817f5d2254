//! Reads the logs of coupon events and admin events and creates the deliveries of their events.
//!
//! **Invariant I-64.** Each committed event becomes one delivery for each webhook that gets it. The position of the reader is changed in
//! the transaction that creates the deliveries, and the reader stops at the oldest transaction that still runs: an event that is
//! committed late is not below the position. Of two readers at one position, the second one waits for the first, and creates nothing.
//!
//! To read another log with the same kind of position, add a row to `webhook_cursor`, a [`Source`], and its two statements.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::coupon::state::ACTIONS;
use cuponera_domain::id::{BookId, BusinessId, JobId, RedemptionId};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::webhook::event_type::EventType;
use cuponera_domain::webhook::payload::{body, book_data, coupon_data, job_data};

use super::{NewDeliveries, lock_webhooks, unreadable};
use crate::Store;
use crate::book;
use crate::error::{Error, Result};
use crate::event_log::{EventCursor, event};
use crate::job::read as job;
use crate::stored_status::StoredStatus;

/// Maximum number of deliveries that a transaction creates for a log, so that it does not hold their webhooks for long. More than the
/// webhooks of a business.
const MAX_DELIVERIES: i64 = 2_000;

/// A log with a position in `webhook_cursor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    CouponEvents,
    AdminEvents,
}

/// A page of a log.
struct LogPage {
    /// The last event, or the start if there is none.
    end: EventCursor,
    examined: i64,
    /// The age of the first event after it.
    lag: Duration,
}

/// The result of reading a page of each log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReadRound {
    /// Number of events read.
    pub examined: i64,
    /// Number of deliveries created.
    pub created: u64,
    /// Whether a log may have more events that can be read now.
    pub is_behind: bool,
    /// Age of the first event that was not read.
    pub lag: Duration,
}

impl Store {
    /// Reads the next events of each log, at most `limit`, and creates their deliveries. Without an enabled webhook, or while
    /// the index of the log is being built, it reads nothing.
    pub async fn read_webhook_events(&self, limit: i64) -> Result<ReadRound> {
        if !self.has_enabled_webhook().await? || !self.has_event_index().await? {
            return Ok(ReadRound::default());
        }
        let mut round = ReadRound::default();
        for source in [Source::CouponEvents, Source::AdminEvents] {
            let read = self.read_log(source, limit).await?;
            round.examined += read.examined;
            round.created += read.created;
            round.is_behind |= read.is_behind;
            round.lag = round.lag.max(read.lag);
        }
        Ok(round)
    }

    async fn read_log(&self, source: Source, limit: i64) -> Result<ReadRound> {
        let mut transaction = self.pool.begin().await?;
        let position = source.position(&mut transaction).await?;
        let start = start(&mut transaction, position).await?;
        let page = source.page(&mut transaction, start, limit).await?;
        let mut round = ReadRound { examined: page.examined, created: 0, is_behind: false, lag: page.lag };
        // Without an event, the transaction has written nothing and uses no number.
        if page.examined == 0 {
            return Ok(round);
        }
        let (new, end) = match source {
            Source::CouponEvents => of_coupon_events(&mut transaction, start, page.end).await?,
            Source::AdminEvents => of_admin_events(&mut transaction, start, page.end).await?,
        };
        round.is_behind = page.examined == limit || end != page.end;
        if source.move_position(&mut transaction, position, end).await? {
            round.created = create(&mut transaction, &new).await?;
            transaction.commit().await?;
        }
        Ok(round)
    }

    async fn has_enabled_webhook(&self) -> Result<bool> {
        let exists = query_scalar!(
            r#"select exists (select from webhook where enabled and deleted_at is null) as "exists!""#
        );
        Ok(exists.fetch_one(&self.pool).await?)
    }
}

impl Source {
    /// The name of the log in `webhook_cursor`.
    fn name(self) -> &'static str {
        match self {
            Self::CouponEvents => "coupon_event",
            Self::AdminEvents => "admin_event",
        }
    }

    /// The position of the reader.
    async fn position(self, transaction: &mut PgTransaction<'_>) -> Result<EventCursor> {
        // A wrong estimate must not turn the page into a scan of the whole log.
        query!("select set_config('enable_seqscan', 'off', true) as seqscan, set_config('enable_bitmapscan', 'off', true) as bitmapscan")
            .fetch_one(&mut **transaction)
            .await?;
        let position = query!(
            r#"select epoch, tx::text as "tx!", id from webhook_cursor where source = $1"#,
            self.name()
        )
        .fetch_one(&mut **transaction)
        .await?;
        cursor(position.epoch, &position.tx, position.id)
    }

    /// The next page after a position.
    async fn page(
        self,
        transaction: &mut PgTransaction<'_>,
        start: EventCursor,
        limit: i64,
    ) -> Result<LogPage> {
        let (epoch, tx, id) = (start.epoch, start.tx.to_string(), start.id);
        macro_rules! page {
            ($file:literal) => {{
                let page = query_file!($file, epoch, tx, id, limit).fetch_one(&mut **transaction).await?;
                let lag = Duration::try_from_secs_f64(page.lag_seconds.unwrap_or(0.0)).unwrap_or_default();
                LogPage { end: cursor(page.epoch, &page.tx, page.id)?, examined: page.examined, lag }
            }};
        }
        Ok(match self {
            Self::CouponEvents => page!("src/sql/webhook_page.sql"),
            Self::AdminEvents => page!("src/sql/webhook_admin_page.sql"),
        })
    }

    /// Moves the position and locks it until the end of the transaction. Returns false if another reader has moved it.
    async fn move_position(
        self,
        transaction: &mut PgTransaction<'_>,
        from: EventCursor,
        to: EventCursor,
    ) -> Result<bool> {
        let moved = query!(
            "update webhook_cursor set epoch = $2, tx = $3::text::xid8, id = $4
             where source = $1 and (epoch, tx, id) = ($5, $6::text::xid8, $7)",
            self.name(),
            to.epoch,
            to.tx.to_string(),
            to.id,
            from.epoch,
            from.tx.to_string(),
            from.id
        );
        Ok(moved.execute(&mut **transaction).await?.rows_affected() == 1)
    }
}

fn cursor(epoch: i16, tx: &str, id: Uuid) -> Result<EventCursor> {
    Ok(EventCursor { epoch, tx: tx.parse().map_err(Error::internal)?, id })
}

/// The position to read from: events that all webhooks see in their snapshots are passed over.
async fn start(transaction: &mut PgTransaction<'_>, position: EventCursor) -> Result<EventCursor> {
    let oldest = query!(
        r#"select since_epoch, pg_snapshot_xmin(since_snapshot)::text as "tx!" from webhook
           where enabled and deleted_at is null order by since_epoch, pg_snapshot_xmin(since_snapshot) limit 1"#
    )
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(oldest) = oldest else { return Ok(position) };
    let oldest = EventCursor::before(oldest.since_epoch, oldest.tx.parse().map_err(Error::internal)?);
    Ok(position.max(oldest))
}

/// If a list has as many rows as can be read, removes those of its last event, which may be incomplete. Returns the position of the last
/// event that is complete.
macro_rules! cut {
    ($rows:ident, $end:expr) => {
        match $rows.last().map(|row| row.id) {
            Some(last) if i64::try_from($rows.len()).unwrap_or(i64::MAX) >= MAX_DELIVERIES => {
                $rows.retain(|row| row.id != last);
                let row = $rows.last().ok_or_else(|| unreadable("event"))?;
                cursor(row.epoch, &row.tx, row.id)?
            }
            _ => $end,
        }
    };
}

/// The deliveries of the coupon events after `start` up to `end`, and the position up to which they are complete.
async fn of_coupon_events(
    transaction: &mut PgTransaction<'_>,
    start: EventCursor,
    end: EventCursor,
) -> Result<(NewDeliveries, EventCursor)> {
    let of_actions = ACTIONS.into_iter().filter_map(|action| Some((action, EventType::of_action(action)?)));
    let (actions, types): (Vec<String>, Vec<String>) =
        of_actions.map(|(action, kind)| (action.to_owned(), kind.as_str().to_owned())).unzip();
    let mut rows = query_file!(
        "src/sql/webhook_events.sql",
        start.epoch,
        start.tx.to_string(),
        start.id,
        end.epoch,
        end.tx.to_string(),
        end.id,
        &actions,
        &types,
        MAX_DELIVERIES
    )
    .fetch_all(&mut **transaction)
    .await?;
    let end = cut!(rows, end);
    let mut new = NewDeliveries::default();
    for row in rows {
        let (webhook, event_type, code) = (row.webhook_id, row.event_type.clone(), row.code.clone());
        let (book, redemption) = (BookId(row.book_id), row.redemption_id.map(RedemptionId));
        let subject = format!("coupon:{book}:{}", row.position);
        let event = event!(row);
        let text = new.body_of(event.id.0).unwrap_or_else(|| {
            let data = coupon_data(&event, code.as_deref(), book, redemption);
            body(event.id.0, &event_type, event.at, &data)
        });
        new.push(webhook, event.id.0, &event_type, subject, text);
    }
    Ok((new, end))
}

/// The deliveries of the changes of books and jobs after `start` up to `end`, and the position up to which they are complete.
async fn of_admin_events(
    transaction: &mut PgTransaction<'_>,
    start: EventCursor,
    end: EventCursor,
) -> Result<(NewDeliveries, EventCursor)> {
    let changes = EventType::ALL.into_iter().filter_map(|kind| Some((kind.admin_change()?, kind.as_str())));
    let (changes, types): (Vec<String>, Vec<String>) =
        changes.map(|(change, kind)| (change.to_owned(), kind.to_owned())).unzip();
    let mut rows = query_file!(
        "src/sql/webhook_admin_events.sql",
        start.epoch,
        start.tx.to_string(),
        start.id,
        end.epoch,
        end.tx.to_string(),
        end.id,
        &changes,
        &types,
        MAX_DELIVERIES
    )
    .fetch_all(&mut **transaction)
    .await?;
    let end = cut!(rows, end);
    let mut new = NewDeliveries::default();
    for row in rows {
        let text = if let Some(text) = new.body_of(row.id) {
            text
        } else {
            let business = BusinessId(row.business_id);
            let data = match row.subject.as_str() {
                "BOOK" => book_as_shown(transaction, business, &row.subject_id).await?,
                _ => job_as_shown(transaction, business, &row.subject_id).await?,
            };
            let data = at_event(data, &row.subject_id, row.status.as_deref());
            body(row.id, &row.event_type, row.at, &data)
        };
        let subject = format!("{}:{}", row.subject.to_lowercase(), row.subject_id);
        new.push(row.webhook_id, row.id, &row.event_type, subject, text);
    }
    Ok((new, end))
}

async fn book_as_shown(
    transaction: &mut PgTransaction<'_>,
    business: BusinessId,
    id: &str,
) -> Result<Option<Value>> {
    let id = BookId(id.parse().map_err(Error::internal)?);
    Ok(found(book::get(&mut **transaction, business, id).await)?.map(|book| book_data(&book)))
}

async fn job_as_shown(
    transaction: &mut PgTransaction<'_>,
    business: BusinessId,
    id: &str,
) -> Result<Option<Value>> {
    let id = JobId(id.parse().map_err(Error::internal)?);
    Ok(found(job::get(&mut **transaction, business, id).await)?.map(|job| job_data(&job)))
}

/// None for a book or job that was deleted after its event.
fn found<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(object) => Ok(Some(object)),
        Err(Error::Rejected(Rejection::NotFound { .. })) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The data of a book or job with the status of the event, which may have changed since. Of a deleted one, only its id and status.
fn at_event(data: Option<Value>, id: &str, status: Option<&str>) -> Value {
    let mut data = data.unwrap_or_else(|| json!({"id": id}));
    if let Some(status) = status {
        data["status"] = status.into();
    }
    data
}

/// Creates deliveries; returns their number.
async fn create(transaction: &mut PgTransaction<'_>, new: &NewDeliveries) -> Result<u64> {
    if new.webhooks.is_empty() {
        return Ok(0);
    }
    let mut webhooks: Vec<Uuid> = new.webhooks.clone();
    webhooks.sort_unstable();
    webhooks.dedup();
    lock_webhooks(transaction, &webhooks).await?;
    new.create(transaction).await
}
