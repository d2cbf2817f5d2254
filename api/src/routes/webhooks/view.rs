//! Webhooks and their deliveries as the API shows them.

use cuponera_domain::webhook::delivery::{Attempt, Delivery};
use cuponera_domain::webhook::{LastDelivery, Webhook};
use cuponera_store::WebhookWithSecret;
use poem_openapi::Object;
use serde_json::Value;
use uuid::Uuid;

use crate::http::time::Time;

/// A webhook.
#[derive(Debug, Object)]
#[oai(rename = "Webhook", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct WebhookView {
    pub(crate) id: Uuid,
    /// The URL of the receiver, in normalized form.
    url: String,
    description: Option<String>,
    /// The types of its events, or only `*`.
    event_types: Vec<String>,
    /// Whether it gets the events that bulk jobs write for each code.
    per_code: bool,
    /// Whether it gets events.
    enabled: bool,
    /// Why the service disabled it: `GONE` if the receiver answered 410, `FAILING` if all attempts of three days failed.
    disabled_reason: Option<String>,
    created_at: Time,
    updated_at: Time,
    /// The delivery that was attempted last.
    last_delivery: Option<LastDeliveryView>,
    /// The secret that signs the requests. Only the responses that create or replace it contain it.
    secret: Option<String>,
}

/// The delivery that was attempted last.
#[derive(Debug, Object)]
#[oai(rename = "LastDelivery", rename_all = "camelCase")]
pub(crate) struct LastDeliveryView {
    id: Uuid,
    event_id: Uuid,
    #[oai(rename = "type")]
    event_type: String,
    /// `PENDING`, `DELIVERED` or `FAILED`.
    status: String,
    /// The time of the attempt.
    at: Time,
}

impl WebhookView {
    pub(super) fn with_secret(created: WebhookWithSecret) -> Self {
        Self { secret: Some(created.secret), ..created.webhook.into() }
    }
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        Self {
            id: webhook.id.0,
            url: webhook.url,
            description: webhook.description,
            event_types: webhook.event_types,
            per_code: webhook.per_code,
            enabled: webhook.enabled,
            disabled_reason: webhook.disabled_reason.map(|reason| reason.as_str().to_owned()),
            created_at: webhook.created_at.into(),
            updated_at: webhook.updated_at.into(),
            last_delivery: webhook.last_delivery.map(LastDeliveryView::from),
            secret: None,
        }
    }
}

impl From<LastDelivery> for LastDeliveryView {
    fn from(last: LastDelivery) -> Self {
        Self {
            id: last.id.0,
            event_id: last.event,
            event_type: last.event_type,
            status: last.status.as_str().into(),
            at: last.at.into(),
        }
    }
}

/// The delivery of an event to a webhook.
#[derive(Debug, Object)]
#[oai(rename = "WebhookDelivery", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct DeliveryView {
    id: Uuid,
    /// The event; the receiver gets it as `webhook-id`.
    event_id: Uuid,
    #[oai(rename = "type")]
    event_type: String,
    /// `PENDING`, `DELIVERED` or `FAILED`.
    status: String,
    created_at: Time,
    /// The time of the next attempt. Absent if the delivery has ended, or waits for an earlier event of the same code.
    next_attempt_at: Option<Time>,
    /// All attempts, oldest first.
    attempts: Vec<AttemptView>,
    /// The body that the receiver gets.
    request: Value,
}

/// An attempt to deliver an event.
#[derive(Debug, Object)]
#[oai(rename = "WebhookAttempt", rename_all = "camelCase", skip_serializing_if_is_none)]
pub(crate) struct AttemptView {
    at: Time,
    /// The HTTP status of the response; absent if there was none.
    status: Option<u16>,
    /// Why it failed; absent if it succeeded.
    error: Option<String>,
    duration_ms: u32,
    /// The first 1,024 bytes of the response, if it has a body.
    answer: Option<String>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        Self {
            id: delivery.id.0,
            event_id: delivery.event,
            event_type: delivery.event_type,
            status: delivery.status.as_str().into(),
            created_at: delivery.created_at.into(),
            next_attempt_at: delivery.next_attempt_at.map(Time::from),
            attempts: delivery.attempts.into_iter().map(AttemptView::from).collect(),
            request: serde_json::from_str(&delivery.body).unwrap_or_default(),
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            at: attempt.at.into(),
            status: attempt.status,
            error: attempt.error,
            duration_ms: attempt.duration_ms,
            answer: attempt.answer,
        }
    }
}

/// How many deliveries are attempted again.
#[derive(Debug, Object)]
#[oai(rename = "ReplayedDeliveries")]
pub(crate) struct ReplayView {
    /// The number of deliveries.
    pub(super) count: u64,
}
