//! The document of the operations on webhooks: examples and rejections.

use serde_json::{Value, json};

use crate::document::Operation;
use crate::document::examples::{NOW, counted_page, page, webhook, webhook_delivery};

pub(in crate::routes) fn operations() -> Vec<Operation> {
    let change = json!({"eventTypes": ["coupon.redeemed", "coupon.rolled_back"], "enabled": true});
    vec![
        Operation::of("createWebhook")
            .body(json!({
                "url": "https://shop.example/hooks", "description": "Points for redemptions",
                "eventTypes": ["coupon.redeemed", "coupon.rolled_back"],
            }))
            .answers(201, "The webhook with its secret.", with_secret())
            .located()
            .refuses(&["forbidden", "webhook_limit_reached"]),
        Operation::of("listWebhooks")
            .answers(200, "A page of webhooks, without their secrets.", counted_page(&webhook()))
            .refuses(&["forbidden"]),
        Operation::of("getWebhook")
            .answers(200, "The webhook, without its secret.", webhook())
            .refuses(&["forbidden"]),
        Operation::of("updateWebhook")
            .body(change)
            .answers(200, "The changed webhook.", webhook())
            .refuses(&["forbidden"]),
        Operation::of("deleteWebhook")
            .answers_nothing(204, "The webhook is deleted.")
            .refuses(&["forbidden"]),
        Operation::of("rotateWebhookSecret")
            .answers(200, "The webhook with its new secret.", with_secret())
            .refuses(&["forbidden"]),
        Operation::of("testWebhook")
            .answers(202, "The delivery of the test event.", test_delivery())
            .refuses(&["forbidden", "webhook_disabled"]),
        Operation::of("replayWebhook")
            .body(json!({"since": NOW}))
            .answers(202, "The number of deliveries that are attempted again.", json!({"count": 12}))
            .refuses(&["forbidden", "webhook_disabled"]),
        Operation::of("replayWebhookDelivery")
            .answers(202, "The delivery that is attempted again.", replayed_delivery())
            .refuses(&["forbidden", "webhook_disabled"]),
        Operation::of("listWebhookDeliveries")
            .answers(200, "A page of deliveries.", page(&webhook_delivery()))
            .refuses(&["forbidden"]),
    ]
}

fn with_secret() -> Value {
    let mut webhook = webhook();
    webhook["secret"] = json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=");
    webhook
}

/// A delivery that is attempted again.
fn replayed_delivery() -> Value {
    let mut delivery = webhook_delivery();
    delivery["status"] = json!("PENDING");
    delivery["nextAttemptAt"] = json!(NOW);
    delivery
}

/// A delivery before its attempt.
fn test_delivery() -> Value {
    let mut delivery = webhook_delivery();
    delivery["type"] = json!("webhook.test");
    delivery["status"] = json!("PENDING");
    delivery["nextAttemptAt"] = json!(NOW);
    delivery["attempts"] = json!([]);
    delivery["request"]["type"] = json!("webhook.test");
    delivery["request"]["data"] = webhook();
    delivery
}
