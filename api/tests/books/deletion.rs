//! Deletion of books: a small one immediately, a large one by a job that can be watched, cancelled and continued by
//! another.

use std::time::{Duration, Instant};

use cuponera_testkit::{bound, eventually};
use serde_json::{Value, json};

use crate::support::{Client, Server, id_of, wait_for_job};

/// An active book with `quantity` codes.
async fn book_of(server: &Server, quantity: u64) -> String {
    let book = server.book(json!({})).await;
    add_codes(server, &book, quantity).await;
    book
}

async fn add_codes(server: &Server, book: &str, quantity: u64) {
    let order = json!({"couponBookId": book, "quantity": quantity});
    let job = server.admin().post("coupon-codes/generate", order).await.expect(202);
    assert_eq!(wait_for_job(&server.admin(), &id_of(&job)).await["status"], "SUCCEEDED");
}

/// Starts the deletion of a large book; returns its job.
async fn delete(client: &Client, book: &str) -> Value {
    let reply = client.delete(&format!("coupon-books/{book}")).await;
    let location = reply.header("location").to_owned();
    let job = reply.expect(202);
    assert_eq!(location, format!("/api/v1/jobs/{}", id_of(&job)));
    job
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_book_is_deleted_by_one_job_however_often_it_is_asked_for() {
    let server = Server::start().await;
    let (book, other) = (book_of(&server, 30_000).await, book_of(&server, 5).await);
    let service = server.service();
    let job = delete(&service, &book).await;
    assert_eq!((&job["kind"], &job["status"]), (&json!("DELETE_BOOK"), &json!("QUEUED")), "{job}");
    assert_eq!((&job["progress"]["total"], &job["result"]["couponBookId"]), (&json!(30_000), &json!(book)));
    assert_eq!(service.get(&format!("coupon-books/{book}")).await.expect(200)["status"], "CLOSED");
    assert_eq!(id_of(&delete(&service, &book).await), id_of(&job));
    let order = json!({"couponBookId": book, "quantity": 1});
    assert_eq!(service.post("coupon-codes/generate", order).await.rejected(409), "book_closed");

    let done = wait_for_job(&service, &id_of(&job)).await;
    assert_eq!(
        (&done["status"], &done["progress"]["percent"]),
        (&json!("SUCCEEDED"), &json!(100.0)),
        "{done}"
    );
    assert_eq!(done["result"], json!({"deletedCount": 30_000, "couponBookId": book}));
    let listed = service.get("jobs?kind=DELETE_BOOK").await.expect(200);
    assert_eq!(listed["data"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(service.get(&format!("coupon-books/{book}")).await.rejected(404), "not_found");
    assert_eq!(service.delete(&format!("coupon-books/{book}")).await.rejected(404), "not_found");
    assert_eq!(server.codes(&other).await.len(), 5);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_book_in_use_is_refused_and_stays_as_it_is() {
    let server = Server::start().await;
    let book = book_of(&server, 10_001).await;
    server
        .admin()
        .post("assignments/random", json!({"couponBookId": book, "userId": "ana"}))
        .await
        .expect(201);
    let path = format!("coupon-books/{book}");
    let before = server.admin().get(&path).await.expect(200);
    assert_eq!(server.admin().delete(&path).await.rejected(409), "book_in_use");
    assert_eq!(server.admin().get(&path).await.expect(200), before);
    assert_eq!(server.admin().get("jobs?kind=DELETE_BOOK").await.expect(200)["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_was_cancelled_is_taken_up_by_another_call() {
    let server = Server::start().await;
    let (book, admin) = (book_of(&server, 200_000).await, server.admin());
    let first = id_of(&delete(&admin, &book).await);
    eventually("the first slice", async || {
        let job = admin.get(&format!("jobs/{first}")).await.expect(200);
        (job["progress"]["succeeded"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let cancelled = admin.post(&format!("jobs/{first}/cancel"), json!({})).await.expect(200);
    assert_eq!(cancelled["status"], "CANCELLED");
    let deleted = cancelled["progress"]["succeeded"].as_i64().expect("a count");
    let left = admin.get(&format!("coupon-books/{book}")).await.expect(200);
    assert_eq!(
        (&left["status"], left["generatedCount"].as_i64()),
        (&json!("CLOSED"), Some(200_000 - deleted))
    );
    server.assert_invariants().await;
    let second = delete(&admin, &book).await;
    assert_ne!(id_of(&second), first);
    let done = wait_for_job(&admin, &id_of(&second)).await;
    assert_eq!(
        (&done["status"], done["result"]["deletedCount"].as_i64()),
        (&json!("SUCCEEDED"), Some(200_000 - deleted))
    );
    assert_eq!(admin.get(&format!("coupon-books/{book}")).await.rejected(404), "not_found");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_a_deletion() {
    let server = Server::start().await;
    let (large, book) = (book_of(&server, 200_000).await, book_of(&server, 5_000).await);
    let admin = server.admin();
    let begun = Instant::now();
    let job = id_of(&delete(&admin, &large).await);
    let (mut slowest, mut round) = (begun.elapsed(), 0);
    loop {
        let user = format!("user-{round}");
        slowest = slowest.max(use_a_code(&admin, &book, &user).await);
        let begun = Instant::now();
        let rejected = admin.post("assignments/random", json!({"couponBookId": large, "userId": user})).await;
        slowest = slowest.max(begun.elapsed());
        assert!([404, 409].contains(&rejected.status), "{}", rejected.text);
        round += 1;
        let job = admin.get(&format!("jobs/{job}")).await.expect(200);
        if job["status"] == "SUCCEEDED" {
            break;
        }
    }
    let within = bound(Duration::from_millis(250), Duration::from_secs(2));
    assert!(slowest < within, "{slowest:?}");
    server.assert_invariants().await;
}

/// Assigns and redeems a code; returns the longer of the two durations.
async fn use_a_code(admin: &Client, book: &str, user: &str) -> Duration {
    let begun = Instant::now();
    let given = json!({"couponBookId": book, "userId": user});
    let code = admin.post("assignments/random", given).await.expect(201)["code"].clone();
    let (assigned, begun) = (begun.elapsed(), Instant::now());
    let path = format!("coupons/{}/redeem", code.as_str().expect("a code"));
    admin.post(&path, json!({"userId": user})).await.expect(200);
    assigned.max(begun.elapsed())
}
