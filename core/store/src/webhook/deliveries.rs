//! The deliveries of a webhook: list, test, replay and deletion.

use std::collections::HashMap;

use sqlx::{PgExecutor, PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use chrono::{DateTime, Utc};

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::id::{BusinessId, DeliveryId, WebhookId};
use cuponera_domain::page::Page;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::webhook::delivery::{Attempt, Delivery, DeliveryStatus};
use cuponera_domain::webhook::event_type::TEST_EVENT;
use cuponera_domain::webhook::payload::{body, webhook_data};
use cuponera_domain::webhook::schedule::DELAYS;

use super::{get, lock_webhook, lock_webhooks, schedule_first_pending, unreadable};
use crate::Store;
use crate::request_key::{CallResult, IdempotencyKey, KeyedChange};

/// How long deliveries are kept, in days.
const DELIVERIES_KEPT_DAYS: i32 = 30;
/// Maximum number of deliveries that a transaction deletes or replays: a few milliseconds of work, during which their webhooks are locked.
const SLICE: i64 = 1_000;

/// A call stops when it has replayed this number of deliveries, so that a client can wait for it.
const MAX_REPLAYED: u64 = 100_000;

/// The delivery of a row.
macro_rules! delivery {
    ($row:expr, $attempts:expr) => {{
        let row = $row;
        Delivery {
            id: DeliveryId(row.id),
            number: row.number,
            event: row.event_id,
            event_type: row.event_type,
            status: DeliveryStatus::parse(&row.status).ok_or_else(|| unreadable("status"))?,
            created_at: row.created_at,
            next_attempt_at: row.next_attempt_at,
            attempts: $attempts,
            body: row.body,
        }
    }};
}

impl Store {
    /// A webhook's deliveries, newest first, with all their attempts.
    pub async fn list_deliveries(
        &self,
        business: BusinessId,
        webhook: WebhookId,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<Delivery>> {
        get(&self.reads, business, webhook).await?;
        let rows = query!(
            "select id, number, event_id, type as event_type, status, created_at, next_attempt_at, body from webhook_delivery
             where webhook_id = $1 and number < $2 order by number desc limit $3",
            webhook.0,
            before.unwrap_or(i64::MAX),
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
        let mut attempts = attempts_of(&self.reads, &ids).await?;
        let deliveries = rows.into_iter().map(|row| {
            let attempts = attempts.remove(&row.id).unwrap_or_default();
            Ok(delivery!(row, attempts))
        });
        Ok(Page::cut(deliveries.collect::<Result<_>>()?, limit, |delivery: &Delivery| {
            delivery.number.to_string()
        }))
    }

    /// Creates the delivery of a test event, whose data is the webhook. It is attempted once.
    pub async fn test_webhook(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: WebhookId,
    ) -> Result<CallResult<Delivery>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = create_test(&mut open.transaction, business, id).await;
        open.commit(outcome).await
    }

    /// Makes the failed deliveries that were created since a time pending again, except tests, in slices; returns their number. A
    /// call replays at most [`MAX_REPLAYED`].
    pub async fn replay_deliveries(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: WebhookId,
        since: DateTime<Utc>,
    ) -> Result<CallResult<u64>> {
        if let Some(key) = &key
            && let Some(answer) = self.find_call_result(key).await?
        {
            return Ok(answer);
        }
        // Each slice is its own transaction. A call that is interrupted has replayed some, and the next call replays the others.
        let mut count = 0;
        let replayed = loop {
            match self.replay_slice(business, id, since).await {
                Ok(slice) if slice == 0 || count + slice >= MAX_REPLAYED => break Ok(count + slice),
                Ok(slice) => count += slice,
                Err(failure) => break Err(failure),
            }
        };
        match self.attempt(key).await? {
            KeyedChange::Begun(open) => open.commit(replayed).await,
            KeyedChange::Answered(answer) => Ok(answer),
        }
    }

    /// Makes a delivery that has ended pending again, also one that was delivered, with a new schedule of attempts. A pending one stays
    /// as it is.
    pub async fn replay_delivery(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        webhook: WebhookId,
        delivery: DeliveryId,
    ) -> Result<CallResult<Delivery>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = replay_one(&mut open.transaction, business, webhook, delivery).await;
        open.commit(outcome).await
    }

    async fn replay_slice(&self, business: BusinessId, id: WebhookId, since: DateTime<Utc>) -> Result<u64> {
        let mut transaction = self.pool.begin().await?;
        lock_webhook(&mut transaction, business, id).await?;
        must_be_enabled(&mut transaction, id).await?;
        let subjects = query_scalar!(
            "update webhook_delivery set status = 'PENDING', tries = 0
             where id in (select id from webhook_delivery where webhook_id = $1 and status = 'FAILED' and created_at >= $2
                            and type <> $4
                          order by created_at limit $3)
             returning subject",
            id.0,
            since,
            SLICE,
            TEST_EVENT
        )
        .fetch_all(&mut *transaction)
        .await?;
        schedule_replayed(&mut transaction, id, &subjects).await?;
        transaction.commit().await?;
        u64::try_from(subjects.len()).map_err(Error::internal)
    }

    /// Deletes a slice of the deliveries that are older than 30 days or of a deleted webhook, or a deleted webhook that has none left. Returns
    /// the number of deleted rows: 0 if nothing is left to delete.
    pub async fn forget_deliveries(&self) -> Result<u64> {
        let old = query!(
            "select id, webhook_id from webhook_delivery where created_at < now() - make_interval(days => $1)
             order by created_at limit $2",
            DELIVERIES_KEPT_DAYS,
            SLICE
        )
        .fetch_all(&self.pool)
        .await?;
        if !old.is_empty() {
            let (ids, webhooks): (Vec<Uuid>, Vec<Uuid>) =
                old.into_iter().map(|row| (row.id, row.webhook_id)).unzip();
            return self.forget_slice(&ids, &webhooks, DELIVERIES_KEPT_DAYS).await;
        }
        let deleted =
            query_scalar!("select id from webhook where deleted_at is not null order by id limit 1");
        let Some(webhook) = deleted.fetch_optional(&self.pool).await? else { return Ok(0) };
        let ids = query_scalar!(
            "select id from webhook_delivery where webhook_id = $1 order by number limit $2",
            webhook,
            SLICE
        )
        .fetch_all(&self.pool)
        .await?;
        if !ids.is_empty() {
            return self.forget_slice(&ids, &[webhook], 0).await;
        }
        let gone = query!("delete from webhook where id = $1 and deleted_at is not null", webhook);
        Ok(gone.execute(&self.pool).await?.rows_affected())
    }

    /// Deletes deliveries of these webhooks that are older than some days.
    async fn forget_slice(&self, ids: &[Uuid], webhooks: &[Uuid], days: i32) -> Result<u64> {
        let mut transaction = self.pool.begin().await?;
        lock_webhooks(&mut transaction, webhooks).await?;
        let gone =
            query_file!("src/sql/forget_deliveries.sql", ids, days).fetch_all(&mut *transaction).await?;
        let deleted = u64::try_from(gone.len()).map_err(Error::internal)?;
        // Those that waited for a pending one that is deleted need not wait.
        let pending = gone.into_iter().filter(|row| row.status == DeliveryStatus::Pending.as_str());
        let (webhooks, subjects): (Vec<Uuid>, Vec<String>) =
            pending.map(|row| (row.webhook_id, row.subject)).unzip();
        schedule_first_pending(&mut transaction, &webhooks, &subjects).await?;
        transaction.commit().await?;
        Ok(deleted)
    }
}

/// Makes the first pending deliveries of these subjects due. The later ones wait again, unless they are being attempted.
async fn schedule_replayed(
    transaction: &mut PgTransaction<'static>,
    id: WebhookId,
    subjects: &[String],
) -> Result<()> {
    query!(
        "update webhook_delivery d set next_attempt_at = null
         where d.webhook_id = $1 and d.subject = any($2) and d.status = 'PENDING' and d.next_attempt_at is not null
           and d.lease_until is null
           and exists (select from webhook_delivery e
                       where e.webhook_id = $1 and e.subject = d.subject and e.status = 'PENDING' and e.number < d.number)",
        id.0,
        subjects
    )
    .execute(&mut **transaction)
    .await?;
    schedule_first_pending(transaction, &vec![id.0; subjects.len()], subjects).await
}

async fn replay_one(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    webhook: WebhookId,
    id: DeliveryId,
) -> Result<Delivery> {
    lock_webhook(transaction, business, webhook).await?;
    must_be_enabled(transaction, webhook).await?;
    let subjects = query_scalar!(
        "update webhook_delivery set status = 'PENDING', tries = case when type = $3 then $4 else 0 end
         where id = $1 and webhook_id = $2 and status <> 'PENDING' returning subject",
        id.0,
        webhook.0,
        TEST_EVENT,
        last_try()?
    )
    .fetch_all(&mut **transaction)
    .await?;
    schedule_replayed(transaction, webhook, &subjects).await?;
    let row = query!(
        "select id, number, event_id, type as event_type, status, created_at, next_attempt_at, body from webhook_delivery
         where id = $1 and webhook_id = $2",
        id.0,
        webhook.0
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(|| Rejection::not_found("delivery"))?;
    let attempts = attempts_of(&mut **transaction, &[id.0]).await?.remove(&id.0).unwrap_or_default();
    Ok(delivery!(row, attempts))
}

async fn attempts_of(
    executor: impl PgExecutor<'_>,
    deliveries: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Attempt>>> {
    let rows = query!(
        "select delivery_id, at, http_status, error, duration_ms, answer from webhook_attempt
         where delivery_id = any($1) order by delivery_id, number",
        deliveries
    )
    .fetch_all(executor)
    .await?;
    let mut attempts: HashMap<Uuid, Vec<Attempt>> = HashMap::new();
    for row in rows {
        attempts.entry(row.delivery_id).or_default().push(Attempt {
            at: row.at,
            status: row.http_status.and_then(|status| status.try_into().ok()),
            error: row.error,
            duration_ms: row.duration_ms.try_into().unwrap_or(0),
            answer: row.answer,
        });
    }
    Ok(attempts)
}

/// The number of tries before the last one.
fn last_try() -> Result<i32> {
    Ok(i32::try_from(DELAYS.len()).map_err(Error::internal)? - 1)
}

async fn create_test(
    transaction: &mut PgTransaction<'static>,
    business: BusinessId,
    id: WebhookId,
) -> Result<Delivery> {
    lock_webhook(transaction, business, id).await?;
    must_be_enabled(transaction, id).await?;
    let data = webhook_data(&get(&mut **transaction, business, id).await?);
    let (delivery, event) = (DeliveryId::generate(), Uuid::now_v7());
    let text = body(event, TEST_EVENT, Utc::now(), &data);
    let row = query!(
        "insert into webhook_delivery (id, webhook_id, event_id, type, subject, body, next_attempt_at, tries)
         values ($1, $2, $3, $4, $5, $6, now(), $7)
         returning number, created_at, next_attempt_at",
        delivery.0,
        id.0,
        event,
        TEST_EVENT,
        format!("event:{event}"),
        text,
        last_try()?
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(Delivery {
        id: delivery,
        number: row.number,
        event,
        event_type: TEST_EVENT.to_owned(),
        status: DeliveryStatus::Pending,
        created_at: row.created_at,
        next_attempt_at: row.next_attempt_at,
        attempts: Vec::new(),
        body: text,
    })
}

async fn must_be_enabled(transaction: &mut PgTransaction<'static>, id: WebhookId) -> Result<()> {
    let enabled = query_scalar!("select enabled from webhook where id = $1", id.0)
        .fetch_one(&mut **transaction)
        .await?;
    if enabled { Ok(()) } else { Err(Rejection::WebhookDisabled.into()) }
}
