//! Expired locks of SHARED codes count as absent, before and after the sweep.

use super::*;

/// Invariant I-87.
#[tokio::test]
async fn an_expired_lock_leaves_its_use_to_others_before_it_is_swept() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(1, 1)).await;
    world.locked("SUMMER", "ana").await;
    world.expire_all_locks().await;
    assert_eq!(world.coupon("SUMMER").await.shared.unwrap().locked_count, 0);
    world.locked("SUMMER", "eva").await;
    let late = world.run_batch(world.redeem("SUMMER", "ana")).await.outcome;
    assert!(matches!(late, Err(Rejection::CouponLocked { .. })), "{late:?}");
    world.run_batch(world.redeem("SUMMER", "eva")).await.outcome.unwrap();
    let swept = world.store().expire_shared_locks(10).await.unwrap();
    assert_eq!((swept.taken, swept.expired), (1, 1));
    assert_eq!(world.actions("SUMMER").await, ["LOCK", "LOCK", "REDEEM", "EXPIRE"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_call_of_the_user_ends_an_expired_lock_with_its_own_event_first() {
    let world = World::with(BookRules { max_redeems_per_user: 9, ..shared() }).await;
    world.shared("SUMMER", SharedLimits::default()).await;
    world.locked("SUMMER", "ana").await;
    world.expire_all_locks().await;
    let second = world.locked("SUMMER", "ana").await;
    world.expire_all_locks().await;
    world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    world.locked("SUMMER", "ana").await;
    world.expire_all_locks().await;
    let mut unlock = world.unlock("SUMMER", "ana");
    unlock.ask.lock = Some(second.lock);
    world.run_batch(unlock).await.outcome.unwrap();
    let expected = ["LOCK", "EXPIRE", "LOCK", "EXPIRE", "REDEEM", "LOCK", "EXPIRE"];
    assert_eq!(world.actions("SUMMER").await, expected);
    assert_eq!(world.store().expire_shared_locks(10).await.unwrap().taken, 0);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_sweep_ends_locks_of_many_users_and_codes_with_an_event_each() {
    let world = World::with(shared()).await;
    for code in ["AAA", "BBB"] {
        world.shared(code, SharedLimits::default()).await;
        for user in 0..15 {
            world.locked(code, &format!("user-{user}")).await;
        }
    }
    world.expire_all_locks().await;
    world.locked("AAA", "user-3").await;
    let mut ended = 0;
    loop {
        let swept = world.store().expire_shared_locks(7).await.unwrap();
        ended += swept.expired;
        if swept.taken == 0 {
            break;
        }
    }
    assert_eq!(ended, 29, "one was renewed");
    let versions: Vec<i32> = log(&world, "AAA").await.into_iter().map(|event| event.0).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    world.assert_invariants().await;
}

/// The sweep skips a code that another transaction holds, and ends its locks in a later round.
#[tokio::test]
async fn a_held_code_does_not_keep_the_locks_of_others() {
    let world = World::with(shared()).await;
    for code in ["AAA", "BBB"] {
        world.shared(code, SharedLimits::default()).await;
        world.locked(code, "ana").await;
    }
    world.expire_all_locks().await;
    let mut holding = world.pool().begin().await.unwrap();
    sqlx::query("select from coupon where code = 'AAA' for update").execute(&mut *holding).await.unwrap();
    let swept = world.store().expire_shared_locks(10).await.unwrap();
    assert_eq!((swept.taken, swept.expired), (2, 1));
    holding.rollback().await.unwrap();
    assert_eq!(world.store().expire_shared_locks(10).await.unwrap().expired, 1);
    world.assert_invariants().await;
}
