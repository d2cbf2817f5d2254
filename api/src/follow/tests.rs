//! Tests of followers: their heartbeats, their turns to read the log, and what is kept for slow ones.

use std::time::Duration;

use cuponera_domain::id::BusinessId;
use cuponera_platform::config::Shares as Settings;
use cuponera_testkit::{World, eventually};
use sqlx::query;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::shares::{Claimant, Shares};

/// Longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A follower that has to read the assignment of a code from the log, and the followers of its process. It has returned its first
/// position.
async fn follower_behind(world: &World) -> (Followers, Follower) {
    let followers =
        Followers::with_heartbeat(world.store().clone(), TaskTracker::new(), Duration::from_millis(5));
    let start = world.store().event_log_end().await.unwrap().committed;
    world.insert_codes(1).await;
    world.give("C000000", "ana").await;
    // Transactions of other tests delay it.
    eventually("the event to be committed", async || {
        let events = world.store().events_after(start, 1).await.unwrap();
        (!events.is_empty()).then_some(())
    })
    .await;
    let mut follower = follow(&followers, world.business, Some(start)).await;
    assert_position(&mut follower).await;
    (followers, follower)
}

async fn follow(followers: &Followers, business: BusinessId, after: Option<EventCursor>) -> Follower {
    let claimant = Claimant::Known { caller: Uuid::now_v7(), business, address: None };
    let slot = Shares::new("streams", 8, &Settings::default()).take(&claimant).unwrap();
    followers.follow(slot, business, EventFilter::default(), after).await.unwrap()
}

async fn next(follower: &mut Follower) -> Followed {
    timeout(PATIENCE, follower.next()).await.expect("nothing is sent").expect("the stream has ended")
}

async fn assert_position(follower: &mut Follower) {
    let next = next(follower).await;
    assert!(matches!(next, Followed::Position(_)), "{next:?}");
}

/// The action of the next event.
async fn action(follower: &mut Follower) -> String {
    loop {
        if let Followed::Event(event) = next(follower).await {
            return event.event.action;
        }
    }
}

#[tokio::test]
async fn a_follower_sends_heartbeats_while_it_waits_for_its_turn() {
    let world = World::new().await;
    let (followers, mut follower) = follower_behind(&world).await;
    let most = u32::try_from(MAX_READERS).unwrap();
    let turns = followers.0.readers.acquire_many(most).await.unwrap();
    // Without a turn its reading would end before these.
    for _ in 0..20 {
        world.store().events_after(EventCursor::default(), 1).await.unwrap();
        assert_position(&mut follower).await;
    }
    drop(turns);
    assert_eq!(action(&mut follower).await, "ASSIGN");
}

#[tokio::test]
async fn a_follower_gives_up_its_turn_while_the_log_cannot_be_read() {
    let world = World::new().await;
    let (followers, mut follower) = follower_behind(&world).await;
    let most = u32::try_from(MAX_READERS).unwrap();
    query("alter table coupon_event rename to hidden").execute(world.pool()).await.unwrap();
    let turns = followers.0.readers.acquire_many(most).await.unwrap();
    // Its reading waits for a turn now. The semaphore is fair, so it gets one before this test does.
    assert_position(&mut follower).await;
    let all_turns = followers.0.readers.acquire_many(most);
    drop(turns);
    drop(timeout(PATIENCE, all_turns).await.expect("the follower keeps its turn").unwrap());
    assert_position(&mut follower).await;
    query("alter table hidden rename to coupon_event").execute(world.pool()).await.unwrap();
    assert_eq!(action(&mut follower).await, "ASSIGN");
}

/// A stream whose client does not read is not polled.
#[tokio::test]
async fn a_follower_that_is_not_polled_keeps_no_turn() {
    let world = World::new().await;
    let (followers, mut follower) = follower_behind(&world).await;
    let most = u32::try_from(MAX_READERS).unwrap();
    let turns = followers.0.readers.acquire_many(most).await.unwrap();
    assert_position(&mut follower).await;
    let all_turns = followers.0.readers.acquire_many(most);
    drop(turns);
    drop(timeout(PATIENCE, all_turns).await.expect("the follower keeps its turn").unwrap());
    assert_eq!(action(&mut follower).await, "ASSIGN");
}

#[tokio::test]
async fn a_follower_without_events_sends_heartbeats() {
    let world = World::new().await;
    let followers =
        Followers::with_heartbeat(world.store().clone(), TaskTracker::new(), Duration::from_millis(5));
    let mut follower = follow(&followers, world.business, None).await;
    for _ in 0..5 {
        assert_position(&mut follower).await;
    }
}

/// The log has more events than the batches that are kept, and the follower is not polled meanwhile.
/// Invariant I-61.
#[tokio::test]
async fn a_slow_follower_gets_each_event_once_and_only_the_last_batches_are_kept_for_it() {
    const EVENTS: usize = MAX_BATCH * (MAX_BATCHES + 4);
    let world = World::new().await;
    let followers = Followers::new(world.store().clone(), TaskTracker::new());
    let mut follower = follow(&followers, world.business, None).await;
    let start = follower.position;
    query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         select gen_random_uuid(), $1, $2, n, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'test' from generate_series(1, $3) n",
    )
    .bind(world.business.0)
    .bind(world.book.0)
    .bind(i32::try_from(EVENTS).unwrap())
    .execute(world.pool())
    .await
    .unwrap();
    let mut expected = Vec::new();
    // Transactions of other tests delay the poller.
    eventually("the poller to have read all events", async || {
        let most = i64::try_from(EVENTS).unwrap() + 1;
        let events = world.store().events_after(start, most).await.unwrap();
        expected = events.iter().map(|event| event.cursor).collect();
        expected.last().is_some_and(|last| *last == followers.0.hub().position).then_some(())
    })
    .await;
    assert_eq!(expected.len(), EVENTS);
    assert!(followers.0.hub().batches.len() <= MAX_BATCHES);
    let receiving = async {
        let mut received = Vec::new();
        while received.len() < EVENTS {
            if let Followed::Event(event) = next(&mut follower).await {
                received.push(event.cursor);
            }
        }
        received
    };
    let received = timeout(PATIENCE, receiving).await.expect("an event is missing");
    assert!(received == expected, "an event was sent twice, or events are not in the order of the log");
}
