//! Codes that can be guessed: generated as requested, with a warning.

use serde_json::{Value, json};

use crate::support::{Limits, Reply, Server, id_of, wait_for_job};

/// A pattern with a million codes.
const MILLION: &str = "{999999}";

async fn generate(server: &Server, book: &str, pattern: &str, quantity: u64) -> Reply {
    let order = json!({"couponBookId": book, "pattern": pattern, "quantity": quantity});
    server.admin().post("coupon-codes/generate", order).await
}

fn codes(job: &Value) -> Vec<&str> {
    let warnings = job["warnings"].as_array().expect("warnings");
    warnings.iter().filter_map(|warning| warning["code"].as_str()).collect()
}

async fn chance_of_hit(server: &Server, book: &str) -> f64 {
    let path = format!("coupon-codes/capacity?couponBookId={book}&pattern=%7B999999%7D");
    server.admin().get(&path).await.expect(200)["chanceOfHit"].as_f64().expect("a chance")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_code_in_a_million_is_fine_and_the_next_is_warned_of_ever_after() {
    let server = Server::start().await;
    let (book, admin) = (server.book(json!({})).await, server.admin());
    let fine = generate(&server, &book, MILLION, 1).await.expect(202);
    assert!(fine.get("warnings").is_none(), "{fine}");
    assert!(chance_of_hit(&server, &book).await <= 1e-6);
    let warned = generate(&server, &book, MILLION, 1).await.expect(202);
    assert_eq!(codes(&warned), ["guessable_codes"], "{warned}");
    assert!(chance_of_hit(&server, &book).await > 1e-6);
    let detail = warned["warnings"][0]["detail"].as_str().expect("a sentence");
    assert!(detail.contains("one guess in 500000") && detail.contains("longer pattern"), "{detail}");
    let done = wait_for_job(&admin, &id_of(&warned)).await;
    assert_eq!((&done["status"], &done["warnings"]), (&json!("SUCCEEDED"), &warned["warnings"]), "{done}");
    let still_fine = wait_for_job(&admin, &id_of(&fine)).await;
    assert!(still_fine.get("warnings").is_none(), "later jobs do not add a warning: {still_fine}");
    let listed = admin.get("jobs?kind=GENERATE_CODES").await.expect(200);
    assert_eq!(listed["data"][0]["warnings"], warned["warnings"], "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_of_all_books_and_jobs_of_a_pattern_count_together_but_not_those_of_another_business() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let (one, two) = (server.book(json!({})).await, server.book(json!({})).await);
    let theirs = server.another_admin().await;
    let their_book = id_of(&theirs.post("coupon-books", json!({"name": "Theirs"})).await.expect(201));
    let order = json!({"couponBookId": their_book, "pattern": MILLION, "quantity": 1});
    theirs.post("coupon-codes/generate", order).await.expect(202);
    let first = generate(&server, &one, MILLION, 1).await.expect(202);
    assert!(first.get("warnings").is_none(), "{first}");
    let second = generate(&server, &two, MILLION, 1).await.expect(202);
    assert_eq!(codes(&second), ["guessable_codes"], "{second}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_answer_warns_as_the_first_did() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    let order = json!({"couponBookId": book, "pattern": "S-{9999}", "quantity": 500});
    let first = server.admin().post_with_key("coupon-codes/generate", "k", &order).await;
    let again = server.admin().post_with_key("coupon-codes/generate", "k", &order).await;
    assert_eq!(again.header("Idempotent-Replayed"), "true");
    assert_eq!(first.text, again.text);
    assert_eq!(codes(&again.expect(202)), ["guessable_codes"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_patterns_take_the_largest_jobs_without_a_warning() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    for pattern in ["{XXXXXXXXXXXXXXXXXXXXXXXXX}", "{XXXXXXXXXXXX}"] {
        let job = generate(&server, &book, pattern, 100_000_000).await.expect(202);
        assert!(job.get("warnings").is_none(), "{job}");
    }
    let literal = generate(&server, &book, "WELCOME", 1).await.expect(202);
    assert_eq!(codes(&literal), ["guessable_codes"], "{literal}");
}
