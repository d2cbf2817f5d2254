//! What must never happen, with everybody at it at once: the racers are spread over several API servers that share
//! nothing but the database, each on a connection of its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::support::{Client, Reply, Server, id_of, wait_for_job};

/// API servers that the racers are spread over.
const SERVERS: usize = 4;

/// A racer, its path and its body; and the idempotency key, if it has one.
struct Racer {
    client: Client,
    path: String,
    key: Option<&'static str>,
    body: Value,
}

/// Lets all of them send at the same moment, and returns what they were answered.
async fn race(server: &Server, racers: Vec<Racer>) -> Vec<Reply> {
    let mut addresses = Vec::new();
    for _ in 0..SERVERS {
        addresses.push(server.another_api().await);
    }
    let start = Arc::new(Barrier::new(racers.len()));
    let mut tasks = JoinSet::new();
    for (number, racer) in racers.into_iter().enumerate() {
        let (start, address) = (start.clone(), addresses[number % SERVERS].clone());
        tasks.spawn(async move {
            let client = racer.client.at(&address).apart().await;
            start.wait().await;
            match racer.key {
                Some(key) => client.post_with_key(&racer.path, key, &racer.body).await,
                None => client.post(&racer.path, racer.body).await,
            }
        });
    }
    tasks.join_all().await
}

fn racers(count: usize, client: impl Fn(usize) -> Client, path: &str, body: &Value) -> Vec<Racer> {
    let racer =
        |number| Racer { client: client(number), path: path.to_owned(), key: None, body: body.clone() };
    (0..count).map(racer).collect()
}

/// How often each outcome came.
fn tally(replies: &[Reply]) -> BTreeMap<String, usize> {
    replies.iter().fold(BTreeMap::new(), |mut tally, reply| {
        *tally.entry(reply.outcome()).or_default() += 1;
        tally
    })
}

#[track_caller]
fn assert_outcomes(replies: &[Reply], expected: &[(&str, usize)]) {
    let expected: BTreeMap<String, usize> =
        expected.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect();
    assert_eq!(tally(replies), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_users_and_a_hundred_codes_make_a_hundred_holders() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.generate(&book, 100).await;
    let user = |number| server.user(&format!("user-{number}"));
    let replies =
        race(&server, racers(1_000, user, "assignments/random", &json!({"couponBookId": book}))).await;
    assert_outcomes(&replies, &[("201", 100), ("409 sold_out", 900)]);
    let codes: HashSet<String> = replies
        .iter()
        .filter(|reply| reply.status == 201)
        .map(|reply| reply.json()["code"].to_string())
        .collect();
    assert_eq!(codes.len(), 100, "a code has two holders");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_calls_on_a_code_of_three_uses_redeem_it_three_times() {
    let server = Server::start().await;
    let book = server.book(json!({"maxRedeemsPerUser": 3})).await;
    server.plant(&book, &["THRICE"]).await;
    server.give("THRICE", "ann").await;
    let replies =
        race(&server, racers(200, |_| server.user("ann"), "coupons/THRICE/redeem", &json!({}))).await;
    assert_outcomes(&replies, &[("200", 3), ("409 coupon_already_redeemed", 197)]);
    let mut uses: Vec<_> = replies
        .iter()
        .filter(|reply| reply.status == 200)
        .map(|reply| reply.json()["redeemCount"].as_i64())
        .collect();
    uses.sort_unstable();
    assert_eq!(uses, [Some(1), Some(2), Some(3)]);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_asks_two_hundred_times_at_once_holds_no_more_than_the_limit() {
    let server = Server::start().await;
    let book = server.book(json!({"maxCodesPerUser": 1})).await;
    server.generate(&book, 300).await;
    let body = json!({"couponBookId": book});
    let replies = race(&server, racers(200, |_| server.user("ann"), "assignments/random", &body)).await;
    assert_outcomes(&replies, &[("201", 1), ("409 user_limit_reached", 199)]);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_want_one_named_code_leave_it_with_one_holder() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["ONLY-ONE"]).await;
    let wish = |number: usize| Racer {
        client: server.service(),
        path: "assignments/ONLY-ONE".to_owned(),
        key: None,
        body: json!({"userId": format!("user-{number}")}),
    };
    let replies = race(&server, (0..100).map(wish).collect()).await;
    assert_outcomes(&replies, &[("201", 1), ("409 already_assigned", 99)]);
    server.assert_invariants().await;
}

/// Races sixteen requests under one key, until each server was asked four times.
async fn race_under_one_key(server: &Server, path: &str, body: &Value) -> Vec<Reply> {
    let racer = |_| Racer {
        client: server.service(),
        path: path.to_owned(),
        key: Some("the same key"),
        body: body.clone(),
    };
    race(server, (0..16).map(racer).collect()).await
}

/// One answer is the effect; all others are the same answer again, or say that the first still runs.
#[track_caller]
fn assert_one_effect(replies: &[Reply], success: u16) {
    let (done, waiting): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == success);
    let first = done.iter().filter(|reply| reply.header("Idempotent-Replayed") != "true").count();
    assert_eq!(first, 1, "effects: {:?}", tally(replies));
    let answers: HashSet<&str> = done.iter().map(|reply| reply.text.as_str()).collect();
    assert_eq!(answers.len(), 1, "different answers under one key: {answers:?}");
    for reply in waiting {
        assert_eq!(reply.outcome(), "409 key_in_progress");
        assert_eq!(reply.header("Retry-After"), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_assignments_under_one_key_are_one_assignment() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    server.generate(&book, 100).await;
    let body = json!({"couponBookId": book, "userId": "ann"});
    let replies = race_under_one_key(&server, "assignments/random", &body).await;
    assert_one_effect(&replies, 201);
    let held = server.service().get("assignments/user/ann").await.expect(200);
    assert_eq!(held["data"].as_array().map(Vec::len), Some(1), "{held}");
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_redemptions_under_one_key_are_one_use() {
    let server = Server::start().await;
    let book = server.book(json!({"maxRedeemsPerUser": 100})).await;
    server.plant(&book, &["OFTEN"]).await;
    server.give("OFTEN", "ann").await;
    let replies = race_under_one_key(&server, "coupons/OFTEN/redeem", &json!({"userId": "ann"})).await;
    assert_one_effect(&replies, 200);
    assert_eq!(server.service().get("coupons/OFTEN").await.expect(200)["redeemCount"], 1);
    server.assert_invariants().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_generations_under_one_key_are_one_job() {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let body = json!({"couponBookId": book, "quantity": 500});
    let replies = race_under_one_key(&server, "coupon-codes/generate", &body).await;
    let done: Vec<_> = replies.iter().filter(|reply| reply.status == 202).collect();
    let first = done.iter().filter(|reply| reply.header("Idempotent-Replayed") != "true").count();
    let jobs: HashSet<String> = done.iter().map(|reply| id_of(&reply.json())).collect();
    assert_eq!((first, jobs.len()), (1, 1), "{:?}", tally(&replies));
    for job in jobs {
        wait_for_job(&server.admin(), &job).await;
    }
    assert_eq!(server.codes(&book).await.len(), 500);
    server.assert_invariants().await;
}
