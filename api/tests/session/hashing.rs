//! The cost of a login: the same for known and unknown emails, and bounded for the server.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use super::{log_in, server};
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, id_of};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_email_and_a_disabled_account_take_as_long_as_a_wrong_password() {
    let server = server().await;
    let new = json!({"email": "gone@shop.test", "password": ADMIN_PASSWORD, "role": "USER"});
    let gone = id_of(&server.admin().post("users", new).await.expect(201));
    server.admin().patch(&format!("users/{gone}"), json!({"disabled": true})).await.expect(200);
    let tries = [
        (ADMIN_EMAIL, "not the password"),
        ("nobody@shop.test", "not the password"),
        ("gone@shop.test", ADMIN_PASSWORD),
    ];
    let mut times = [const { Vec::new() }; 3];
    // One less than the limit of wrong passwords for an email.
    for _ in 0..9 {
        for ((email, password), times) in tries.iter().zip(&mut times) {
            let begun = Instant::now();
            assert_eq!(log_in(&server.anonymous(), email, password).await.status, 401);
            times.push(begun.elapsed());
        }
    }
    let [known, unknown, disabled] = times.map(median);
    for other in [unknown, disabled] {
        assert!(other < known * 3 && known < other * 3, "known {known:?}, other {other:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_logins_than_can_wait_are_told_to_come_back_and_the_others_are_served() {
    let server = server().await;
    let mut tasks = JoinSet::new();
    for number in 0..300 {
        let (client, email) = (server.anonymous(), format!("nobody-{number}@shop.test"));
        tasks.spawn(async move { log_in(&client, &email, "not the password").await });
    }
    let replies = tasks.join_all().await;
    let (answered, sent_away): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 401);
    assert!(answered.len() >= 66 && !sent_away.is_empty(), "{} served", answered.len());
    for reply in sent_away {
        // Rejected by the queue, or by the address's share of anonymous requests.
        assert!(["503 unavailable", "503 overloaded"].contains(&reply.outcome().as_str()), "{}", reply.text);
        assert_eq!(reply.header("Retry-After"), "1");
    }
    // An attempt is counted when its turn has come: a rejected login takes nothing from the database.
    let counted: i64 =
        sqlx::query_scalar("select count(*) from password_attempt where cardinality(failed_at) > 0")
            .fetch_one(server.database.pool())
            .await
            .expect("counting failed");
    assert_eq!(usize::try_from(counted), Ok(answered.len()));
    log_in(&server.anonymous(), ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_longer_than_any_can_be_is_refused_before_it_is_hashed() {
    let server = server().await;
    for (chars, status) in [(200, 401), (201, 422), (1_000_000, 422), (3_000_000, 413)] {
        let reply = log_in(&server.anonymous(), ADMIN_EMAIL, &"x".repeat(chars)).await;
        assert_eq!(reply.status, status, "{chars} characters");
    }
    let long = format!("{}@shop.test", "x".repeat(250));
    assert_eq!(log_in(&server.anonymous(), &long, ADMIN_PASSWORD).await.status, 422);
}
