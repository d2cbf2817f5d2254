//! Shared values of the examples: one business, one book, one code and its holder.

use serde_json::{Value, json};

pub(crate) const BUSINESS: &str = "01939f2a-0000-7000-8000-000000000001";
pub(crate) const ACCOUNT: &str = "01939f2a-0000-7000-8000-000000000002";
pub(crate) const API_KEY: &str = "01939f2a-0000-7000-8000-000000000003";
pub(crate) const BOOK: &str = "01939f2a-0000-7000-8000-000000000004";
pub(crate) const JOB: &str = "01939f2a-0000-7000-8000-000000000005";
pub(crate) const ASSIGNMENT: &str = "01939f2a-0000-7000-8000-000000000006";
pub(crate) const LOCK: &str = "01939f2a-0000-7000-8000-000000000007";
pub(crate) const REDEMPTION: &str = "01939f2a-0000-7000-8000-000000000008";
pub(crate) const EVENT: &str = "01939f2a-0000-7000-8000-000000000009";
pub(crate) const POOL: &str = "01939f2a-0000-7000-8000-00000000000b";
pub(crate) const WEBHOOK: &str = "01939f2a-0000-7000-8000-00000000000c";
pub(crate) const DELIVERY: &str = "01939f2a-0000-7000-8000-00000000000d";
pub(crate) const REQUEST: &str = "01939f2a-0000-7000-8000-00000000000a";
pub(crate) const CODE: &str = "SUMMER-7KQ2WX4H";
pub(crate) const USER: &str = "ana";
/// The time of the examples, and the end of their locks.
pub(crate) const NOW: &str = "2026-12-01T12:00:00Z";
pub(crate) const LATER: &str = "2026-12-01T12:05:00Z";

/// The only page of a list.
pub(crate) fn page(item: &Value) -> Value {
    json!({"data": [item], "nextCursor": null})
}

/// The same, of a list with a total.
pub(crate) fn counted_page(item: &Value) -> Value {
    json!({"data": [item], "nextCursor": null, "total": 1})
}

pub(crate) fn session() -> Value {
    json!({
        "accessToken": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.e30.c2lnbmF0dXJl", "refreshToken": "9f86d081884c7d65",
        "tokenType": "Bearer", "expiresIn": 900,
    })
}

pub(crate) fn user() -> Value {
    json!({
        "id": ACCOUNT, "email": "ana@example.com", "role": "USER", "userId": USER, "disabled": false, "createdAt": NOW,
    })
}

pub(crate) fn api_key() -> Value {
    json!({"id": API_KEY, "name": "till 1", "role": "SERVICE", "hint": "cup_9f86d081", "createdAt": NOW, "createdBy": ACCOUNT,
        "permissions": ["coupons:use"], "couponBookIds": [BOOK], "expiresAt": LATER, "lastUsedAt": NOW})
}

pub(crate) fn book() -> Value {
    json!({
        "id": BOOK, "businessId": BUSINESS, "name": "Summer", "description": null, "status": "ACTIVE",
        "codeKind": "UNIQUE", "maxCodesPerUser": 2, "maxRedeemsPerUser": 1, "totalCodesExpected": null, "startsAt": null,
        "expiresAt": "2027-08-31T22:00:00Z", "codeValidDays": 30, "lockTtlSeconds": 300, "requireLock": false,
        "discount": {"type": "PERCENT", "value": 10.0}, "metadata": null, "generatedCount": 1000,
        "counts": {"available": 998, "assigned": 1, "locked": 1, "redeemed": 0, "void": 0},
        "isActive": true, "isExpired": false, "createdAt": NOW, "updatedAt": NOW,
    })
}

/// A new book.
pub(crate) fn draft() -> Value {
    let mut book = book();
    book["status"] = json!("DRAFT");
    book["isActive"] = json!(false);
    book["generatedCount"] = json!(0);
    book["counts"]["available"] = json!(0);
    book["counts"]["assigned"] = json!(0);
    book["counts"]["locked"] = json!(0);
    book
}

pub(crate) fn code() -> Value {
    json!({
        "code": CODE, "status": "ASSIGNED", "suspended": false, "userId": USER, "redeemCount": 0, "assignedAt": NOW, "createdAt": NOW,
    })
}

pub(crate) fn coupon() -> Value {
    json!({
        "id": ASSIGNMENT, "code": CODE, "couponBookId": BOOK, "kind": "UNIQUE", "status": "ASSIGNED", "suspended": false,
        "userId": USER, "redeemCount": 0, "maxRedeems": 1, "assignedAt": NOW, "expiresAt": "2026-12-31T12:00:00Z", "createdAt": NOW,
    })
}

/// A code of a SHARED book.
pub(crate) fn shared_coupon() -> Value {
    json!({
        "code": "SUMMER26", "couponBookId": BOOK, "kind": "SHARED", "status": "AVAILABLE", "suspended": false, "redeemCount": 17,
        "maxRedemptions": 1000, "maxRedeemsPerUser": 1, "lockedCount": 3, "createdAt": NOW,
    })
}

/// A use of the code.
pub(crate) fn redemption() -> Value {
    json!({
        "id": REDEMPTION, "code": CODE, "couponBookId": BOOK, "userId": USER, "useNumber": 1, "reference": "sale 17", "redeemedAt": NOW,
    })
}

/// What a bulk void would do.
pub(crate) fn void_preview() -> Value {
    json!({
        "voidCount": 1000, "counts": {"available": 998, "assigned": 1, "locked": 1, "redeemed": 0, "void": 0}, "notFoundCount": 0,
    })
}

pub(crate) fn assignment() -> Value {
    json!({
        "id": ASSIGNMENT, "code": CODE, "couponBookId": BOOK, "userId": USER, "status": "ASSIGNED", "assignedAt": NOW,
    })
}

pub(crate) fn event() -> Value {
    json!({
        "id": EVENT, "action": "LOCK", "fromStatus": "ASSIGNED", "toStatus": "LOCKED", "userId": USER,
        "actor": format!("service:{API_KEY}"), "at": NOW, "ip": "192.0.2.7", "userAgent": "till/1.0", "requestId": REQUEST,
    })
}

/// The same in the list of all events.
pub(crate) fn logged_event() -> Value {
    let mut event = event();
    event["code"] = json!(CODE);
    event["couponBookId"] = json!(BOOK);
    event
}

/// A webhook, without its secret.
pub(crate) fn webhook() -> Value {
    json!({
        "id": WEBHOOK, "url": "https://shop.example/hooks", "description": "Points for redemptions",
        "eventTypes": ["coupon.redeemed", "coupon.rolled_back"], "perCode": false, "enabled": true, "createdAt": NOW, "updatedAt": NOW,
        "lastDelivery": {"id": DELIVERY, "eventId": EVENT, "type": "coupon.redeemed", "status": "DELIVERED", "at": NOW},
    })
}

/// A delivery that has ended.
pub(crate) fn webhook_delivery() -> Value {
    let mut event = logged_event();
    event["action"] = json!("REDEEM");
    event["fromStatus"] = json!("LOCKED");
    event["toStatus"] = json!("REDEEMED");
    event["redeemCount"] = json!(1);
    event["redemptionId"] = json!(REDEMPTION);
    json!({
        "id": DELIVERY, "eventId": EVENT, "type": "coupon.redeemed", "status": "DELIVERED", "createdAt": NOW,
        "attempts": [
            {"at": NOW, "status": 503, "error": "the receiver answered 503", "durationMs": 12, "answer": "later"},
            {"at": NOW, "status": 200, "durationMs": 9},
        ],
        "request": {"id": EVENT, "type": "coupon.redeemed", "timestamp": NOW, "data": event},
    })
}

/// A new job.
pub(crate) fn job(kind: &str) -> Value {
    json!({
        "id": JOB, "kind": kind, "status": "QUEUED", "attempts": 0, "createdAt": NOW, "result": {},
        "progress": {
            "total": 1000, "processed": 0, "succeeded": 0, "failed": 0, "percent": 0.0, "ratePerSecond": null,
            "etaSeconds": null,
        },
    })
}

/// An ended job.
pub(crate) fn done_job() -> Value {
    let mut job = job("GENERATE_CODES");
    job["status"] = json!("SUCCEEDED");
    job["result"] = json!({
        "generatedCount": 1000, "couponBookId": BOOK, "firstCode": CODE, "lastCode": "SUMMER-M3ZT9PAD",
    });
    job["progress"] = json!({
        "total": 1000, "processed": 1000, "succeeded": 1000, "failed": 0, "percent": 100.0, "ratePerSecond": 12500.0,
        "etaSeconds": null,
    });
    job["attempts"] = json!(1);
    job["startedAt"] = json!(NOW);
    job["finishedAt"] = json!(NOW);
    job["heartbeatAt"] = json!(NOW);
    job
}

pub(crate) fn pool() -> Value {
    json!({
        "id": POOL, "name": "Newsletter", "description": "Subscribers of the newsletter", "memberCount": 300, "createdAt": NOW,
        "updatedAt": NOW,
    })
}

/// A finished distribution.
pub(crate) fn distribution() -> Value {
    json!({
        "jobId": JOB, "poolId": POOL, "couponBookId": BOOK, "mode": "EQUAL", "totalCodes": 1000, "seed": 42, "onShortage": "FAIL",
        "status": "SUCCEEDED", "members": 300, "given": 1000, "short": 0, "createdAt": NOW,
    })
}
