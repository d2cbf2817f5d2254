//! Generation of codes: exactly the requested number, each once, until the pattern is exhausted.

use std::collections::HashSet;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Value, json};

use crate::support::{Client, Limits, Server, id_of, wait_for_job};
use cuponera_testkit::eventually;

/// Maximum time until an idle worker starts a job.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Generates codes; returns the finished job.
async fn generate(client: &Client, book: &str, pattern: &str, quantity: u64) -> Value {
    let job = submit(client, book, pattern, quantity).await;
    wait_for_job(client, &job).await
}

async fn submit(client: &Client, book: &str, pattern: &str, quantity: u64) -> String {
    let order = json!({"couponBookId": book, "pattern": pattern, "quantity": quantity});
    let reply = client.post("coupon-codes/generate", order).await;
    let location = reply.header("location").to_owned();
    let id = id_of(&reply.expect(202));
    assert_eq!(location, format!("/api/v1/jobs/{id}"));
    id
}

fn distinct(codes: &[Value]) -> HashSet<String> {
    codes.iter().map(|code| code["code"].as_str().unwrap_or_default().to_owned()).collect()
}

fn path_of_capacity(book: &str, pattern: &str) -> String {
    let pattern = pattern.replace('{', "%7B").replace('}', "%7D");
    format!("coupon-codes/capacity?couponBookId={book}&pattern={pattern}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_is_used_to_its_last_code_and_not_one_further() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let job = generate(&admin, &book, "s-{9999}", 10_000).await;
    assert_eq!(job["status"], "SUCCEEDED", "{job}");
    assert_eq!(job["result"]["generatedCount"], 10_000, "{job}");
    assert_eq!(job["result"]["couponBookId"], book, "{job}");
    let codes = distinct(&server.codes(&book).await);
    assert_eq!(codes, (0..10_000).map(|number| format!("S-{number:04}")).collect());
    assert!(codes.contains(job["result"]["firstCode"].as_str().expect("a first code")));
    assert!(codes.contains(job["result"]["lastCode"].as_str().expect("a last code")));
    assert_one_more_is_refused(&server, &book).await;
    server.assert_invariants().await;
}

async fn assert_one_more_is_refused(server: &Server, book: &str) {
    let admin = server.admin();
    let order = json!({"couponBookId": book, "pattern": "S-{9999}", "quantity": 1});
    let rejected = admin.post("coupon-codes/generate", order).await.expect(422);
    assert_eq!(
        (&rejected["code"], &rejected["remaining"]),
        (&json!("pattern_exhausted"), &json!(0)),
        "{rejected}"
    );
    let jobs = admin.get("jobs?kind=GENERATE_CODES").await.expect(200);
    assert_eq!(jobs["data"].as_array().map(Vec::len), Some(1), "a rejected generation left a job: {jobs}");
    let capacity = admin.get(&path_of_capacity(book, "S-{9999}")).await.expect(200);
    assert_eq!((&capacity["used"], &capacity["remaining"]), (&json!(10_000), &json!(0)), "{capacity}");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_do_not_come_in_the_order_of_their_numbers() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    generate(&server.admin(), &book, "{9999}", 100).await;
    let codes = server.codes(&book).await;
    let numbers: Vec<i32> = codes.iter().filter_map(|code| code["code"].as_str()?.parse().ok()).collect();
    assert_eq!(numbers.len(), 100);
    assert!(numbers.iter().any(|number| *number >= 100), "the first hundred numbers can be guessed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_jobs_that_use_up_one_pattern_side_by_side_never_collide() {
    let server = Server::start().await;
    let (one, two, admin) = (server.book(json!({})).await, server.book(json!({})).await, server.admin());
    let jobs = tokio::join!(submit(&admin, &one, "{99999}", 50_000), submit(&admin, &two, "{99999}", 50_000));
    for job in [jobs.0, jobs.1] {
        let job = wait_for_job(&admin, &job).await;
        assert_eq!(job["status"], "SUCCEEDED", "{job}");
        assert_eq!(job["result"]["generatedCount"], 50_000, "{job}");
    }
    for book in [&one, &two] {
        let book = admin.get(&format!("coupon-books/{book}")).await.expect(200);
        assert_eq!(book["generatedCount"], 50_000, "{book}");
    }
    let count: i64 = sqlx::query_scalar("select count(distinct code) from coupon where code ~ '^[0-9]{5}$'")
        .fetch_one(server.database.pool())
        .await
        .expect("counting failed");
    assert_eq!(count, 100_000);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_codes_in_the_way_are_topped_up_to_exactly_the_number_asked_for() {
    let server = Server::start().await;
    let (foreign, book, admin) = (server.book(json!({})).await, server.book(json!({})).await, server.admin());
    let planted: Vec<String> = (0..500).map(|number| format!("F-{number:03}")).collect();
    server.plant(&foreign, &planted.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let job = generate(&admin, &book, "F-{999}", 400).await;
    assert_eq!(job["status"], "SUCCEEDED", "{job}");
    assert_eq!(job["result"]["generatedCount"], 400, "{job}");
    let made = distinct(&server.codes(&book).await);
    assert_eq!(made.len(), 400);
    assert!(planted.iter().all(|code| !made.contains(code)));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_finds_its_pattern_used_up_by_foreign_codes_fails_with_the_reason_and_can_be_retried() {
    let server = Server::start().await;
    let (foreign, book, admin) = (server.book(json!({})).await, server.book(json!({})).await, server.admin());
    server.plant(&foreign, &["G-0", "G-1", "G-2"]).await;
    let job = generate(&admin, &book, "G-{9}", 8).await;
    assert_eq!(job["status"], "FAILED", "{job}");
    assert_eq!(job["error"]["code"], "pattern_exhausted", "{job}");
    assert_eq!(job["progress"]["succeeded"], 0, "{job}");
    assert!(server.codes(&book).await.is_empty(), "the failed job left codes of an unfinished chunk");
    let again = admin.post(&format!("jobs/{}/retry", id_of(&job)), json!({})).await.expect(202);
    let again = wait_for_job(&admin, &id_of(&again)).await;
    assert_eq!((&again["status"], &again["attempts"]), (&json!("FAILED"), &json!(2)), "{again}");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn capacity_tells_what_is_left_without_using_any() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let path = path_of_capacity(&book, "cap-{9999}");
    for _ in 0..2 {
        let fresh = admin.get(&path).await.expect(200);
        assert_eq!(fresh["pattern"], "CAP-{9999}");
        assert_eq!(
            (&fresh["capacity"], &fresh["used"], &fresh["remaining"]),
            (&json!(10_000), &json!(0), &json!(10_000))
        );
        let samples = fresh["samples"].as_array().expect("samples");
        assert_eq!(samples.len(), 5);
        assert!(
            samples
                .iter()
                .all(|code| code.as_str().is_some_and(|code| code.starts_with("CAP-") && code.len() == 8))
        );
    }
    generate(&admin, &book, "CAP-{9999}", 100).await;
    let used = admin.get(&path).await.expect(200);
    assert_eq!((&used["used"], &used["remaining"]), (&json!(100), &json!(9_900)), "{used}");
    assert!(used["chanceOfHit"].as_f64().is_some_and(|chance| (chance - 0.01).abs() < 1e-9), "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_request_is_the_same_generation_and_another_request_is_refused() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let order = json!({"couponBookId": book, "quantity": 50});
    let first = admin.post_with_key("coupon-codes/generate", "k", &order).await;
    assert_eq!(first.header("Idempotent-Replayed"), "");
    let second = admin.post_with_key("coupon-codes/generate", "k", &order).await;
    assert_eq!(second.header("Idempotent-Replayed"), "true");
    assert_eq!(first.text, second.text);
    let other = json!({"couponBookId": book, "quantity": 51});
    assert_eq!(admin.post_with_key("coupon-codes/generate", "k", &other).await.rejected(422), "key_reused");
    wait_for_job(&admin, &id_of(&first.expect(202))).await;
    assert_eq!(server.codes(&book).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_keeps_what_is_committed_and_nothing_is_added_afterwards() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let job = submit(&admin, &book, "{XXXXXXXX}", 5_000_000).await;
    eventually("the first chunk", async || {
        let progress = admin.get(&format!("jobs/{job}")).await.expect(200)["progress"].clone();
        (progress["succeeded"].as_i64() > Some(0)).then_some(())
    })
    .await;
    let cancelled = admin.post(&format!("jobs/{job}/cancel"), json!({})).await.expect(200);
    assert_eq!(cancelled["status"], "CANCELLED");
    let kept = cancelled["progress"]["succeeded"].clone();
    assert_eq!(admin.post(&format!("jobs/{job}/cancel"), json!({})).await.rejected(409), "wrong_job_state");
    assert_eq!(admin.post(&format!("jobs/{job}/retry"), json!({})).await.rejected(409), "wrong_job_state");
    // Another job uses both slots of the worker, so chunks that ran during the cancellation have ended by then.
    generate(&admin, &book, "AFTER-{9999}", 1).await;
    generate(&admin, &book, "AFTER-{9999}", 1).await;
    let after = admin.get(&format!("jobs/{job}")).await.expect(200);
    assert_eq!((&after["status"], &after["progress"]["succeeded"]), (&json!("CANCELLED"), &kept));
    let book = admin.get(&format!("coupon-books/{book}")).await.expect(200);
    assert_eq!(book["generatedCount"].as_i64(), kept.as_i64().map(|kept| kept + 2));
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_only_rises_and_adds_up() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let job = submit(&admin, &book, "{XXXXXXXX}", 250_000).await;
    let mut before = 0;
    let last = eventually("the job to end", async || {
        let job = admin.get(&format!("jobs/{job}")).await.expect(200);
        let progress = &job["progress"];
        let count = |name: &str| progress[name].as_i64().expect("a count");
        assert_eq!(progress["total"], 250_000, "{job}");
        assert_eq!(count("processed"), count("succeeded") + count("failed"), "{job}");
        assert!((before..=250_000).contains(&count("processed")), "{job} after {before}");
        before = count("processed");
        (job["status"] == "SUCCEEDED").then_some(job)
    })
    .await;
    let progress = &last["progress"];
    assert_eq!((&progress["processed"], &progress["percent"]), (&json!(250_000), &json!(100.0)), "{last}");
    assert!(progress["etaSeconds"].is_null() && progress["ratePerSecond"].as_f64() > Some(0.0), "{last}");
    assert!(
        last["createdAt"].as_str() <= last["startedAt"].as_str()
            && last["startedAt"].as_str() < last["finishedAt"].as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_worker_a_job_waits_and_can_be_cancelled() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let job = submit(&admin, &book, "{XXXXXXXX}", 10).await;
    let waiting = admin.get(&format!("jobs/{job}")).await.expect(200);
    assert_eq!(waiting["status"], "QUEUED");
    assert!(waiting.get("startedAt").is_none(), "{waiting}");
    assert_eq!(admin.post(&format!("jobs/{job}/cancel"), json!({})).await.expect(200)["status"], "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_starts_a_new_job_in_less_than_a_tenth_of_a_second() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    // Other load may delay a round. A worker that only polls is late in all rounds.
    let mut rounds = Vec::new();
    while rounds.len() < 5 && rounds.last().is_none_or(|wait| *wait >= AT_ONCE) {
        rounds.push(median_wait(&server.admin(), &book).await);
    }
    assert!(rounds.last().is_some_and(|wait| *wait < AT_ONCE), "the median waits were {rounds:?}");
}

/// The median of nine waits between creation and start of a job.
async fn median_wait(admin: &Client, book: &str) -> Duration {
    let mut waits = Vec::new();
    for _ in 0..9 {
        let job = generate(admin, book, "{XXXXXXXX}", 10).await;
        let at = |name: &str| {
            DateTime::parse_from_rfc3339(job[name].as_str().expect("a time")).expect("a time in RFC 3339")
        };
        waits.push((at("startedAt") - at("createdAt")).to_std().expect("a job starts after its creation"));
    }
    waits.sort_unstable();
    waits[4]
}
