//! Trying codes: the guesser is told less and less, and those who hold a code never notice.

use std::time::{Duration, Instant};

use cuponera_api::{Limits as Callers, Misses};
use cuponera_testkit::{is_soak, race};
use futures::{StreamExt, stream};
use rand::seq::SliceRandom;
use reqwest::Method;
use serde_json::json;

use crate::support::{Client, Limits, Reply, Server};

const AT_ONCE: usize = 32;
/// Up to this ratio two times are the same. One more look into the database makes 1.1 or more.
const ALIKE: f64 = 1.07;
/// How often the times are taken before they count as different.
const MOST_MEASURES: usize = 10;
/// A code that nobody has, one that another has, and one that is not valid yet.
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

/// What came of the guesses: how many were told 404, and how many 429.
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

/// So many misses are told in this time from a full bucket of `burst`, one more as a margin.
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
        let (found, refused) = guess(guesses).await;
        (found, refused, begun.elapsed())
    };
    let ((found, refused, elapsed), ()) = tokio::join!(guesses, holder);
    assert!((10..=told(10, elapsed)).contains(&found), "{found} in {elapsed:?}");
    assert_eq!(found + refused, 10_000);
    // Other addresses do not help the guesser.
    let elsewhere = (0..100).map(|n| (mallory.clone(), format!("203.0.113.{n}"), "UNKNOWN".to_owned()));
    let (more, _) = guess(elsewhere).await;
    let elapsed = begun.elapsed();
    assert!(found + more <= told(10, elapsed), "{found} and {more} in {elapsed:?}");
}

/// Who has never guessed, and is told 429 all the same. One or two may be told 404: the address has a miss again every
/// second.
async fn refused_newcomer(server: &Server, address: &str) -> Client {
    let newcomers: Vec<Client> = (0..20).map(|n| server.user(&format!("newcomer-{n}"))).collect();
    let replies =
        race(newcomers.len(), &newcomers, async |newcomer| lock(newcomer, address, "X-1").await).await;
    let mut outcomes = newcomers.iter().zip(replies);
    let refused = outcomes.find(|(_, reply)| reply.outcome() != "404 not_found");
    let (newcomer, reply) = refused.expect("nobody new was refused");
    assert_eq!(reply.refused(429), "rate_limited");
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
    let refused = refused_newcomer(&server, "198.51.100.1").await;
    assert_eq!(lock(&refused, "198.51.100.2", "X-1").await.refused(404), "not_found");
    // Trusted callers look codes up for others: they mistype as often as their customers do.
    for _ in 0..100 {
        let request = server.service().request(Method::GET, "coupons/UNKNOWN");
        Reply::to(request.header("X-Forwarded-For", "198.51.100.1")).await.refused(404);
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
        // What else the machine does is noise, of which there is the less the more calls are compared; what the server
        // does more for one kind stays.
        let (mut times, mut ratios) = (Times::default(), Vec::new());
        while ratios.len() < MOST_MEASURES && ratios.last().is_none_or(|ratio| *ratio >= ALIKE) {
            times.measure(&ann, way, calls / 9).await;
            ratios.push(times.slowest_to_fastest());
        }
        println!("{way}: slowest to fastest {ratios:.3?}");
        assert!(ratios.last().is_some_and(|ratio| *ratio < ALIKE), "{way}: {ratios:.3?}");
    }
}

/// How long the misses of each kind took.
#[derive(Default)]
struct Times([Vec<Duration>; KINDS.len()]);

impl Times {
    /// So many more misses of each kind.
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
            // None of them always comes after the same other.
            kinds.shuffle(&mut rand::rng());
        }
        bodies.dedup();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
    }

    /// How much longer the slowest kind of miss takes than the fastest.
    fn slowest_to_fastest(&mut self) -> f64 {
        // The lower quartile: what else the machine does makes the upper half longer, and not evenly.
        let quartiles = self.0.each_mut().map(|times| {
            times.sort_unstable();
            times[times.len() / 4].as_secs_f64()
        });
        let smallest = quartiles.into_iter().fold(f64::MAX, f64::min);
        quartiles.into_iter().fold(0.0, f64::max) / smallest
    }
}
