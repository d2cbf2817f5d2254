//! The bodies of requests to receivers: `{id, type, timestamp, data}`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Webhook;
use crate::book::Book;
use crate::coupon::state::CouponEvent;
use crate::id::{BookId, RedemptionId};
use crate::job::Job;

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

/// `data` of an event of a book: the book as the API shows it to an admin.
pub fn book_data(book: &Book) -> Value {
    let (rules, counts) = (&book.rules, &book.counts);
    json!({
        "id": book.id,
        "businessId": book.business,
        "name": rules.name,
        "description": rules.description,
        "status": book.status.as_str(),
        "codeKind": rules.code_kind,
        "maxCodesPerUser": rules.max_codes_per_user,
        "maxRedeemsPerUser": rules.max_redeems_per_user,
        "totalCodesExpected": rules.total_codes_expected,
        "startsAt": rules.starts_at.map(time),
        "expiresAt": rules.expires_at.map(time),
        "codeValidDays": rules.code_valid_days,
        "lockTtlSeconds": rules.lock_ttl_seconds,
        "requireLock": rules.require_lock,
        "discount": rules.discount,
        "metadata": rules.metadata,
        "generatedCount": counts.all(),
        "counts": counts,
        "isActive": book.is_active,
        "isExpired": book.is_expired,
        "createdAt": time(book.created_at),
        "updatedAt": time(book.updated_at),
    })
}

/// `data` of an event of a job: the job as the API shows it.
pub fn job_data(job: &Job) -> Value {
    let rounded = |number: f64| (number * 10.0).round() / 10.0;
    let progress = json!({
        "total": job.total,
        "processed": job.processed(),
        "succeeded": job.succeeded,
        "failed": job.failed,
        "percent": job.percent().map(rounded),
        "ratePerSecond": job.rate_per_second().map(rounded),
        "etaSeconds": job.eta_seconds().map(rounded),
    });
    object([
        ("id", Some(json!(job.id))),
        ("kind", Some(json!(job.kind))),
        ("status", Some(json!(job.status.as_str()))),
        ("progress", Some(progress)),
        ("result", Some(job.result.clone())),
        ("error", job.error.as_ref().map(|error| json!({"code": error.code, "detail": error.detail}))),
        ("warnings", (!job.warnings.is_empty()).then(|| json!(job.warnings))),
        ("attempts", Some(json!(job.attempts))),
        ("createdAt", Some(time(job.created_at))),
        ("startedAt", job.started_at.map(time)),
        ("finishedAt", job.finished_at.map(time)),
        ("heartbeatAt", job.heartbeat_at.map(time)),
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
