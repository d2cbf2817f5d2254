//! Coupon books: fields, statuses, and the operations that each status and time allows.

mod deletion;
mod lists;
mod rules;
mod sealed;

use serde_json::{Value, json};

use crate::support::{Server, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_book_has_the_defaults_and_is_a_draft() {
    let server = Server::start().await;
    let reply = server.service().post("coupon-books", json!({"name": "Plain"})).await;
    let location = reply.header("location").to_owned();
    let book = reply.expect(201);
    assert_eq!(location, format!("/api/v1/coupon-books/{}", id_of(&book)));
    let expected = json!({
        "name": "Plain", "description": null, "status": "DRAFT", "codeKind": "UNIQUE", "maxCodesPerUser": null, "maxRedeemsPerUser": 1,
        "totalCodesExpected": null, "startsAt": null, "expiresAt": null, "schedule": null, "timeZone": "UTC", "lockTtlSeconds": 300, "requireLock": false,
        "discount": null, "metadata": null, "generatedCount": 0,
        "counts": {"available": 0, "assigned": 0, "locked": 0, "redeemed": 0, "void": 0},
        "isActive": false, "isExpired": false, "businessId": server.business.to_string(),
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&book[field], value, "{field}");
    }
    assert_eq!(book["createdAt"], book["updatedAt"]);
    assert_eq!(server.service().get(&format!("coupon-books/{}", id_of(&book))).await.expect(200), book);
}

fn every_field(server: &Server) -> Value {
    json!({
        "name": "Summer", "description": "Two\nlines", "codeKind": "BEARER", "maxCodesPerUser": 2, "maxRedeemsPerUser": 3,
        "totalCodesExpected": 10_000_000, "startsAt": "2026-06-01T00:00:00Z", "expiresAt": "9999-12-31T23:59:59Z",
        "schedule": [{"days": ["MON", "SUN"], "from": "22:00", "to": "02:00"}, {"days": ["SAT"], "from": "00:00", "to": "24:00"}],
        "timeZone": "America/Santiago", "lockTtlSeconds": 86_400, "requireLock": true, "discount": {"type": "FIXED", "value": 2.5, "currency": "EUR"},
        "metadata": {"shop": ["Berlin", 7, null]}, "businessId": server.business.to_string(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_field_is_kept_as_it_was_given() {
    let server = Server::start().await;
    let fields = every_field(&server);
    let book = server.admin().post("coupon-books", fields.clone()).await.expect(201);
    for (field, value) in fields.as_object().expect("an object") {
        assert_eq!(&book[field], value, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_keeps_what_it_does_not_name_and_null_empties() {
    let server = Server::start().await;
    let before = server.admin().post("coupon-books", every_field(&server)).await.expect(201);
    let path = format!("coupon-books/{}", id_of(&before));
    assert_eq!(server.admin().patch(&path, json!({})).await.expect(200)["name"], "Summer");
    let emptied = json!({
        "description": null, "maxCodesPerUser": null, "totalCodesExpected": null, "startsAt": null, "expiresAt": null,
        "schedule": null, "discount": null, "metadata": null,
    });
    let put = server.admin().request(reqwest::Method::PUT, &path).json(&emptied);
    let after = crate::support::Reply::to(put).await.expect(200);
    for (field, value) in before.as_object().expect("an object") {
        let expected = emptied.get(field).unwrap_or(value);
        if field != "updatedAt" {
            assert_eq!(&after[field], expected, "{field}");
        }
    }
    assert!(after["updatedAt"].as_str() > before["updatedAt"].as_str());
    for field in
        ["name", "status", "codeKind", "maxRedeemsPerUser", "timeZone", "lockTtlSeconds", "requireLock"]
    {
        let mut change = json!({});
        change[field] = Value::Null;
        let problem = server.admin().patch(&path, change).await.expect(422);
        assert_eq!(problem["errors"][0]["field"], field);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_out_of_range_are_refused_when_a_book_is_made_and_when_it_is_changed() {
    let server = Server::start().await;
    let draft = server.draft(json!({})).await;
    let big = "x".repeat(17_000);
    let cases = [
        ("name", json!({"name": ""})),
        ("name", json!({"name": "x".repeat(201)})),
        ("description", json!({"description": "x".repeat(5_001)})),
        ("codeKind", json!({"codeKind": "SHARED"})),
        ("codeKind", json!({"codeKind": "bearer"})),
        ("maxCodesPerUser", json!({"maxCodesPerUser": 0})),
        ("maxRedeemsPerUser", json!({"maxRedeemsPerUser": 0})),
        ("maxRedeemsPerUser", json!({"maxRedeemsPerUser": 3_000_000_000_u64})),
        ("totalCodesExpected", json!({"totalCodesExpected": -1})),
        ("lockTtlSeconds", json!({"lockTtlSeconds": 0})),
        ("lockTtlSeconds", json!({"lockTtlSeconds": 86_401})),
        ("expiresAt", json!({"startsAt": "2026-02-01T00:00:00Z", "expiresAt": "2026-02-01T00:00:00Z"})),
        ("startsAt", json!({"startsAt": "2026-02-30T00:00:00Z"})),
        ("metadata", json!({"metadata": {"big": big}})),
        ("metadata", json!({"metadata": [1]})),
        ("metadata.zero", json!({"metadata": {"zero": "\u{0}"}})),
        ("name", json!({"name": "zero\u{0}"})),
        ("discount.value", json!({"discount": {"type": "PERCENT", "value": 100.5}})),
        ("discount.value", json!({"discount": {"type": "PERCENT", "value": 0}})),
        ("discount.currency", json!({"discount": {"type": "FIXED", "value": 5}})),
        ("discount.currency", json!({"discount": {"type": "FIXED", "value": 5, "currency": "euro"}})),
    ];
    for (field, fields) in cases {
        let mut new = json!({"name": "A book"});
        new.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let made = server.admin().post("coupon-books", new).await.expect(422);
        let changed =
            server.admin().patch(&format!("coupon-books/{draft}"), fields.clone()).await.expect(422);
        for problem in [made, changed] {
            assert_eq!(problem["errors"][0]["field"], field, "{fields}: {problem}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_book_is_made_in_one_s_own_business_or_not_at_all() {
    let server = Server::start().await;
    let theirs = json!({"name": "Theirs", "businessId": uuid::Uuid::now_v7()});
    assert_eq!(server.admin().post("coupon-books", theirs).await.rejected(403), "forbidden");
    assert_eq!(server.admin().get("coupon-books").await.expect(200)["total"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_makes_one_book() {
    let server = Server::start().await;
    let body = json!({"name": "Once"});
    let one = server.admin().post_with_key("coupon-books", "k", &body).await;
    let two = server.admin().post_with_key("coupon-books", "k", &body).await;
    assert_eq!((&one.text, two.header("Idempotent-Replayed")), (&two.text, "true"));
    assert_eq!(server.admin().get("coupon-books").await.expect(200)["total"], 1);
}
