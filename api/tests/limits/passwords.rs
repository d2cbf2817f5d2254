//! Guessing the password of an email: attempts are counted over all addresses and processes, and its owner is not affected.

use cuponera_api::Limits as Callers;
use futures::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Limits, Reply, Server};

const HOME: &str = "198.51.100.1";
/// An email without an account.
const UNKNOWN: &str = "nobody@shop.test";

async fn server() -> Server {
    let callers =
        Callers { trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")], ..Callers::default() };
    Server::start_with(Limits { worker: false, callers, ..Limits::default() }).await
}

async fn log_in(client: &Client, address: &str, email: &str, password: &str) -> Reply {
    let request = client.request(Method::POST, "auth/login").header("X-Forwarded-For", address);
    Reply::to(request.json(&json!({"email": email, "password": password}))).await
}

/// Guesses from 50 addresses, some at a time, at two processes in turn; the statuses.
async fn guess(servers: &[Client; 2], email: &str) -> Vec<u16> {
    stream::iter(0..50_usize)
        .map(async |number| {
            let address = format!("203.0.113.{number}");
            log_in(&servers[number % 2], &address, email, &format!("guess number {number}")).await.status
        })
        .buffer_unordered(10)
        .collect()
        .await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|said| **said == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_guesses_from_50_addresses_10_are_checked_and_the_holder_logs_in_from_home() {
    let server = server().await;
    let servers = [server.anonymous(), server.anonymous().at(&server.another_api().await)];
    log_in(&server.anonymous(), HOME, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    let at_home = async {
        for _ in 0..10 {
            log_in(&server.anonymous(), HOME, ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
        }
    };
    let (statuses, ()) = tokio::join!(guess(&servers, ADMIN_EMAIL), at_home);
    assert_eq!((count(&statuses, 401), count(&statuses, 429)), (10, 40), "{statuses:?}");
    // The right password, from an unknown address.
    let right = log_in(&server.anonymous(), "203.0.113.99", ADMIN_EMAIL, ADMIN_PASSWORD).await;
    let wait: u64 = right.header("retry-after").parse().expect("Retry-After in seconds");
    assert!((600..=900).contains(&wait), "{wait}");
    assert_eq!(right.rejected(429), "rate_limited");
    log_in(&server.anonymous(), HOME, "Admin@Shop.Test ", ADMIN_PASSWORD).await.expect(200);
    // A wrong password from the known address is 401, not 429.
    assert_eq!(
        log_in(&server.anonymous(), HOME, ADMIN_EMAIL, "mistyped").await.rejected(401),
        "invalid_credentials"
    );
    // Other emails are not affected.
    assert_eq!(
        log_in(&server.anonymous(), "203.0.113.1", UNKNOWN, "x").await.rejected(401),
        "invalid_credentials"
    );
    let later = "update password_attempt set failed_at = (select array_agg(t - interval '15 minutes') from unnest(failed_at) t)";
    sqlx::query(later).execute(server.database.pool()).await.expect("the change failed");
    log_in(&server.anonymous(), "203.0.113.99", ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_email_is_counted_in_the_same_way() {
    let server = server().await;
    let servers = [server.anonymous(), server.anonymous().at(&server.another_api().await)];
    let statuses = guess(&servers, UNKNOWN).await;
    assert_eq!((count(&statuses, 401), count(&statuses, 429)), (10, 40), "{statuses:?}");
    guess(&servers, ADMIN_EMAIL).await;
    let [unknown, known] = [
        log_in(&server.anonymous(), "203.0.113.1", UNKNOWN, "x").await,
        log_in(&server.anonymous(), "203.0.113.1", ADMIN_EMAIL, "x").await,
    ];
    let words = |reply: &Reply| {
        let mut problem = reply.json();
        let detail = problem["detail"].take();
        let detail: String =
            detail.as_str().unwrap_or_default().chars().filter(|character| !character.is_numeric()).collect();
        (problem, detail)
    };
    assert_eq!(words(&unknown), words(&known));
}

#[tokio::test(flavor = "multi_thread")]
async fn right_passwords_do_not_count_and_a_network_of_ipv6_is_known_as_a_whole() {
    let server = server().await;
    let anonymous = server.anonymous();
    for number in 0..15 {
        log_in(&anonymous, &format!("203.0.113.{number}"), ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    }
    let left: i64 =
        sqlx::query_scalar("select coalesce(sum(cardinality(failed_at)), 0) from password_attempt")
            .fetch_one(server.database.pool())
            .await
            .expect("counting failed");
    assert_eq!(left, 0, "a right password was counted as wrong");
    log_in(&anonymous, "2001:db8:1:2::1", ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    for _ in 0..10 {
        log_in(&anonymous, "2001:db8:9:9::1", ADMIN_EMAIL, "wrong").await.expect(401);
    }
    log_in(&anonymous, "2001:db8:1:2:ffff::2", ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(200);
    log_in(&anonymous, "2001:db8:1:3::1", ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(429);
    let long_ago = "update login set created_at = now() - interval '31 days'";
    sqlx::query(long_ago).execute(server.database.pool()).await.expect("the change failed");
    log_in(&anonymous, "2001:db8:1:2::1", ADMIN_EMAIL, ADMIN_PASSWORD).await.expect(429);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_password_is_not_guessed_with_a_token_either() {
    let server = server().await;
    let admin = server.admin();
    let change = async |address: &str, current: &str| {
        let body: Value = json!({"currentPassword": current, "newPassword": "another password"});
        let request = admin.request(Method::POST, "auth/password").header("X-Forwarded-For", address);
        Reply::to(request.json(&body)).await
    };
    for number in 0..10 {
        assert_eq!(change(&format!("203.0.113.{number}"), "wrong").await.status, 422);
    }
    assert_eq!(change("203.0.113.99", ADMIN_PASSWORD).await.rejected(429), "rate_limited");
}
