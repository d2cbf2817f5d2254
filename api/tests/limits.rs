//! Rate limits of each kind of caller, and the headers that report them.

use cuponera_api::{Limits as Callers, Misses};
use cuponera_platform::config::RateLimit;
use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Limits, Reply, Server};

mod guessing;
mod passwords;

/// Few requests for each kind of caller, and no token is returned during a test. Loopback is a trusted proxy, so a test
/// can use any client address.
async fn limited() -> Server {
    let rate = |text: &str| text.parse::<RateLimit>().expect("a rate").0;
    let callers = Callers {
        anonymous: rate("3/h"),
        user: rate("5/h"),
        service: rate("none"),
        admin: rate("1000/s"),
        misses: Some(Misses::default()),
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..Callers::default()
    };
    Server::start_with(Limits { worker: false, callers, ..Limits::default() }).await
}

async fn from(client: &Client, address: &str, method: Method, path: &str) -> Reply {
    Reply::to(client.request(method, path).header("X-Forwarded-For", address)).await
}

#[track_caller]
fn assert_limited(reply: Reply, name: &str) {
    let (standing, policy) =
        (reply.header("ratelimit").to_owned(), reply.header("ratelimit-policy").to_owned());
    let seconds: u64 = reply.header("retry-after").parse().expect("Retry-After in seconds");
    assert!((1..=1_200).contains(&seconds), "{seconds}");
    assert_eq!(standing, format!("\"{name}\";r=0;t={seconds}"));
    assert!(policy.starts_with(&format!("\"{name}\";q=")), "{policy}");
    assert_eq!(reply.rejected(429), "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_without_credentials_are_counted_by_address() {
    let server = limited().await;
    let anonymous = server.anonymous();
    from(&server.service(), "198.51.100.1", Method::GET, "jobs").await.expect(200);
    for left in [2, 1, 0] {
        let reply = from(&anonymous, "198.51.100.1", Method::GET, "jobs").await;
        assert!(reply.header("ratelimit").starts_with(&format!("\"anonymous\";r={left};")));
        assert_eq!(reply.header("ratelimit-policy"), "\"anonymous\";q=3;w=3600");
        assert_eq!(reply.rejected(401), "unauthorized");
    }
    assert_limited(from(&anonymous, "198.51.100.1", Method::GET, "jobs").await, "anonymous");
    assert_limited(from(&anonymous, "198.51.100.1", Method::GET, "nowhere").await, "anonymous");
    // Addresses that the client adds before the proxy's entry are ignored.
    assert_limited(from(&anonymous, "203.0.113.7, 198.51.100.1", Method::GET, "jobs").await, "anonymous");
    assert_eq!(from(&anonymous, "198.51.100.2", Method::GET, "jobs").await.rejected(401), "unauthorized");
    // An IPv6 /64 counts as one address.
    for host in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"] {
        assert_eq!(from(&anonymous, host, Method::GET, "jobs").await.rejected(401), "unauthorized");
    }
    assert_limited(from(&anonymous, "2001:db8::4", Method::GET, "jobs").await, "anonymous");
    // Health and documentation have no limit; the limit of the address does not apply to callers with credentials.
    from(&anonymous, "198.51.100.1", Method::GET, "/health").await.expect(200);
    from(&server.service(), "198.51.100.1", Method::GET, "jobs").await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_logins_are_counted_by_address_too() {
    let server = limited().await;
    let wrong = [server.anonymous().with_token("junk"), server.anonymous().with_key("junk")];
    for client in [&wrong[0], &wrong[1], &wrong[0]] {
        assert_eq!(from(client, "198.51.100.1", Method::GET, "jobs").await.rejected(401), "unauthorized");
    }
    assert_limited(from(&wrong[1], "198.51.100.1", Method::GET, "jobs").await, "anonymous");
    // An unused header does not exempt a login from the limit.
    let login = async |client: &Client| {
        let request = client.request(Method::POST, "auth/login").header("X-Forwarded-For", "198.51.100.9");
        Reply::to(request.json(&json!({"email": "nobody@shop.test", "password": "wrong wrong wrong"}))).await
    };
    for client in [&wrong[0], &server.service(), &server.anonymous()] {
        assert_eq!(login(client).await.rejected(401), "invalid_credentials");
    }
    assert_limited(login(&server.service()).await, "anonymous");
}

#[tokio::test(flavor = "multi_thread")]
async fn once_an_address_has_spent_its_bucket_a_key_that_has_not_been_good_lately_is_not_looked_up() {
    let server = limited().await;
    let junk = |n: usize| server.anonymous().with_key(&format!("junk-{n}"));
    let calls = async || {
        let calls = sqlx::query_scalar(
            "select coalesce(sum(idx_scan), 0)::int8 from pg_stat_user_indexes where indexrelname = 'api_key_secret'",
        );
        calls.fetch_one(server.database.pool()).await.expect("no statistics")
    };
    for n in 0..50 {
        let status = from(&junk(n), "198.51.100.1", Method::GET, "jobs").await.status;
        assert_eq!(status, if n < 3 { 401 } else { 429 });
    }
    let looked: i64 = cuponera_testkit::eventually("the statistics to be updated", async || {
        let looked: i64 = calls().await;
        (looked >= 3).then_some(looked)
    })
    .await;
    assert!(looked < 10, "{looked} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_counted_by_who_it_is_and_a_service_not_at_all() {
    let server = limited().await;
    let (ann, bob) = (server.user("ann"), server.user("bob"));
    for address in ["198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5"] {
        let reply = from(&ann, address, Method::GET, "auth/me").await;
        assert_eq!(reply.header("ratelimit-policy"), "\"user\";q=5;w=3600");
        reply.expect(200);
    }
    assert_limited(from(&ann, "198.51.100.6", Method::GET, "auth/me").await, "user");
    from(&bob, "198.51.100.6", Method::GET, "auth/me").await.expect(200);
    for _ in 0..50 {
        let reply = server.service().get("auth/me").await;
        assert_eq!(reply.header("ratelimit"), "");
        reply.expect(200);
    }
    let reply = server.admin().get("auth/me").await;
    assert_eq!(reply.header("ratelimit-policy"), "\"admin\";q=1000;w=1");
}
