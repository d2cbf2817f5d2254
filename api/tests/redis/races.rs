//! Races over HTTP while Redis is flushed, killed or frozen.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cuponera_testkit::{Redis, bound, is_soak};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Fleet;
use crate::support::{Client, Limits, Reply, Unchecked};

/// Maximum duration of a request, whatever the state of Redis. A request that waited for a frozen Redis would never
/// end.
const TIMEOUT: Duration = Duration::from_secs(1);
const TIMEOUT_OF_A_BUSY_MACHINE: Duration = Duration::from_secs(5);
const CODES: [&str; 8] = ["RACE-1", "RACE-2", "RACE-3", "RACE-4", "RACE-5", "RACE-6", "RACE-7", "RACE-8"];

/// Time limit for connecting all racers.
const LINE_UP: Duration = Duration::from_mins(2);

/// In a soak as many as in the races without Redis; fewer are enough to show a difference.
fn racers() -> usize {
    if is_soak() { 1_000 } else { 40 }
}

/// All users have a limit far above their number of requests, so each request asks Redis.
async fn fleet() -> Fleet {
    let user = "100000".parse::<cuponera_platform::config::RateLimit>().expect("a rate").0;
    let callers = cuponera_api::Limits { user, ..cuponera_api::Limits::default() };
    Fleet::start(Limits { callers, ..Limits::default() }).await
}

/// Replies with their durations.
type Replies = Vec<(Reply, Duration)>;

/// Sends the requests of all racers at the same moment, half of them at each server. `befall` disturbs Redis just
/// before, so these requests are the first that notice.
async fn race(
    fleet: &Fleet,
    path: &str,
    body: &Value,
    client: impl Fn(usize) -> Client,
    befall: impl FnOnce(&Redis),
) -> Replies {
    let (mut racing, line) = (JoinSet::new(), Arc::new(Barrier::new(racers() + 1)));
    for number in 0..racers() {
        let [here, there] = fleet.at_both(&client(number));
        let client = if number.is_multiple_of(2) { here } else { there };
        let (path, body, line) = (path.to_owned(), body.clone(), line.clone());
        racing.spawn(async move {
            let client = client.apart().await;
            let request = client.request(Method::POST, &path).json(&body);
            line.wait().await;
            line.wait().await;
            let begun = Instant::now();
            let answer = Unchecked::to(request).await;
            (answer, begun.elapsed())
        });
    }
    timeout(LINE_UP, line.wait()).await.expect("the racers did not connect in time");
    befall(&fleet.redis);
    line.wait().await;
    let answers = racing.join_all().await;
    answers.into_iter().map(|(answer, took)| (answer.check(), took)).collect()
}

fn tally(replies: &[(Reply, Duration)]) -> BTreeMap<String, usize> {
    replies.iter().fold(BTreeMap::new(), |mut tally, (reply, _)| {
        *tally.entry(reply.outcome()).or_default() += 1;
        tally
    })
}

#[track_caller]
fn assert_outcomes(replies: &[(Reply, Duration)], expected: &[(&str, usize)]) {
    let expected = expected.iter().map(|(outcome, count)| ((*outcome).to_owned(), *count)).collect();
    assert_eq!(tally(replies), expected);
}

/// A book with codes without earlier races; ann holds the first two.
async fn track(fleet: &Fleet) -> (String, [String; CODES.len()]) {
    let server = &fleet.server;
    let book = server.book(json!({"maxRedeemsPerUser": 3})).await;
    let round = book.rsplit('-').next().expect("a part of an id").to_uppercase();
    let codes = CODES.map(|code| format!("{code}-{round}"));
    server.plant(&book, &codes.each_ref().map(String::as_str)).await;
    server.give(&codes[0], "ann").await;
    server.give(&codes[1], "ann").await;
    (book, codes)
}

/// Runs all races; returns the duration of the slowest request.
async fn everybody_races(
    fleet: &Fleet,
    (book, codes): (String, [String; CODES.len()]),
    befall: impl FnOnce(&Redis),
) -> Duration {
    let server = &fleet.server;
    let ann = |_| server.user("ann");
    let locked = race(fleet, &format!("coupons/{}/lock", codes[0]), &json!({}), ann, befall).await;
    assert_outcomes(&locked, &[("200", racers())]);
    let locks: HashSet<String> = locked.iter().map(|(reply, _)| reply.json()["lockId"].to_string()).collect();
    assert_eq!(locks.len(), 1, "all calls renew one lock: {locks:?}");

    let mut all = locked;
    for code in &codes[..2] {
        let redeemed = race(fleet, &format!("coupons/{code}/redeem"), &json!({}), ann, |_| ()).await;
        assert_outcomes(&redeemed, &[("200", 3), ("409 coupon_already_redeemed", racers() - 3)]);
        all.extend(redeemed);
    }
    let user = |number| server.user(&format!("user-{number}"));
    let given = race(fleet, "assignments/random", &json!({"couponBookId": book}), user, |_| ()).await;
    assert_outcomes(&given, &[("201", 6), ("409 sold_out", racers() - 6)]);
    let codes = given.iter().filter(|(reply, _)| reply.status == 201).map(|(reply, _)| reply.json());
    let codes: HashSet<String> = codes.map(|given| given["code"].to_string()).collect();
    assert_eq!(codes.len(), 6, "a code was assigned twice");
    all.extend(given);
    let longest = all.iter().map(|(_, took)| *took).max().unwrap_or_default();
    println!("the slowest of {} requests took {longest:?}", all.len());
    server.assert_invariants().await;
    longest
}

/// Invariant I-33.
#[tokio::test(flavor = "multi_thread")]
async fn races_end_the_same_whether_redis_is_flushed_killed_frozen_or_back() {
    let mut fleet = fleet().await;
    let (well, flushed, frozen) = (track(&fleet).await, track(&fleet).await, track(&fleet).await);
    let (thawed, killed, back) = (track(&fleet).await, track(&fleet).await, track(&fleet).await);
    // A thousand racers on two cores take most of a second even with a Redis that answers.
    let crowd = everybody_races(&fleet, well, |_| ()).await;
    assert!(crowd < TIMEOUT_OF_A_BUSY_MACHINE, "the races without a disturbance took {crowd:?}");
    let patience = bound(TIMEOUT.max(crowd * 3 / 2), TIMEOUT_OF_A_BUSY_MACHINE);
    let in_time =
        |longest| assert!(longest < patience, "a request took {longest:?}; the limit is {patience:?}");
    let flushing = async {
        loop {
            fleet.flush_again_and_again(1).await;
        }
    };
    tokio::select! { longest = everybody_races(&fleet, flushed, |_| ()) => in_time(longest), () = flushing => {} }
    fleet.wait_for_health("connected").await;
    in_time(everybody_races(&fleet, frozen, Redis::freeze).await);
    in_time(everybody_races(&fleet, thawed, Redis::thaw).await);
    fleet.wait_for_health("connected").await;
    in_time(everybody_races(&fleet, killed, Redis::kill).await);
    fleet.redis.start_again().await;
    in_time(everybody_races(&fleet, back, |_| ()).await);
    fleet.wait_for_health("connected").await;
}
