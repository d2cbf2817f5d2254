//! Tests of followers that read the log themselves: their heartbeats and their turns.

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
    let claimant = Claimant::Known { caller: Uuid::now_v7(), business: world.business, address: None };
    let slot = Shares::new("streams", 8, &Settings::default()).take(&claimant).unwrap();
    let mut follower = follow(&followers, slot, world.business, start).await;
    assert_position(&mut follower).await;
    (followers, follower)
}

async fn follow(followers: &Followers, slot: Permit, business: BusinessId, start: EventCursor) -> Follower {
    followers.follow(slot, business, EventFilter::default(), Some(start)).await.unwrap()
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
    for _ in 0..3 {
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
