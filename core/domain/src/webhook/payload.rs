//! The bodies of requests to receivers: `{id, type, timestamp, data}`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Webhook;
use crate::coupon::state::CouponEvent;
use crate::id::{BookId, RedemptionId};

/// The body of a request. It is stored, so that all attempts send the same bytes.
pub fn body(event: Uuid, event_type: &str, at: DateTime<Utc>, data: &Value) -> String {
    json!({"id": event, "type": event_type, "timestamp": time(at), "data": data}).to_string()
}

/// `data` of a coupon event: the event as the API shows it in a list of events, with the redemption that it concerns.
pub fn coupon_data(
    event: &CouponEvent,
    code: Option<&str>,
    book: BookId,
    redemption: Option<RedemptionId>,
) -> Value {
    object([
        ("id", Some(json!(event.id))),
        ("code", code.map(Value::from)),
        ("couponBookId", Some(json!(book))),
        ("action", Some(json!(event.action))),
        ("fromStatus", Some(json!(event.from_status))),
        ("toStatus", Some(json!(event.to_status))),
        ("userId", event.user.as_deref().map(Value::from)),
        ("actor", Some(json!(event.actor))),
        ("at", Some(time(event.at))),
        ("ip", event.ip.as_deref().map(Value::from)),
        ("userAgent", event.user_agent.as_deref().map(Value::from)),
        ("requestId", event.request_id.as_deref().map(Value::from)),
        ("reason", event.reason.as_deref().map(Value::from)),
        ("redeemCount", event.redeem_count.map(Value::from)),
        ("redemptionId", redemption.map(|id| json!(id))),
    ])
}

/// `data` of an event of a webhook: the webhook as the API shows it.
pub fn webhook_data(webhook: &Webhook) -> Value {
    let last = webhook.last_delivery.as_ref().map(|last| {
        json!({
            "id": last.id, "eventId": last.event, "type": last.event_type, "status": last.status, "at": time(last.at),
        })
    });
    object([
        ("id", Some(json!(webhook.id))),
        ("url", Some(json!(webhook.url))),
        ("description", webhook.description.as_deref().map(Value::from)),
        ("eventTypes", Some(json!(webhook.event_types))),
        ("perCode", Some(json!(webhook.per_code))),
        ("enabled", Some(json!(webhook.enabled))),
        ("disabledReason", webhook.disabled_reason.map(|reason| json!(reason))),
        ("createdAt", Some(time(webhook.created_at))),
        ("updatedAt", Some(time(webhook.updated_at))),
        ("lastDelivery", last),
    ])
}

fn time(at: DateTime<Utc>) -> Value {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true).into()
}

/// An object of the fields that are present.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}
