//! Guessing codes: misses are limited, and holders are not affected.

use std::time::{Duration, Instant};

use cuponera_api::{Limits as Callers, Misses};
use cuponera_testkit::{is_soak, race};
use futures::{StreamExt, stream};
use rand::seq::SliceRandom;
use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Limits, Reply, Server};

const AT_ONCE: usize = 32;
/// Two times with a ratio up to this count as equal. One more query to the database makes at least 1.1.
const ALIKE: f64 = 1.07;
/// Maximum number of measurements before times count as different.
const MAX_MEASURES: usize = 10;
/// A code that does not exist, one that another user holds, and one of a book that has not started.
const KINDS: [&str; 3] = ["UNKNOWN-1", "ANOTHERS", "NOT-YET-1"];

async fn guarded() -> Server {
    let callers = Callers {
        misses: Some(Misses::default()),
        trusted_proxies: vec!["127.0.0.0/8".parse().expect("a network")],
        ..Callers::default()
    };
    let server = Server::start_with(Limits { worker: false, callers, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    server.plant(&book, &["HELD-BY-ANN", "HELD-BY-BOB", "NOBODYS"]).await;
    server.give("HELD-BY-ANN", "ann").await;
    server.give("HELD-BY-BOB", "bob").await;
    server
}

async fn lock(client: &Client, address: &str, code: &str) -> Reply {
    let request = client.request(Method::POST, &format!("coupons/{code}/lock"));
    Reply::to(request.header("X-Forwarded-For", address).json(&json!({}))).await
}

/// The numbers of guesses that were answered with 404 and with 429.
async fn guess(guesses: impl Iterator<Item = (Client, String, String)>) -> (usize, usize) {
    let statuses: Vec<u16> = stream::iter(guesses)
        .map(async |(client, address, code)| {
            let reply = lock(&client, &address, &code).await;
            if reply.status == 429 {
                let wait: u64 = reply.header("retry-after").parse().expect("Retry-After in seconds");
                assert!((1..=60).contains(&wait), "{wait}");
            }
            reply.status
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let count = |status| statuses.iter().filter(|said| **said == status).count();
    assert_eq!(count(404) + count(429), statuses.len());
    (count(404), count(429))
}

/// Maximum number of misses in this time from a full bucket of `burst`, with a margin of one.
fn told(burst: u64, elapsed: Duration) -> usize {
    usize::try_from(burst + elapsed.as_secs() * burst / 60 + 1).expect("a small number")
}

/// Invariant I-36.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_guesses_of_one_user_are_told_ten_times_a_minute_and_the_holder_never_notices() {
    let server = guarded().await;
    let (ann, mallory) = (server.user("ann"), server.user("mallory"));
    let codes = ["UNKNOWN", "HELD-BY-ANN", "NOBODYS"];
    let guesses = (0..10_000).map(|n| (mallory.clone(), "198.51.100.1".to_owned(), codes[n % 3].to_owned()));
    let holder = async {
        for _ in 0..200 {
            lock(&ann, "198.51.100.1", "HELD-BY-ANN").await.expect(200);
        }
    };
    let begun = Instant::now();
    let guesses = async {
        let (found, rejected) = guess(guesses).await;
        (found, rejected, begun.elapsed())
    };
    let ((found, rejected, elapsed), ()) = tokio::join!(guesses, holder);
    assert!((10..=told(10, elapsed)).contains(&found), "{found} in {elapsed:?}");
    assert_eq!(found + rejected, 10_000);
    // Other addresses do not give the user more guesses.
    let elsewhere = (0..100).map(|n| (mallory.clone(), format!("203.0.113.{n}"), "UNKNOWN".to_owned()));
    let (more, _) = guess(elsewhere).await;
    let elapsed = begun.elapsed();
    assert!(found + more <= told(10, elapsed), "{found} and {more} in {elapsed:?}");
}

/// Invariant I-36.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_a_token_finds_no_free_flyer_until_it_has_one_again() {
    const ADDRESS: &str = "198.51.100.1";
    let server = guarded().await;
    let book = server.book(json!({"codeKind": "BEARER"})).await;
    server.plant(&book, &["FLY-1", "FLY-2", "FLY-3"]).await;
    let (mallory, ann, admin) = (server.user("mallory"), server.user("ann"), server.admin());
    lock(&mallory, ADDRESS, "FLY-3").await.expect(200);
    for _ in 0..10 {
        lock(&mallory, ADDRESS, "UNKNOWN-1").await.rejected(404);
    }
    let mut wait = 0;
    for (method, path) in [
        (Method::GET, "coupons/FLY-1"),
        (Method::POST, "coupons/FLY-1/validate"),
        (Method::POST, "coupons/FLY-1/lock"),
        (Method::POST, "coupons/FLY-1/redeem"),
    ] {
        let request = mallory.request(method, path).header("X-Forwarded-For", ADDRESS).json(&json!({}));
        let reply = Reply::to(request).await;
        wait = reply.header("retry-after").parse().expect("seconds");
        assert_eq!(reply.rejected(429), "rate_limited", "{path}");
    }
    assert_eq!(admin.get("coupons/FLY-1").await.expect(200)["status"], "AVAILABLE");
    lock(&mallory, ADDRESS, "FLY-3").await.expect(200);
    lock(&ann, ADDRESS, "FLY-2").await.expect(200);
    tokio::time::sleep(Duration::from_secs(wait)).await;
    lock(&mallory, ADDRESS, "FLY-1").await.expect(200);
}

/// A user without earlier guesses that gets 429. One or two users may get 404, because the address regains a miss
/// every second.
async fn refused_newcomer(server: &Server, address: &str) -> Client {
    let newcomers: Vec<Client> = (0..20).map(|n| server.user(&format!("newcomer-{n}"))).collect();
    let replies =
        race(newcomers.len(), &newcomers, async |newcomer| lock(newcomer, address, "X-1").await).await;
    let mut outcomes = newcomers.iter().zip(replies);
    let rejected = outcomes.find(|(_, reply)| reply.outcome() != "404 not_found");
    let (newcomer, reply) = rejected.expect("no new user got 429");
    assert_eq!(reply.rejected(429), "rate_limited");
    newcomer.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_users_of_one_address_are_told_sixty_misses_a_minute_and_the_holder_there_never_notices() {
    let server = guarded().await;
    let strangers: Vec<Client> = (0..100).map(|n| server.user(&format!("mallory-{n}"))).collect();
    let guesses =
        (0..1_000).map(|n| (strangers[n % 100].clone(), "198.51.100.1".to_owned(), "X-1".to_owned()));
    let begun = Instant::now();
    let (found, _) = guess(guesses).await;
    let elapsed = begun.elapsed();
    assert!((60..=told(60, elapsed)).contains(&found), "{found} in {elapsed:?}");
    lock(&server.user("ann"), "198.51.100.1", "HELD-BY-ANN").await.expect(200);
    let rejected = refused_newcomer(&server, "198.51.100.1").await;
    assert_eq!(lock(&rejected, "198.51.100.2", "X-1").await.rejected(404), "not_found");
    // Trusted callers look up codes for others, and pass on the typing errors of their customers.
    for _ in 0..100 {
        let request = server.service().request(Method::GET, "coupons/UNKNOWN");
        Reply::to(request.header("X-Forwarded-For", "198.51.100.1")).await.rejected(404);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miss_takes_as_long_whether_the_code_is_unknown_another_s_or_not_valid_yet() {
    let server = Server::start_with(Limits { worker: false, ..Limits::default() }).await;
    let book = server.book(json!({})).await;
    let later = server.book(json!({"startsAt": "2099-01-01T00:00:00Z"})).await;
    server.plant(&book, &["ANOTHERS"]).await;
    server.plant(&later, &["NOT-YET-1"]).await;
    server.give("ANOTHERS", "bob").await;
    let (ann, calls) = (server.user("ann"), if is_soak() { 10_000 } else { 2_700 });
    for way in ["lock", "redeem", "validate"] {
        // Noise from other load decreases with the number of calls; additional work of the server for one kind does
        // not.
        let (mut times, mut ratios) = (Times::default(), Vec::new());
        while ratios.len() < MAX_MEASURES && ratios.last().is_none_or(|ratio| *ratio >= ALIKE) {
            times.measure(&ann, way, calls / 9).await;
            ratios.push(times.slowest_to_fastest());
        }
        println!("{way}: slowest to fastest {ratios:.3?}");
        assert!(ratios.last().is_some_and(|ratio| *ratio < ALIKE), "{way}: {ratios:.3?}");
    }
}

/// The durations of the misses of each kind.
#[derive(Default)]
struct Times([Vec<Duration>; KINDS.len()]);

impl Times {
    /// Measures `calls` more misses of each kind.
    async fn measure(&mut self, ann: &Client, way: &str, calls: usize) {
        let (mut kinds, mut bodies) = ([0, 1, 2], Vec::new());
        for _ in 0..calls {
            for kind in kinds {
                let begun = Instant::now();
                let reply = ann.post(&format!("coupons/{}/{way}", KINDS[kind]), json!({})).await;
                self.0[kind].push(begun.elapsed());
                assert_eq!(reply.status, 404);
                bodies.push(reply.text);
            }
            // The order changes, so no kind always follows the same other kind.
            kinds.shuffle(&mut rand::rng());
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
    }

    /// The ratio of the slowest kind of miss to the fastest.
    fn slowest_to_fastest(&mut self) -> f64 {
        // The lower quartile: other load lengthens the upper half, and unevenly.
        let quartiles = self.0.each_mut().map(|times| {
            times.sort_unstable();
            times[times.len() / 4].as_secs_f64()
        });
        let smallest = quartiles.into_iter().fold(f64::MAX, f64::min);
        quartiles.into_iter().fold(0.0, f64::max) / smallest
    }
}
