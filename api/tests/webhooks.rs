//! Webhooks over HTTP: rules, secrets, and the way of an event to a receiver.

use cuponera_testkit::{Answer, Received, Receiver, eventually};
use serde_json::{Value, json};

use crate::support::{Client, Limits, Server, id_of};

/// A server whose webhooks may be sent to this machine.
async fn server() -> Server {
    Server::start_with(Limits { webhook_networks: vec!["127.0.0.0/8"], ..Limits::default() }).await
}

async fn without_worker() -> Server {
    Server::start_with(Limits { worker: false, ..Limits::default() }).await
}

/// Waits until the newest delivery of a type has ended; returns it.
async fn ended(client: &Client, webhook: &str, event_type: &str) -> Value {
    eventually("the delivery to end", async || {
        let page = client.get(&format!("webhooks/{webhook}/deliveries")).await.expect(200);
        let all = page["data"].as_array().expect("a list").clone();
        all.into_iter().find(|delivery| delivery["type"] == event_type && delivery["status"] != "PENDING")
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_created_changed_listed_and_deleted() {
    let server = without_worker().await;
    let admin = server.admin();
    let body = json!({"url": "HTTPS://Shop.example/hooks", "description": "points", "eventTypes": ["coupon.redeemed", "coupon.redeemed"]});
    let reply = admin.post_with_key("webhooks", "a key", &body).await;
    let location = reply.header("location").to_owned();
    let made = reply.expect(201);
    let id = id_of(&made);
    assert_eq!(location, format!("/api/v1/webhooks/{id}"));
    let secret = made["secret"].as_str().expect("a secret").to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    assert_eq!(made["url"], "https://shop.example/hooks");
    assert_eq!(
        (&made["eventTypes"], &made["perCode"], &made["enabled"]),
        (&json!(["coupon.redeemed"]), &json!(false), &json!(true))
    );
    let again = admin.post_with_key("webhooks", "a key", &body).await.expect(201);
    assert_eq!(again, made, "a repeated request created another webhook");
    let path = format!("webhooks/{id}");
    let shown = admin.get(&path).await.expect(200);
    assert_eq!(shown.get("secret"), None);
    let change = json!({"description": null, "eventTypes": ["*"], "perCode": true, "enabled": false});
    let changed = admin.patch(&path, change).await.expect(200);
    assert_eq!((changed.get("description"), &changed["eventTypes"]), (None, &json!(["*"])));
    assert_eq!(
        (&changed["perCode"], &changed["enabled"], &changed["url"]),
        (&json!(true), &json!(false), &shown["url"])
    );
    let rotated = admin.post(&format!("{path}/rotate-secret"), json!({})).await.expect(200);
    assert_ne!(rotated["secret"], made["secret"]);
    for operation in ["test", "replay"] {
        let body = if operation == "replay" { json!({"since": "2026-01-01T00:00:00Z"}) } else { json!({}) };
        assert_eq!(admin.post(&format!("{path}/{operation}"), body).await.rejected(409), "webhook_disabled");
    }
    let other = id_of(&admin.post("webhooks", json!({"url": "https://other.example"})).await.expect(201));
    let listed = admin.get("webhooks?limit=1").await.expect(200);
    assert_eq!(listed["data"][0]["id"], *other);
    let cursor = listed["nextCursor"].as_str().expect("another page").to_owned();
    let next = admin.get(&format!("webhooks?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!((&next["data"][0]["id"], &next["nextCursor"]), (&json!(id), &Value::Null));
    assert_eq!(admin.get(&format!("{path}/deliveries")).await.expect(200)["data"], json!([]));
    assert_eq!(admin.delete(&path).await.status, 204);
    for reply in
        [admin.delete(&path).await, admin.get(&path).await, admin.get(&format!("{path}/deliveries")).await]
    {
        assert_eq!(reply.rejected(404), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forbidden_receivers_and_unknown_types_are_rejected_by_the_field() {
    let server = without_worker().await;
    let admin = server.admin();
    for url in [
        "https://127.0.0.1/",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/",
        "http://2130706433/",
        "http://127.1/",
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://user:secret@shop.example/",
        "https://localhost/",
        "http://shop.example/",
        "ftp://shop.example/",
        "shop.example",
        "https://[fd00::1]/",
        "https://100.64.0.1/",
    ] {
        let problem = admin.post("webhooks", json!({"url": url})).await.expect(422);
        assert_eq!(
            (&problem["code"], &problem["errors"][0]["field"]),
            (&json!("invalid"), &json!("url")),
            "{url}: {problem}"
        );
    }
    let body = json!({"url": "nowhere", "eventTypes": ["coupon.redeemed", "book.opened"], "perCode": 1, "events": []});
    let problem = admin.post("webhooks", body).await.expect(422);
    let fields: Vec<&str> = problem["errors"]
        .as_array()
        .expect("errors")
        .iter()
        .map(|error| error["field"].as_str().expect("a name"))
        .collect();
    assert_eq!(fields, ["url", "eventTypes", "perCode", "events"], "{problem}");
    let message = problem["errors"][1]["message"].as_str().expect("a message");
    assert!(
        message.contains("`book.opened`")
            && message.contains("coupon.lock_expired")
            && message.contains("webhook.disabled"),
        "{message}"
    );
    for types in [json!([]), json!(["*", "coupon.locked"]), json!(["webhook.test"])] {
        let body = json!({"url": "https://shop.example/", "eventTypes": types});
        assert_eq!(admin.post("webhooks", body).await.rejected(422), "invalid");
    }
    let id = id_of(&admin.post("webhooks", json!({"url": "https://shop.example/"})).await.expect(201));
    for change in
        [json!({"url": "https://10.0.0.1/"}), json!({"url": null}), json!({"eventTypes": ["job.done"]})]
    {
        assert_eq!(admin.patch(&format!("webhooks/{id}"), change).await.rejected(422), "invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_the_operator_allows_is_also_for_http() {
    let server = Server::start_with(Limits {
        worker: false,
        webhook_networks: vec!["10.1.0.0/16"],
        ..Limits::default()
    })
    .await;
    let admin = server.admin();
    for (url, status) in [
        ("http://10.1.2.3/", 201),
        ("https://10.1.2.3/", 201),
        ("https://10.2.0.1/", 422),
        ("http://8.8.8.8/", 422),
        ("http://receiver.internal/", 201),
    ] {
        assert_eq!(admin.post("webhooks", json!({"url": url})).await.status, status, "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_its_receiver_as_the_api_shows_it() {
    let server = server().await;
    let admin = server.admin();
    let receiver = Receiver::healthy().await;
    let book = server.book(json!({"maxRedeemsPerUser": 2})).await;
    server.plant(&book, &["HOOK-1"]).await;
    let types = ["coupon.redeemed", "coupon.rolled_back"];
    let made = admin.post("webhooks", json!({"url": receiver.url(), "eventTypes": types})).await.expect(201);
    let id = id_of(&made);
    server.give("HOOK-1", "ana").await;
    let redeemed = admin.post("coupons/HOOK-1/redeem", json!({"userId": "ana"})).await.expect(200);
    let redemption = redeemed["redemptionId"].as_str().expect("an id");
    admin
        .post(&format!("redemptions/{redemption}/rollback"), json!({"reason": "a mistake"}))
        .await
        .expect(200);
    let delivery = ended(&admin, &id, "coupon.rolled_back").await;
    assert_eq!((&delivery["status"], &delivery["attempts"][0]["status"]), (&json!("DELIVERED"), &json!(204)));
    let requests = receiver.received();
    assert_eq!(requests.len(), 2);
    let library =
        standardwebhooks::Webhook::new(made["secret"].as_str().expect("a secret")).expect("a valid secret");
    let events = admin.get("events").await.expect(200);
    for (request, event_type) in requests.iter().zip(types) {
        library.verify(request.body.as_bytes(), &request.headers).expect("a valid signature");
        let body = request.json();
        assert_eq!((&body["type"], &body["id"]), (&json!(event_type), &json!(request.header("webhook-id"))));
        let mut data = body["data"].clone();
        assert_eq!(
            data.as_object_mut().and_then(|data| data.remove("redemptionId")),
            Some(json!(redemption))
        );
        let shown = events["data"].as_array().expect("events").iter().find(|event| event["id"] == body["id"]);
        assert_eq!((Some(&data), &body["timestamp"]), (shown, &data["at"]));
    }
    assert_eq!(delivery["request"], requests[1].json());
    let shown = admin.get(&format!("webhooks/{id}")).await.expect(200);
    assert_eq!(
        (&shown["lastDelivery"]["id"], &shown["lastDelivery"]["status"]),
        (&delivery["id"], &json!("DELIVERED"))
    );
    // After a rotation, both secrets verify.
    let rotated = admin.post(&format!("webhooks/{id}/rotate-secret"), json!({})).await.expect(200);
    let test = admin.post(&format!("webhooks/{id}/test"), json!({})).await.expect(202);
    let tested = ended(&admin, &id, "webhook.test").await;
    assert_eq!((&tested["id"], &tested["status"]), (&test["id"], &json!("DELIVERED")));
    let request = &receiver.received()[2];
    assert_eq!(request.header("webhook-signature").matches("v1,").count(), 2);
    for secret in [&made["secret"], &rotated["secret"]] {
        let library =
            standardwebhooks::Webhook::new(secret.as_str().expect("a secret")).expect("a valid secret");
        library.verify(request.body.as_bytes(), &request.headers).expect("a valid signature");
    }
    assert_eq!(request.json()["data"]["id"], *id);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_books_and_jobs_have_them_as_the_api_shows_them() {
    let server = server().await;
    let admin = server.admin();
    let receiver = Receiver::healthy().await;
    let id = id_of(&admin.post("webhooks", json!({"url": receiver.url()})).await.expect(201));
    let rules = json!({"name": "Summer", "description": "10 %", "discount": {"type": "PERCENT", "value": 10.5}, "metadata": {"a": [1]},
                       "maxCodesPerUser": 2, "expiresAt": "2199-01-01T00:00:00Z"});
    let book = id_of(&admin.post("coupon-books", rules).await.expect(201));
    let path = format!("coupon-books/{book}");
    let activated = admin.patch(&path, json!({"status": "ACTIVE"})).await.expect(200);
    let delivery = ended(&admin, &id, "book.activated").await;
    assert_eq!(delivery["request"]["data"], activated);
    let job = json!({"couponBookId": book, "quantity": 20, "pattern": "A-{XXXXXXXX}"});
    let job = id_of(&admin.post("coupon-codes/generate", job).await.expect(202));
    let delivery = ended(&admin, &id, "job.succeeded").await;
    assert_eq!(delivery["request"]["data"], admin.get(&format!("jobs/{job}")).await.expect(200));
    admin.patch(&path, json!({"status": "PAUSED"})).await.expect(200);
    ended(&admin, &id, "book.paused").await;
    admin.patch(&path, json!({"status": "CLOSED"})).await.expect(200);
    ended(&admin, &id, "book.closed").await;
    let requests = receiver.received();
    let of_book: Vec<Value> =
        requests.iter().map(Received::json).filter(|body| body["data"]["id"] == *book).collect();
    let found: Vec<_> = of_book.iter().map(|body| (&body["type"], &body["data"]["status"])).collect();
    assert_eq!(
        json!(found),
        json!([["book.activated", "ACTIVE"], ["book.paused", "PAUSED"], ["book.closed", "CLOSED"]])
    );
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_delivery_is_replayed_and_a_disabled_webhook_is_shown_as_its_event_shows_it() {
    let server = server().await;
    let admin = server.admin();
    let gone = Receiver::answering(|number, _| {
        Answer::With(
            if number == 0 { 410 } else { 200 },
            ("content-type", "text/plain".to_owned()),
            format!("answer {number}"),
        )
    })
    .await;
    let other = Receiver::healthy().await;
    let id = id_of(
        &admin
            .post("webhooks", json!({"url": gone.url(), "eventTypes": ["coupon.assigned"]}))
            .await
            .expect(201),
    );
    let listener = id_of(
        &admin
            .post("webhooks", json!({"url": other.url(), "eventTypes": ["webhook.disabled"]}))
            .await
            .expect(201),
    );
    let book = server.book(json!({})).await;
    server.plant(&book, &["HOOK-2"]).await;
    server.give("HOOK-2", "ana").await;
    ended(&admin, &listener, "webhook.disabled").await;
    let shown = admin.get(&format!("webhooks/{id}")).await.expect(200);
    assert_eq!((&shown["enabled"], &shown["disabledReason"]), (&json!(false), &json!("GONE")));
    assert_eq!(other.received()[0].json()["data"], shown);
    admin.patch(&format!("webhooks/{id}"), json!({"enabled": true})).await.expect(200);
    let body = json!({"since": "2026-01-01T00:00:00Z"});
    let replayed = admin.post_with_key(&format!("webhooks/{id}/replay"), "a key", &body).await.expect(202);
    assert_eq!(replayed, json!({"count": 1}));
    let delivered = eventually("the delivery to be replayed", async || {
        let delivery = ended(&admin, &id, "coupon.assigned").await;
        (delivery["status"] == "DELIVERED").then_some(delivery)
    })
    .await;
    let again = admin.post_with_key(&format!("webhooks/{id}/replay"), "a key", &body).await.expect(202);
    assert_eq!(again, json!({"count": 1}), "the repeated request has another response");
    let answers: Vec<&Value> = delivered["attempts"]
        .as_array()
        .expect("attempts")
        .iter()
        .map(|attempt| &attempt["answer"])
        .collect();
    assert_eq!(answers, [&json!("answer 0"), &json!("answer 1")]);
    let path = format!("webhooks/{id}/deliveries/{}/replay", delivered["id"].as_str().expect("an id"));
    let pending = admin.post(&path, json!({})).await.expect(202);
    assert_eq!((&pending["id"], &pending["status"]), (&delivered["id"], &json!("PENDING")));
    eventually("the delivery to be attempted again", async || {
        let delivery = ended(&admin, &id, "coupon.assigned").await;
        (delivery["attempts"].as_array().map(Vec::len) == Some(3)).then_some(())
    })
    .await;
    let unknown =
        format!("webhooks/{listener}/deliveries/{}/replay", delivered["id"].as_str().expect("an id"));
    assert_eq!(admin.post(&unknown, json!({})).await.rejected(404), "not_found");
    let [first, second, _] = &gone.received()[..] else { panic!("not three requests") };
    assert_eq!((first.header("webhook-id"), &first.body), (second.header("webhook-id"), &second.body));
    server.assert_invariants().await;
}
