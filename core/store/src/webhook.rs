//! Webhooks: receivers of a business's events. The events are read by [`reader`], delivered by [`claim`], and shown by [`deliveries`].
//!
//! **Invariants.** The row of a webhook is locked before its deliveries are created or end, so that a delivery never waits for one that
//! has ended. A webhook gets the events that are committed after it was created or last enabled.

mod claim;
mod deliveries;
mod reader;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgExecutor, PgTransaction, query, query_file_as, query_scalar};
use uuid::Uuid;

use crate::GenerateId;
use crate::error::{Error, Result};
use cuponera_domain::id::{BusinessId, DeliveryId, WebhookId};
use cuponera_domain::page::Page;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::webhook::delivery::DeliveryStatus;
use cuponera_domain::webhook::signature::{OLD_SECRET_KEPT, Secret};
use cuponera_domain::webhook::{
    DisabledReason, LastDelivery, MAX_WEBHOOKS, NewWebhook, Webhook, WebhookPatch,
};

use super::Store;
use super::request_key::{CallResult, IdempotencyKey, KeyedChange};

pub use claim::{AttemptOutcome, ClaimLimits, ClaimedDelivery, Finish};
pub use reader::ReadRound;

/// A webhook with a new secret, which is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookWithSecret {
    /// The webhook.
    pub webhook: Webhook,
    /// The secret as text.
    pub secret: String,
}

/// Without the secret.
impl fmt::Debug for WebhookWithSecret {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("WebhookWithSecret").field("webhook", &self.webhook).finish_non_exhaustive()
    }
}

/// A row of `webhooks.sql`.
struct WebhookRow {
    id: Uuid,
    business_id: Uuid,
    url: String,
    description: Option<String>,
    event_types: Vec<String>,
    per_code: bool,
    enabled: bool,
    disabled_reason: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    last_id: Option<Uuid>,
    last_event_id: Option<Uuid>,
    last_type: Option<String>,
    last_status: Option<String>,
    last_at: Option<DateTime<Utc>>,
}

impl WebhookRow {
    /// The delivery that was attempted last, unless it was deleted.
    fn last_delivery(&self) -> Option<LastDelivery> {
        Some(LastDelivery {
            id: DeliveryId(self.last_id?),
            event: self.last_event_id?,
            event_type: self.last_type.clone()?,
            status: DeliveryStatus::parse(self.last_status.as_deref()?)?,
            at: self.last_at?,
        })
    }
}

impl From<WebhookRow> for Webhook {
    fn from(row: WebhookRow) -> Self {
        let last_delivery = row.last_delivery();
        Self {
            id: WebhookId(row.id),
            business: BusinessId(row.business_id),
            url: row.url,
            description: row.description,
            event_types: row.event_types,
            per_code: row.per_code,
            enabled: row.enabled,
            disabled_reason: row.disabled_reason.as_deref().and_then(DisabledReason::parse),
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_delivery,
        }
    }
}

impl Store {
    /// Creates a webhook with a secret. It gets the events that are committed from now on.
    pub async fn create_webhook(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        new: &NewWebhook,
        secret: &Secret,
    ) -> Result<CallResult<WebhookWithSecret>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            let id = WebhookId::generate();
            // Calls at the same time count each other's webhooks.
            query!("select from business where id = $1 for no key update", business.0)
                .execute(&mut *open.transaction)
                .await?;
            let created = query!(
                "insert into webhook (id, business_id, url, description, event_types, per_code, enabled, secret, since_epoch)
                 select $1, $2, $3, $4, $5, $6, $7, $8, (select max(epoch) from event_epoch)
                 where (select count(*) from webhook where business_id = $2 and deleted_at is null) < $9",
                id.0,
                business.0,
                new.url,
                new.description,
                &new.event_types,
                new.per_code,
                new.enabled,
                secret.as_bytes(),
                MAX_WEBHOOKS
            );
            if created.execute(&mut *open.transaction).await?.rows_affected() == 0 {
                return Err(Rejection::WebhookLimitReached { limit: MAX_WEBHOOKS }.into());
            }
            let webhook = get(&mut *open.transaction, business, id).await?;
            Ok(WebhookWithSecret { webhook, secret: secret.to_text() })
        }
        .await;
        open.commit(outcome).await
    }

    /// The webhook, if it belongs to the business.
    pub async fn get_webhook(&self, business: BusinessId, id: WebhookId) -> Result<Webhook> {
        get(&self.reads, business, id).await
    }

    /// A business's webhooks, newest first.
    pub async fn list_webhooks(
        &self,
        business: BusinessId,
        after: Option<WebhookId>,
        limit: u32,
    ) -> Result<Page<Webhook>> {
        let rows = query_file_as!(
            WebhookRow,
            "src/sql/webhooks.sql",
            business.0,
            None::<Uuid>,
            after.map(|id| id.0),
            i64::from(limit) + 1
        )
        .fetch_all(&self.reads)
        .await?;
        let webhooks = rows.into_iter().map(Webhook::from).collect();
        let mut page = Page::cut(webhooks, limit, |webhook: &Webhook| webhook.id.to_string());
        if after.is_none() && page.next_cursor.is_none() {
            page.total = i64::try_from(page.items.len()).ok();
        }
        Ok(page)
    }

    /// Changes a webhook. One that is enabled gets the events that are committed from now on, and continues its pending deliveries.
    pub async fn update_webhook(
        &self,
        business: BusinessId,
        id: WebhookId,
        patch: &WebhookPatch,
    ) -> Result<Webhook> {
        let mut transaction = self.begin().await?;
        lock_webhook(&mut transaction, business, id).await?;
        query!(
            "update webhook
             set url = coalesce($2, url), description = case when $3 then $4 else description end,
                 event_types = coalesce($5, event_types), per_code = coalesce($6, per_code), updated_at = now(),
                 enabled = coalesce($7, enabled),
                 disabled_reason = case when $7 is null then disabled_reason end,
                 failing_since = case when $2 is null and $7 is distinct from true then failing_since end,
                 since_epoch = case when $7 and not enabled then (select max(epoch) from event_epoch) else since_epoch end,
                 since_snapshot = case when $7 and not enabled then pg_current_snapshot() else since_snapshot end
             where id = $1",
            id.0,
            patch.url,
            patch.description.is_some(),
            patch.description.clone().flatten(),
            patch.event_types.as_deref(),
            patch.per_code,
            patch.enabled
        )
        .execute(&mut *transaction)
        .await?;
        let webhook = get(&mut *transaction, business, id).await?;
        transaction.commit().await?;
        Ok(webhook)
    }

    /// Deletes a webhook: it is gone at once, and housekeeping deletes its deliveries.
    pub async fn delete_webhook(&self, business: BusinessId, id: WebhookId) -> Result<()> {
        let mut transaction = self.begin().await?;
        let gone = query!(
            "update webhook set deleted_at = now(), enabled = false, disabled_reason = null
             where id = $1 and business_id = $2 and deleted_at is null",
            id.0,
            business.0
        );
        if gone.execute(&mut *transaction).await?.rows_affected() == 0 {
            return Err(no_such_webhook().into());
        }
        Ok(transaction.commit().await?)
    }

    /// Gives a webhook a new secret. The old one stays valid for 24 hours; one that was replaced before is dropped.
    pub async fn rotate_webhook_secret(
        &self,
        key: Option<IdempotencyKey>,
        business: BusinessId,
        id: WebhookId,
        secret: &Secret,
    ) -> Result<CallResult<WebhookWithSecret>> {
        let mut open = match self.attempt(key).await? {
            KeyedChange::Begun(open) => open,
            KeyedChange::Answered(answer) => return Ok(answer),
        };
        let outcome = async {
            lock_webhook(&mut open.transaction, business, id).await?;
            query!(
                "update webhook set old_secret = secret, old_secret_until = now() + make_interval(secs => $3), secret = $2,
                                    updated_at = now()
                 where id = $1",
                id.0,
                secret.as_bytes(),
                OLD_SECRET_KEPT.as_seconds_f64()
            )
            .execute(&mut *open.transaction)
            .await?;
            let webhook = get(&mut *open.transaction, business, id).await?;
            Ok(WebhookWithSecret { webhook, secret: secret.to_text() })
        }
        .await;
        open.commit(outcome).await
    }
}

fn no_such_webhook() -> Rejection {
    Rejection::not_found("webhook")
}

/// The webhook, read with the given connection or transaction.
async fn get(executor: impl PgExecutor<'_>, business: BusinessId, id: WebhookId) -> Result<Webhook> {
    let row = query_file_as!(WebhookRow, "src/sql/webhooks.sql", business.0, Some(id.0), None::<Uuid>, 1)
        .fetch_optional(executor)
        .await?;
    Ok(row.ok_or_else(no_such_webhook)?.into())
}

/// Locks a webhook of a business.
async fn lock_webhook(
    transaction: &mut PgTransaction<'_>,
    business: BusinessId,
    id: WebhookId,
) -> Result<()> {
    query_scalar!(
        "select id from webhook where id = $1 and business_id = $2 and deleted_at is null for no key update",
        id.0,
        business.0
    )
    .fetch_optional(&mut **transaction)
    .await?
    .ok_or_else(no_such_webhook)?;
    Ok(())
}

/// Locks webhooks, in the order of their ids.
async fn lock_webhooks(transaction: &mut PgTransaction<'_>, ids: &[Uuid]) -> Result<()> {
    query!("select id from webhook where id = any($1) order by id for no key update", ids)
        .fetch_all(&mut **transaction)
        .await?;
    Ok(())
}

/// Deliveries to be created, by column.
#[derive(Debug, Default)]
struct NewDeliveries {
    webhooks: Vec<Uuid>,
    events: Vec<Uuid>,
    types: Vec<String>,
    subjects: Vec<String>,
    bodies: Vec<String>,
}

impl NewDeliveries {
    fn push(&mut self, webhook: Uuid, event: Uuid, event_type: &str, subject: String, body: String) {
        self.webhooks.push(webhook);
        self.events.push(event);
        self.types.push(event_type.to_owned());
        self.subjects.push(subject);
        self.bodies.push(body);
    }

    /// The body of the last one, if it is of this event: the webhooks that get an event follow each other and get the same bytes.
    fn body_of(&self, event: Uuid) -> Option<String> {
        self.bodies.last().filter(|_| self.events.last() == Some(&event)).cloned()
    }

    /// Creates them; returns their number. The transaction holds the webhooks, unless each subject is new.
    async fn create(&self, transaction: &mut PgTransaction<'_>) -> Result<u64> {
        let ids: Vec<Uuid> = self.webhooks.iter().map(|_| DeliveryId::generate().0).collect();
        let created = sqlx::query_file!(
            "src/sql/create_deliveries.sql",
            &ids,
            &self.webhooks,
            &self.events,
            &self.types,
            &self.subjects,
            &self.bodies
        )
        .execute(&mut **transaction)
        .await?;
        schedule_first_pending(transaction, &self.webhooks, &self.subjects).await?;
        Ok(created.rows_affected())
    }
}

/// Makes the first pending delivery of each subject due.
async fn schedule_first_pending(
    transaction: &mut PgTransaction<'_>,
    webhooks: &[Uuid],
    subjects: &[String],
) -> Result<()> {
    sqlx::query_file!("src/sql/schedule_first_pending.sql", webhooks, subjects)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// An unreadable row.
fn unreadable(what: &str) -> Error {
    Error::internal(format!("a stored webhook has an unknown {what}"))
}
