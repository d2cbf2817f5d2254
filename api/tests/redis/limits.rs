//! Limits that hold over all servers, and at each of them while Redis is away.

use cuponera_core::config::RateLimit;
use serde_json::json;

use super::Fleet;
use crate::support::{Client, Limits};

/// Five requests a minute for a user, and three for who has no credentials.
async fn limited() -> Fleet {
    let rate = |text: &str| text.parse::<RateLimit>().expect("a rate").0;
    let callers = cuponera_api::Limits {
        user: rate("5"),
        anonymous: rate("3"),
        misses: Some(cuponera_api::Misses::default()),
        ..cuponera_api::Limits::default()
    };
    Fleet::start(Limits { worker: false, callers, ..Limits::default() }).await
}

/// Asks once; what the answer says is left.
async fn ask(client: &Client) -> (u16, String) {
    let reply = client.get("auth/me").await;
    let standing = reply.header("ratelimit").split(";t=").next().unwrap_or_default().to_owned();
    (reply.status, standing)
}

fn left(status: u16, name: &str, remaining: u32) -> (u16, String) {
    (status, format!("\"{name}\";r={remaining}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_may_ask_for_is_shared_by_all_servers() {
    let fleet = limited().await;
    let [here, there] = fleet.at_both(&fleet.server.user("ann"));
    for (client, remaining) in [(&here, 4), (&there, 3), (&here, 2), (&there, 1), (&there, 0)] {
        assert_eq!(ask(client).await, left(200, "user", remaining));
    }
    for client in [&here, &there] {
        let refused = client.get("auth/me").await;
        let seconds: u32 = refused.header("retry-after").parse().expect("Retry-After in seconds");
        assert!((1..=12).contains(&seconds), "{seconds}");
        assert_eq!(refused.header("ratelimit"), format!("\"user\";r=0;t={seconds}"));
        assert_eq!(refused.header("ratelimit-policy"), "\"user\";q=5;w=60");
        assert_eq!(refused.refused(429), "rate_limited");
    }
    assert_eq!(ask(&fleet.server.user("bob")).await, left(200, "user", 4));
    let [here, there] = fleet.at_both(&fleet.server.nobody());
    for (client, remaining) in [(&here, 2), (&there, 1), (&here, 0)] {
        assert_eq!(ask(client).await, left(401, "anonymous", remaining));
    }
    assert_eq!(ask(&there).await.0, 429);
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
    let servers = fleet.at_both(&fleet.server.user("ann"));
    for number in 0..10 {
        let guess = servers[number % 2].post(&format!("coupons/GUESS-{number}/lock"), json!({})).await;
        assert_eq!(guess.refused(404), "not_found");
    }
    for client in &servers {
        assert_eq!(client.post("coupons/GUESS-99/lock", json!({})).await.refused(429), "rate_limited");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_or_forgets_each_server_keeps_to_the_limit_by_itself() {
    let fleet = limited().await;
    let [here, there] = fleet.at_both(&fleet.server.user("ann"));
    for remaining in [4, 3, 2] {
        assert_eq!(ask(&here).await, left(200, "user", remaining));
    }
    fleet.redis.flush().await;
    assert_eq!(ask(&here).await, left(200, "user", 1), "this server has not forgotten");
    fleet.redis.kill();
    fleet.wait_for_health("disconnected").await;
    assert_eq!(ask(&here).await, left(200, "user", 0));
    assert_eq!(ask(&here).await.0, 429);
    for remaining in [4, 3, 2, 1, 0] {
        assert_eq!(ask(&there).await, left(200, "user", remaining), "the other has seen none of this");
    }
    assert_eq!(ask(&there).await.0, 429);
}
