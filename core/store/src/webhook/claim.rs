//! Claims of due deliveries, and the ends of attempts.
//!
//! **Invariant I-65.** A delivery is claimed only if no earlier one of its subject is pending. It ends only by its last claim, so an event
//! is attempted again rather than lost if a worker dies. A delivery that has failed blocks no other one.

use std::time::Duration;

use sqlx::{PgTransaction, query, query_file, query_scalar};
use uuid::Uuid;

use cuponera_domain::id::{BusinessId, DeliveryId, WebhookId};
use cuponera_domain::webhook::DisabledReason;
use cuponera_domain::webhook::delivery::{Attempt, DeliveryStatus};
use cuponera_domain::webhook::event_type::{ALL_EVENTS, EventType, TEST_EVENT};
use cuponera_domain::webhook::payload::{body, webhook_data};
use cuponera_domain::webhook::schedule::{DISABLED_AFTER, FORGOTTEN_AFTER};
use cuponera_domain::webhook::signature::Secret;

use super::{NewDeliveries, get, schedule_first_pending, unreadable};
use crate::Store;
use crate::error::Result;

/// How long the end of an attempt waits for the row of its webhook, which the reader or a replay may hold, before other ends come first.
const PATIENCE: &str = "100ms";

/// How many deliveries a worker may claim.
#[derive(Debug, Clone)]
pub struct ClaimLimits {
    /// Deliveries in all.
    pub all: i64,
    /// Of these, deliveries to webhooks whose last attempt failed.
    pub failing: i64,
    /// For each business, with those that run.
    pub each_business: i64,
    /// For each webhook, with those that run.
    pub each: i64,
    /// The same for a webhook whose last attempt failed.
    pub each_failing: i64,
    /// The attempts that run in this worker, by webhook.
    pub running: Vec<(WebhookId, i64)>,
}

/// A delivery that this worker may attempt until the lease ends.
#[derive(Debug, Clone)]
pub struct ClaimedDelivery {
    /// The delivery.
    pub id: DeliveryId,
    /// Its webhook.
    pub webhook: WebhookId,
    /// The number of the claim.
    pub claim: i32,
    /// The event.
    pub event: Uuid,
    /// The type of the event.
    pub event_type: String,
    /// What the event concerns.
    pub subject: String,
    /// The body of the request.
    pub body: String,
    /// Number of attempts before, since it was created or replayed.
    pub tries: i32,
    /// Whether the last attempt of the webhook failed.
    pub is_failing: bool,
    /// The URL of the receiver.
    pub url: String,
    /// The secret, and the old one while it is valid.
    pub secrets: Vec<Secret>,
}

/// What becomes of a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The receiver accepted it.
    Delivered,
    /// It is attempted again after this time.
    Retry(Duration),
    /// It has failed.
    Failed,
    /// It has failed, and the webhook is disabled.
    Gone,
}

impl AttemptOutcome {
    fn status(self) -> DeliveryStatus {
        match self {
            Self::Delivered => DeliveryStatus::Delivered,
            Self::Retry(_) => DeliveryStatus::Pending,
            Self::Failed | Self::Gone => DeliveryStatus::Failed,
        }
    }
}

/// The effect of the end of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The attempt is recorded.
    Recorded,
    /// The same, and the webhook was disabled.
    Disabled(DisabledReason),
    /// Another worker has claimed the delivery, or it is gone. Nothing was changed.
    Lost,
}

impl Store {
    /// Claims due deliveries for the time `lease`.
    pub async fn claim_deliveries(
        &self,
        limits: &ClaimLimits,
        lease: Duration,
    ) -> Result<Vec<ClaimedDelivery>> {
        let (webhooks, running): (Vec<Uuid>, Vec<i64>) =
            limits.running.iter().map(|(webhook, running)| (webhook.0, *running)).unzip();
        let rows = query_file!(
            "src/sql/claim_deliveries.sql",
            limits.all,
            limits.failing,
            lease.as_secs_f64(),
            &webhooks,
            &running,
            limits.each,
            limits.each_failing,
            limits.each_business
        )
        .fetch_all(&self.pool)
        .await?;
        let claims = rows.into_iter().map(|row| {
            let secret = Secret::from_stored(&row.secret).ok_or_else(|| unreadable("secret"))?;
            let old = row.old_secret.as_deref().and_then(Secret::from_stored);
            Ok(ClaimedDelivery {
                id: DeliveryId(row.id),
                webhook: WebhookId(row.webhook_id),
                claim: row.claim,
                event: row.event_id,
                event_type: row.event_type,
                subject: row.subject,
                body: row.body,
                tries: row.tries,
                is_failing: row.is_failing,
                url: row.url,
                secrets: [Some(secret), old].into_iter().flatten().collect(),
            })
        });
        claims.collect()
    }

    /// Records an attempt, if the claim is still the last one. Disables the webhook if the receiver wants no more events, or if all
    /// attempts of three days have failed.
    pub async fn finish_attempt_if_held(
        &self,
        claimed: &ClaimedDelivery,
        attempt: &Attempt,
        outcome: AttemptOutcome,
    ) -> Result<Finish> {
        let is_test = claimed.event_type == TEST_EVENT;
        let mut transaction = self.pool.begin().await?;
        query_scalar!("select set_config('lock_timeout', $1, true)", PATIENCE)
            .fetch_one(&mut *transaction)
            .await?;
        let business = query_scalar!(
            "select business_id from webhook where id = $1 for no key update",
            claimed.webhook.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(business) = business else { return Ok(Finish::Lost) };
        let delay = if let AttemptOutcome::Retry(delay) = outcome { Some(delay.as_secs_f64()) } else { None };
        let recorded = query_file!(
            "src/sql/finish_attempt.sql",
            claimed.id.0,
            claimed.claim,
            outcome.status().as_str(),
            delay,
            attempt.at,
            attempt.status.map(i32::from),
            attempt.error,
            i32::try_from(attempt.duration_ms).unwrap_or(i32::MAX),
            attempt.answer,
            !is_test,
            FORGOTTEN_AFTER.as_seconds_f64()
        )
        .fetch_optional(&mut *transaction)
        .await?;
        if recorded.is_none() {
            return Ok(Finish::Lost);
        }
        if outcome.status() != DeliveryStatus::Pending {
            schedule_first_pending(
                &mut transaction,
                &[claimed.webhook.0],
                std::slice::from_ref(&claimed.subject),
            )
            .await?;
        }
        let disabled = match outcome {
            AttemptOutcome::Delivered => None,
            AttemptOutcome::Gone => Some(DisabledReason::Gone),
            AttemptOutcome::Retry(_) | AttemptOutcome::Failed if is_test => None,
            AttemptOutcome::Retry(_) | AttemptOutcome::Failed => Some(DisabledReason::Failing),
        };
        let disabled = match disabled {
            Some(reason) if disable(&mut transaction, BusinessId(business), claimed, reason).await? => {
                Some(reason)
            }
            _ => None,
        };
        transaction.commit().await?;
        Ok(disabled.map_or(Finish::Recorded, Finish::Disabled))
    }

    /// Releases a claim whose attempt was abandoned, so that other workers need not wait for the end of its lease.
    pub async fn release_delivery_if_held(&self, claimed: &ClaimedDelivery) -> Result<()> {
        query!(
            "update webhook_delivery set lease_until = null where id = $1 and claim = $2 and status = 'PENDING'",
            claimed.id.0,
            claimed.claim
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

/// Disables a webhook and creates the deliveries of `webhook.disabled` to the other webhooks of the business. Returns false if the webhook
/// is already disabled, has another URL than the receiver that is gone, or has not failed for long enough.
async fn disable(
    transaction: &mut PgTransaction<'_>,
    business: BusinessId,
    claimed: &ClaimedDelivery,
    reason: DisabledReason,
) -> Result<bool> {
    let id = claimed.webhook;
    let disabled = query!(
        "update webhook set enabled = false, disabled_reason = $2, updated_at = now()
         where id = $1 and enabled and deleted_at is null
           and ($2 = 'GONE' and url = $4 or $2 <> 'GONE' and failing_since <= now() - make_interval(secs => $3))
         returning updated_at",
        id.0,
        reason.as_str(),
        DISABLED_AFTER.as_seconds_f64(),
        claimed.url
    )
    .fetch_optional(&mut **transaction)
    .await?;
    let Some(disabled) = disabled else { return Ok(false) };
    let data = webhook_data(&get(&mut **transaction, business, id).await?);
    let event_type = EventType::WebhookDisabled.as_str();
    let others = query_scalar!(
        "select id from webhook where business_id = $1 and id <> $2 and enabled and deleted_at is null and event_types && $3",
        business.0,
        id.0,
        &[ALL_EVENTS.to_owned(), event_type.to_owned()][..]
    )
    .fetch_all(&mut **transaction)
    .await?;
    let event = Uuid::now_v7();
    let text = body(event, event_type, disabled.updated_at, &data);
    let mut new = NewDeliveries::default();
    for other in others {
        // A subject of its own: the rows of the other webhooks are not locked, because two webhooks may be disabled at once.
        new.push(other, event, event_type, format!("event:{event}"), text.clone());
    }
    new.create(transaction).await?;
    Ok(true)
}

impl ClaimLimits {
    /// At most `all` deliveries, from any webhook.
    pub fn at_most(all: i64) -> Self {
        Self { all, failing: all, each_business: all, each: all, each_failing: all, running: Vec::new() }
    }
}
