//! Reads the event log and creates the deliveries of its events.
//!
//! **Invariant I-64.** Each committed event becomes one delivery for each webhook that gets it. The position of the reader is changed in
//! the transaction that creates the deliveries, and the reader stops at the oldest transaction that still runs: an event that is
//! committed late is not below the position. Two readers wait for each other at the row of the position.
//!
//! To read another log with the same kind of position, add a row to `webhook_cursor` and the two statements of the page.

use std::time::Duration;

use sqlx::{PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::coupon::state::ACTIONS;
use cuponera_domain::id::{BookId, RedemptionId};
use cuponera_domain::webhook::event_type::EventType;
use cuponera_domain::webhook::payload::{body, coupon_data};

use super::{NewDeliveries, hold_all};
use crate::Store;
use crate::error::{Error, Result};
use crate::event_log::{EventCursor, event};
use crate::stored_status::StoredStatus;

/// The log of coupon events in `webhook_cursor`.
const COUPON_EVENTS: &str = "coupon_event";

/// The result of reading a page of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReadRound {
    /// Number of events read.
    pub examined: i64,
    /// Number of deliveries created.
    pub created: u64,
    /// Age of the last event read.
    pub age: Duration,
}

impl Store {
    /// Reads the next events of the log, at most `limit`, and creates their deliveries. Without an enabled webhook it reads nothing.
    pub async fn read_webhook_events(&self, limit: i64) -> Result<ReadRound> {
        if !self.has_enabled_webhook().await? {
            return Ok(ReadRound::default());
        }
        self.must_have_event_index().await?;
        let mut transaction = self.pool.begin().await?;
        let start = start(&mut transaction).await?;
        let page =
            query_file!("src/sql/webhook_page.sql", start.epoch, start.tx.to_string(), start.id, limit)
                .fetch_optional(&mut *transaction)
                .await?;
        let Some(page) = page else { return Ok(ReadRound::default()) };
        let end =
            EventCursor { epoch: page.epoch, tx: page.tx.parse().map_err(Error::internal)?, id: page.id };
        let created = create(&mut transaction, start, end).await?;
        query!(
            "update webhook_cursor set epoch = $2, tx = $3::text::xid8, id = $4 where source = $1",
            COUPON_EVENTS,
            end.epoch,
            end.tx.to_string(),
            end.id
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let age = Duration::try_from_secs_f64(page.age_seconds).unwrap_or_default();
        Ok(ReadRound { examined: page.examined, created, age })
    }

    async fn has_enabled_webhook(&self) -> Result<bool> {
        let exists = query_scalar!(
            r#"select exists (select from webhook where enabled and deleted_at is null) as "exists!""#
        );
        Ok(exists.fetch_one(&self.pool).await?)
    }
}

/// Locks the position of the reader and returns the position to read from: events that all webhooks see in their snapshots are passed
/// over.
async fn start(transaction: &mut PgTransaction<'_>) -> Result<EventCursor> {
    // A wrong estimate must not turn the page into a scan of the whole log.
    query!("select set_config('enable_seqscan', 'off', true) as seqscan, set_config('enable_bitmapscan', 'off', true) as bitmapscan")
        .fetch_one(&mut **transaction)
        .await?;
    let position = query!(
        r#"select epoch, tx::text as "tx!", id from webhook_cursor where source = $1 for update"#,
        COUPON_EVENTS
    )
    .fetch_one(&mut **transaction)
    .await?;
    let position = EventCursor {
        epoch: position.epoch,
        tx: position.tx.parse().map_err(Error::internal)?,
        id: position.id,
    };
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

/// Creates the deliveries of the events after `start` up to `end`; returns their number.
async fn create(transaction: &mut PgTransaction<'_>, start: EventCursor, end: EventCursor) -> Result<u64> {
    let actions: Vec<String> = ACTIONS.map(str::to_owned).to_vec();
    let types = ACTIONS.map(|action| EventType::of_action(action).map_or("", EventType::as_str).to_owned());
    let rows = query_file!(
        "src/sql/webhook_events.sql",
        start.epoch,
        start.tx.to_string(),
        start.id,
        end.epoch,
        end.tx.to_string(),
        end.id,
        &actions,
        &types[..]
    )
    .fetch_all(&mut **transaction)
    .await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut new = NewDeliveries::default();
    for row in rows {
        let (webhook, event_type, code) = (row.webhook_id, row.event_type.clone(), row.code.clone());
        let (book, redemption) = (BookId(row.book_id), row.redemption_id.map(RedemptionId));
        let subject = format!("coupon:{book}:{}", row.position);
        let event = event!(row);
        let data = coupon_data(&event, code.as_deref(), book, redemption);
        new.push(webhook, event.id.0, &event_type, subject, body(event.id.0, &event_type, event.at, &data));
    }
    let mut webhooks: Vec<Uuid> = new.webhooks.clone();
    webhooks.sort_unstable();
    webhooks.dedup();
    hold_all(transaction, &webhooks).await?;
    new.create(transaction).await
}
