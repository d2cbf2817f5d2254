//! Locks: a code has one lock at a time, with a unique id, and a lock expires at its time.

use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::LockId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::GenerateId;
use cuponera_store::{Call, Expired, Lock, LockOwner, Locked, Redeem, Unlock};
use cuponera_testkit::{World, race};
use sqlx::query;

/// A world where `ana` holds this many codes.
async fn held(count: i32) -> (World, Vec<String>) {
    let world = World::new().await;
    let codes = world.insert_codes(count).await;
    let calls: Vec<_> = codes.iter().map(|code| world.named(code, "ana")).collect();
    for answer in world.store().run_batch(&calls).await.unwrap() {
        answer.outcome.unwrap();
    }
    (world, codes)
}

fn unlocking(world: &World, locked: &Locked) -> Call<Unlock> {
    let owner = LockOwner::User("ana".to_owned());
    world.call(Unlock { code: locked.code.clone(), owner, lock: Some(locked.lock) })
}

fn redeeming(world: &World, locked: &Locked) -> Call<Redeem> {
    let mut call = world.redeem(&locked.code, "ana");
    call.ask.lock = Some(locked.lock);
    call
}

#[tokio::test]
async fn renewing_a_lock_keeps_its_id_and_moves_its_end() {
    let (world, codes) = held(1).await;
    let first = world.locked(&codes[0], "ana").await;
    let longer =
        Lock { code: codes[0].clone(), user: "ana".to_owned(), ttl_seconds: Some(3_600), amount: None };
    let renewed = world.run_batch(world.call(longer)).await.outcome.unwrap();
    assert_eq!((renewed.lock, renewed.locked_at), (first.lock, first.locked_at));
    assert!(renewed.locked_until > first.locked_until);
    assert_eq!((first.locked_until - first.locked_at).num_seconds(), 300, "the lock time of the book");
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "LOCK"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn locks_raced_for_by_the_holder_are_one_lock() {
    let (world, codes) = held(1).await;
    let locks = race(8, 0..8, async |_| world.locked(&codes[0], "ana").await.lock);
    let mut answers = world.all_at_once_on(&codes[0], 8, locks).await;
    answers.extend(race(24, 0..100, async |_| world.locked(&codes[0], "ana").await.lock).await);
    assert!(answers.iter().all(|lock| *lock == answers[0]), "a retry of the holder renews the lock");
    assert_eq!(world.counts().await.locked, 1);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_lock_that_was_followed_by_another_is_stale() {
    let (world, codes) = held(1).await;
    let old = world.locked(&codes[0], "ana").await;
    world.run_batch(unlocking(&world, &old)).await.outcome.unwrap();
    let live = world.locked(&codes[0], "ana").await;
    assert_ne!(old.lock, live.lock);
    assert_eq!(world.run_batch(unlocking(&world, &old)).await.outcome, Err(Rejection::LockStale));
    assert_eq!(world.run_batch(redeeming(&world, &old)).await.outcome, Err(Rejection::LockStale));
    let unheard_of = Locked { lock: LockId::generate(), ..live.clone() };
    assert_eq!(world.run_batch(redeeming(&world, &unheard_of)).await.outcome, Err(Rejection::LockStale));
    assert!(world.run_batch(redeeming(&world, &live)).await.outcome.unwrap().is_final());
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "UNLOCK", "LOCK", "REDEEM"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_lock_that_ran_out_or_was_released_does_not_redeem() {
    let (world, codes) = held(2).await;
    let lapsed = world.locked(&codes[0], "ana").await;
    let released = world.locked(&codes[1], "ana").await;
    world.run_batch(unlocking(&world, &released)).await.outcome.unwrap();
    world.expire_all_locks().await;
    for locked in [&lapsed, &released] {
        assert_eq!(world.run_batch(redeeming(&world, locked)).await.outcome, Err(Rejection::LockExpired));
        assert_eq!(world.coupon(&locked.code).await.redeem_count, 0);
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn unlocking_what_is_not_locked_is_fine_and_leaves_no_event() {
    let (world, codes) = held(1).await;
    assert!(world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.is_ok());
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN"]);
    let locked = world.locked(&codes[0], "ana").await;
    let unlocks = race(8, 0..8, async |_| world.run_batch(unlocking(&world, &locked)).await.outcome);
    let answers = world.all_at_once_on(&codes[0], 8, unlocks).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "UNLOCK"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn force_releases_anyones_lock() {
    let (world, codes) = held(1).await;
    world.locked(&codes[0], "ana").await;
    let force = world.call(Unlock { code: codes[0].clone(), owner: LockOwner::Anyone, lock: None });
    assert!(world.run_batch(force).await.outcome.is_ok());
    assert_eq!(world.coupon(&codes[0]).await.status, CouponStatus::Assigned);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_lapsed_lock_counts_as_none_before_any_sweep() {
    let (world, codes) = held(3).await;
    let mut locks = Vec::new();
    for code in &codes {
        locks.push(world.locked(code, "ana").await);
    }
    world.expire_all_locks().await;
    let shown = world.coupon(&codes[0]).await;
    assert_eq!((shown.status, shown.locked_until), (CouponStatus::Assigned, None));
    let anew = world.locked(&codes[0], "ana").await;
    assert_ne!(anew.lock, locks[0].lock, "a new lock, not a renewal");
    world.run_batch(world.redeem(&codes[1], "ana")).await.outcome.unwrap();
    world.run_batch(unlocking(&world, &locks[2])).await.outcome.unwrap();
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "EXPIRE", "LOCK"]);
    assert_eq!(world.actions(&codes[1]).await, ["ASSIGN", "LOCK", "EXPIRE", "REDEEM"]);
    assert_eq!(world.actions(&codes[2]).await, ["ASSIGN", "LOCK", "EXPIRE"]);
    world.assert_invariants().await;
    assert_eq!(world.store().expire_locks(100).await.unwrap(), Expired { taken: 3, expired: 0 });
    world.assert_invariants().await;
}

/// Sweeps, new locks, releases and redemptions find the expired locks at the same time. One of them ends each lock.
#[tokio::test]
async fn a_lapsed_lock_ends_exactly_once() {
    let (world, codes) = held(40).await;
    for code in &codes {
        world.locked(code, "ana").await;
    }
    world.expire_all_locks().await;
    let sweeps = race(6, 0..30, async |_| world.store().expire_locks(7).await.unwrap());
    let locks = race(6, &codes, async |code| world.run_batch(world.lock(code, "ana")).await.outcome.is_ok());
    let unlocks =
        race(6, &codes[..20], async |code| world.run_batch(world.unlock(code, "ana")).await.outcome.is_ok());
    let redeems =
        race(6, &codes[20..], async |code| world.run_batch(world.redeem(code, "ana")).await.outcome.is_ok());
    futures::join!(sweeps, locks, unlocks, redeems);
    world.store().expire_locks(1_000).await.unwrap();
    for code in &codes {
        let actions = world.actions(code).await;
        assert_eq!(actions.iter().filter(|action| *action == "EXPIRE").count(), 1, "{code}: {actions:?}");
    }
    world.assert_invariants().await;
}

/// The same with one lock, which all statements have read as expired before one of them ends it.
#[tokio::test]
async fn a_lapsed_lock_that_all_have_seen_ends_exactly_once() {
    let (world, codes) = held(8).await;
    for code in &codes {
        world.locked(code, "ana").await;
        world.expire_all_locks().await;
        let everybody = async {
            futures::join!(
                world.store().expire_locks(10),
                world.run_batch(world.unlock(code, "ana")),
                world.run_batch(world.lock(code, "ana")),
                world.run_batch(world.redeem(code, "ana")),
                world.run_batch(world.unlock(code, "ana")),
            )
        };
        // The sweep does not wait: it skips a held coupon.
        Box::pin(world.all_at_once_on(code, 4, everybody)).await.0.unwrap();
        let actions = world.actions(code).await;
        assert_eq!(actions.iter().filter(|action| *action == "EXPIRE").count(), 1, "{actions:?}");
        assert_eq!(actions.last().unwrap(), "REDEEM");
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_sweep_ends_only_what_is_due_and_only_once() {
    let (world, codes) = held(10).await;
    for code in &codes[..6] {
        world.locked(code, "ana").await;
    }
    world.expire_all_locks().await;
    for code in &codes[6..] {
        world.locked(code, "ana").await;
    }
    let swept = race(8, 0..16, async |_| world.store().expire_locks(2).await.unwrap()).await;
    assert_eq!(swept.iter().map(|sweep| sweep.expired).sum::<i64>(), 6);
    assert_eq!(swept.iter().map(|sweep| sweep.taken).sum::<i64>(), 6);
    let counts = world.counts().await;
    assert_eq!((counts.assigned, counts.locked), (6, 4));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_renewed_lock_outlives_the_end_it_had_before() {
    let (world, codes) = held(1).await;
    world.locked(&codes[0], "ana").await;
    let due = "update lock_agenda set locked_until = now() - interval '1 second'";
    query(due).execute(world.pool()).await.unwrap();
    let renewed = world.locked(&codes[0], "ana").await;
    assert_eq!(world.store().expire_locks(10).await.unwrap(), Expired { taken: 1, expired: 0 });
    assert_eq!(world.coupon(&codes[0]).await.locked_until, Some(renewed.locked_until));
    world.assert_invariants().await;
}

/// Invariant I-5.
#[tokio::test]
async fn batches_of_locks_and_releases_in_opposite_orders_do_not_deadlock() {
    let (world, codes) = held(21).await;
    let forward: Vec<_> = codes.iter().map(|code| world.lock(code, "ana")).collect();
    let backward: Vec<_> = forward.iter().rev().cloned().collect();
    let locks = race(2, [&forward, &backward], async |batch| world.store().run_batch(batch).await.unwrap());
    let answers = world.all_at_once_on(&codes[10], 2, locks).await;
    assert!(answers.iter().flatten().all(|answer| answer.outcome.is_ok()));
    let forward: Vec<_> = codes.iter().map(|code| world.unlock(code, "ana")).collect();
    let backward: Vec<_> = forward.iter().rev().cloned().collect();
    let unlocks = race(2, [&forward, &backward], async |batch| world.store().run_batch(batch).await.unwrap());
    world.all_at_once_on(&codes[10], 2, unlocks).await;
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}
