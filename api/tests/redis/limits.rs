//! Rate limits that all servers share, and that each server applies alone while Redis is unavailable.

use std::fmt::Debug;

use cuponera_platform::config::RateLimit;
use futures::{StreamExt, stream};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::{Fleet, TRIES};
use crate::support::{Client, Limits, Reply};

/// Five requests an hour for a user, three without credentials: no token is returned during a test.
async fn limited() -> Fleet {
    let rate = |text: &str| text.parse::<RateLimit>().expect("a rate").0;
    let callers = cuponera_api::Limits {
        user: rate("5/h"),
        anonymous: rate("3/h"),
        misses: Some(cuponera_api::Misses::default()),
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..cuponera_api::Limits::default()
    };
    Fleet::start(Limits { worker: false, callers, ..Limits::default() }).await
}

/// Sends a request; returns the status and the remaining limit.
async fn ask(request: RequestBuilder) -> (u16, String) {
    let reply = Reply::to(request).await;
    let (standing, reset) = reply.header("ratelimit").split_once(";t=").unwrap_or_default();
    let told = (reply.status, standing.to_owned());
    if reply.status == 429 {
        let (name, most) = if standing.starts_with("\"user\"") { ("user", 5) } else { ("anonymous", 3) };
        let seconds: u32 = reply.header("retry-after").parse().expect("Retry-After in seconds");
        assert!((1..=3_600 / most).contains(&seconds), "{seconds}");
        assert_eq!(reset, seconds.to_string());
        assert_eq!(reply.header("ratelimit-policy"), format!("\"{name}\";q={most};w=3600"));
        assert_eq!(reply.rejected(429), "rate_limited");
    }
    told
}

fn me(client: &Client) -> RequestBuilder {
    client.request(Method::GET, "auth/me")
}

fn left(status: u16, name: &str, remaining: u32) -> (u16, String) {
    (status, format!("\"{name}\";r={remaining}"))
}

/// Tries new callers until the replies of one are as expected. Succeeds if one attempt does.
async fn assert_one_is_told<T>(fleet: &Fleet, expected: &[T], ask: impl AsyncFn(usize) -> Vec<T>)
where
    T: PartialEq + Debug,
{
    let mut told = Vec::new();
    for caller in 0..TRIES {
        fleet.wait_for_health("connected").await;
        told = ask(caller).await;
        if told == expected {
            break;
        }
    }
    assert_eq!(told, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_may_ask_for_is_shared_by_all_servers() {
    let fleet = limited().await;
    let users = async |caller| {
        let servers = fleet.at_both(&fleet.server.user(&format!("user-{caller}")));
        stream::iter(0..7).then(async |turn| ask(me(&servers[turn % 2])).await).collect().await
    };
    let [granted, none] = [200, 429].map(|status| move |remaining| left(status, "user", remaining));
    let expected = [granted(4), granted(3), granted(2), granted(1), granted(0), none(0), none(0)];
    assert_one_is_told(&fleet, &expected, users).await;
    assert_eq!(ask(me(&fleet.server.user("another"))).await, granted(4));
    let strangers = async |caller| {
        let (servers, address) = (fleet.at_both(&fleet.server.anonymous()), format!("198.51.100.{caller}"));
        let request = |turn: usize| me(&servers[turn % 2]).header("X-Forwarded-For", &address);
        stream::iter(0..4).then(async |turn| ask(request(turn)).await).collect().await
    };
    let [granted, none] = [401, 429].map(|status| move |remaining| left(status, "anonymous", remaining));
    assert_one_is_told(&fleet, &[granted(2), granted(1), granted(0), none(0)], strangers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_counted_over_all_servers() {
    let fleet = Fleet::start(Limits {
        worker: false,
        callers: cuponera_api::Limits {
            misses: Some(cuponera_api::Misses::default()),
            ..cuponera_api::Limits::default()
        },
        ..Limits::default()
    })
    .await;
    let guess = async |caller| {
        let servers = fleet.at_both(&fleet.server.user(&format!("user-{caller}")));
        let guess = async |turn: usize| {
            let path = format!("coupons/GUESS-{turn}/lock");
            servers[turn % 2].post(&path, json!({})).await.outcome()
        };
        stream::iter(0..12).then(guess).collect().await
    };
    let mut expected = vec!["404 not_found".to_owned(); 10];
    expected.resize(12, "429 rate_limited".to_owned());
    assert_one_is_told(&fleet, &expected, guess).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_or_forgets_each_server_keeps_to_the_limit_by_itself() {
    let fleet = limited().await;
    let [here, there] = fleet.at_both(&fleet.server.user("ann"));
    for remaining in [4, 3, 2] {
        assert_eq!(ask(me(&here)).await, left(200, "user", remaining));
    }
    fleet.redis.flush().await;
    assert_eq!(ask(me(&here)).await, left(200, "user", 1), "the bucket of this server lost its state");
    fleet.redis.kill();
    fleet.wait_for_health("disconnected").await;
    assert_eq!(ask(me(&here)).await, left(200, "user", 0));
    assert_eq!(ask(me(&here)).await.0, 429);
    for remaining in [4, 3, 2, 1, 0] {
        assert_eq!(
            ask(me(&there)).await,
            left(200, "user", remaining),
            "the bucket of the other server was used"
        );
    }
    assert_eq!(ask(me(&there)).await.0, 429);
}
