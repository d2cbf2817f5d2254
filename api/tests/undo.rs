//! Undo over HTTP: revoke, rollback, void, bulk void, lifetimes and clones.

use serde_json::{Value, json};

use crate::support::{Client, Limits, Server, id_of, wait_for_job};

/// A server without a worker, and an active book with these codes, all held by `ann`.
async fn with_codes(fields: Value, codes: &[&str]) -> (Server, String) {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(fields).await;
    server.plant(&book, codes).await;
    for code in codes {
        server.give(code, "ann").await;
    }
    (server, book)
}

async fn redeem(client: &Client, code: &str, reference: &str) -> String {
    let body = json!({"userId": "ann", "reference": reference, "metadata": {"till": 3}});
    let redeemed = client.post(&format!("coupons/{code}/redeem"), body).await.expect(200);
    redeemed["redemptionId"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_code_is_free_and_its_history_has_the_reason() {
    let (server, book) = with_codes(json!({"maxCodesPerUser": 1}), &["CODE-1"]).await;
    let service = server.service();
    let revoke = async |body| service.post("assignments/code-1/revoke", body).await;
    assert_eq!(revoke(json!({})).await.rejected(422), "invalid");
    assert_eq!(revoke(json!({"reason": " \n "})).await.rejected(422), "invalid");
    assert_eq!(revoke(json!({"reason": "x".repeat(501)})).await.rejected(422), "invalid");
    assert_eq!(revoke(json!({"reason": "r", "userId": "bob"})).await.rejected(409), "not_holder");
    let revoked = revoke(json!({"reason": " by mistake ", "userId": "ann"})).await.expect(200);
    assert_eq!(revoked, json!({"code": "CODE-1", "status": "AVAILABLE", "couponBookId": book}));
    assert_eq!(revoke(json!({"reason": "again"})).await.rejected(409), "not_assigned");
    let event = service.get("coupons/CODE-1/history").await.expect(200)["data"][0].clone();
    assert_eq!((&event["action"], &event["reason"]), (&json!("REVOKE"), &json!("by mistake")));
    server.give("CODE-1", "ann").await;
    service.post("coupons/CODE-1/lock", json!({"userId": "ann"})).await.expect(200);
    let locked = revoke(json!({"reason": "r"})).await;
    assert!(locked.json()["lockedUntil"].is_string());
    assert_eq!(locked.rejected(409), "coupon_locked");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redemption_is_listed_and_rolled_back_once_even_by_two_hundred_calls() {
    let (server, book) = with_codes(json!({}), &["CODE-1"]).await;
    let service = server.service();
    let id = redeem(&service, "CODE-1", "sale 1").await;
    let path = format!("redemptions/{id}/rollback");
    let calls = (0..200).map(|_| service.post(&path, json!({"reason": "goods returned"})));
    let replies = futures::future::join_all(calls).await;
    let done: Vec<_> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(done.len(), 1);
    let late = replies.iter().filter(|reply| reply.status == 409).count();
    assert_eq!(late, 199, "{:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
    let body = done[0].json();
    assert_eq!((&body["status"], &body["redeemCount"]), (&json!("ASSIGNED"), &json!(0)));
    let listed = service.get("redemptions?reference=sale%201").await.expect(200)["data"][0].clone();
    assert_eq!(listed["rolledBackAt"], body["rolledBackAt"]);
    let shown = ["id", "code", "couponBookId", "userId", "useNumber"].map(|field| listed[field].clone());
    assert_eq!(shown, [json!(id), json!("CODE-1"), json!(book), json!("ann"), json!(1)]);
    assert_eq!(redeem(&service, "CODE-1", "sale 2").await.len(), id.len());
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_sees_its_own_redemptions_without_the_metadata_of_the_shop() {
    let (server, book) = with_codes(json!({"maxRedeemsPerUser": 3}), &["CODE-1"]).await;
    let (service, ann, bob) = (server.service(), server.user("ann"), server.user("bob"));
    let mut ids = Vec::new();
    for sale in ["one", "two", "three"] {
        ids.insert(0, redeem(&service, "CODE-1", sale).await);
    }
    let one = format!("redemptions/{}", ids[0]);
    assert_eq!(service.get(&one).await.expect(200)["metadata"], json!({"till": 3}));
    assert!(ann.get(&one).await.expect(200)["metadata"].is_null());
    assert_eq!(bob.get(&one).await.rejected(404), "not_found");
    assert_eq!(bob.get("redemptions").await.expect(200)["data"], json!([]));
    assert_eq!(bob.get("redemptions?userId=ann").await.rejected(403), "forbidden");
    let body = json!({"reason": "mine"});
    assert_eq!(ann.post(&format!("{one}/rollback"), body).await.rejected(403), "forbidden");
    let mut listed = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = ann.get(&format!("redemptions?limit=2&couponBookId={book}{cursor}")).await.expect(200);
        listed.extend(page["data"].as_array().expect("a list").iter().map(id_of));
        let Some(next) = page["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(listed, ids);
    assert_eq!(service.get("redemptions?cursor=odd").await.rejected(422), "invalid");
    let first = service.get("redemptions?userId=ann&to=2020-01-01T00:00:00Z").await.expect(200);
    assert_eq!(first["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_void_code_stays_void_and_a_redeemed_one_is_not_voided() {
    let (server, _) = with_codes(json!({}), &["LOCKED", "USED"]).await;
    let service = server.service();
    service.post("coupons/LOCKED/lock", json!({"userId": "ann"})).await.expect(200);
    redeem(&service, "USED", "sale").await;
    let void =
        async |code: &str| service.post(&format!("coupons/{code}/void"), json!({"reason": "leaked"})).await;
    for _ in 0..2 {
        assert_eq!(void("LOCKED").await.expect(200), json!({"code": "LOCKED", "status": "VOID"}));
    }
    assert_eq!(void("USED").await.rejected(409), "coupon_already_redeemed");
    assert_eq!(void("NONE").await.rejected(404), "not_found");
    let used = service.post("coupons/LOCKED/redeem", json!({"userId": "ann"})).await;
    assert_eq!(used.rejected(409), "coupon_void");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_codes_are_counted_first_and_then_voided_by_a_job() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["LIST-1", "LIST-2", "KEEP-1"]).await;
    server.give("KEEP-1", "ann").await;
    let service = server.service();
    redeem(&service, "KEEP-1", "sale").await;
    let order = json!({"couponBookId": book, "quantity": 30, "pattern": "G-{XXXXXXXX}"});
    let generation = id_of(&service.post("coupon-codes/generate", order).await.expect(202));
    wait_for_job(&service, &generation).await;
    let void = async |body| service.post("coupons/void", body).await;
    for body in [
        json!({"reason": "r"}),
        json!({"reason": "r", "codes": []}),
        json!({"reason": "r", "codes": ["A-1"], "jobId": generation}),
        json!({"reason": "r", "filter": {"couponBookId": book, "status": "REDEEMED"}}),
        json!({"jobId": generation}),
    ] {
        assert_eq!(void(body.clone()).await.rejected(422), "invalid", "{body}");
    }
    let of_job = |dry_run: bool| json!({"reason": "wrong", "jobId": generation, "dryRun": dry_run});
    let preview = void(of_job(true)).await.expect(200);
    assert_eq!((&preview["voidCount"], &preview["counts"]["available"]), (&json!(30), &json!(30)));
    let job = void(of_job(false)).await;
    assert!(job.header("Location").starts_with("/api/v1/jobs/"));
    let job = wait_for_job(&service, &id_of(&job.expect(202))).await;
    assert_eq!((&job["kind"], &job["result"]["voidedCount"]), (&json!("VOID_CODES"), &json!(30)));
    let listed = json!({"reason": "leaked", "codes": ["list-1", "LIST-1", "NONE", "KEEP-1"]});
    let job = id_of(&void(listed).await.expect(202));
    let done = wait_for_job(&service, &job).await;
    let progress = ["succeeded", "failed"].map(|field| done["progress"][field].clone());
    assert_eq!(progress, [json!(1), json!(2)], "a repeated code counts once");
    let errors = service.get(&format!("jobs/{job}/errors")).await;
    assert!(
        errors.text.contains("NONE") && errors.text.contains("coupon_already_redeemed"),
        "{}",
        errors.text
    );
    let whole = async |body| service.post(&format!("coupon-books/{book}/void"), body).await;
    assert_eq!(whole(json!({"reason": "over", "dryRun": true})).await.expect(200)["voidCount"], 1);
    wait_for_job(&service, &id_of(&whole(json!({"reason": "over"})).await.expect(202))).await;
    let counts = service.get(&format!("coupon-books/{book}")).await.expect(200)["counts"].clone();
    assert_eq!(counts, json!({"available": 0, "assigned": 0, "locked": 0, "redeemed": 1, "void": 32}));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_limited_to_a_book_undoes_nothing_of_another_book() {
    let (server, book) = with_codes(json!({}), &["CODE-1"]).await;
    let other = server.book(json!({})).await;
    let id = redeem(&server.service(), "CODE-1", "sale").await;
    let made = json!({"name": "limited", "role": "SERVICE", "couponBookIds": [other]});
    let made = server.admin().post("api-keys", made).await.expect(201);
    let limited = server.anonymous().with_key(made["key"].as_str().expect("a key"));
    let reason = json!({"reason": "r"});
    for path in [
        "assignments/CODE-1/revoke".to_owned(),
        "coupons/CODE-1/void".to_owned(),
        format!("redemptions/{id}/rollback"),
        format!("coupon-books/{book}/void"),
    ] {
        assert_eq!(limited.post(&path, reason.clone()).await.rejected(403), "forbidden", "{path}");
    }
    assert_eq!(limited.get(&format!("redemptions/{id}")).await.rejected(403), "forbidden");
    assert_eq!(limited.get("redemptions").await.rejected(403), "forbidden");
    let by_list = json!({"reason": "r", "codes": ["CODE-1"]});
    assert_eq!(limited.post("coupons/void", by_list).await.rejected(403), "forbidden");
    let by_filter = json!({"reason": "r", "filter": {"couponBookId": book}});
    assert_eq!(limited.post("coupons/void", by_filter).await.rejected(403), "forbidden");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_expires_some_days_after_its_assignment_and_its_clone_has_the_same_rule() {
    let (server, book) = with_codes(json!({"codeValidDays": 2}), &["CODE-1"]).await;
    let service = server.service();
    let coupon = service.get("coupons/CODE-1").await.expect(200);
    let time = |field: &str| {
        chrono::DateTime::parse_from_rfc3339(coupon[field].as_str().expect("a time")).expect("a time")
    };
    assert_eq!((time("expiresAt") - time("assignedAt")).num_hours(), 48);
    sqlx::query("update coupon set expires_at = now()")
        .execute(server.database.pool())
        .await
        .expect("an update");
    for verb in ["lock", "redeem", "validate"] {
        let used = service.post(&format!("coupons/CODE-1/{verb}"), json!({"userId": "ann"})).await;
        assert_eq!(used.rejected(410), "coupon_expired", "{verb}");
    }
    let clone = service.post(&format!("coupon-books/{book}/clone"), json!({})).await;
    let clone = clone.expect(201);
    assert_eq!((&clone["codeValidDays"], &clone["status"]), (&json!(2), &json!("DRAFT")));
    let invalid = json!({"name": "A book", "codeValidDays": 0});
    assert_eq!(service.post("coupon-books", invalid).await.rejected(422), "invalid");
    let cleared = service.patch(&format!("coupon-books/{book}"), json!({"codeValidDays": null})).await;
    assert!(cleared.expect(200)["codeValidDays"].is_null());
    server.assert_invariants().await;
}
