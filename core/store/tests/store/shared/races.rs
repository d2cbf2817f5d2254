//! Races for one SHARED code between real connections.

use std::collections::HashSet;

use cuponera_store::CallResult;
use cuponera_testkit::race;

use super::*;

/// Uses in total in the large race, and users that want one.
const USES: i32 = 1_000;
const USERS: usize = 5_000;
/// Calls of a batch, as the API forms them.
const BATCH: usize = 64;

/// Invariant I-87. 5,000 users, in batches that run at the same time, want the 1,000 uses of one code.
#[tokio::test]
async fn of_many_users_exactly_as_many_redeem_a_code_as_it_has_uses() {
    let world = World::with(shared()).await;
    world.shared("HOT", limits(USES, 1)).await;
    let calls: Vec<_> = (0..USERS).map(|user| world.redeem("HOT", &format!("user-{user}"))).collect();
    let answers = race(8, calls.chunks(BATCH), async |batch| world.store().run_batch(batch).await.unwrap()).await;
    let answers: Vec<_> = answers.into_iter().flatten().map(|answer| answer.outcome).collect();
    let redeemed = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(redeemed, usize::try_from(USES).unwrap());
    let others = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(others.clone().all(|why| *why == Rejection::CouponAlreadyRedeemed), "{:?}", others.collect::<HashSet<_>>().len());
    assert_eq!(world.coupon("HOT").await.redeem_count, USES);
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

/// Invariant I-87. One user, 200 calls at once, a limit of 2: each call on its own, and in batches.
#[tokio::test]
async fn one_user_never_exceeds_its_limit() {
    for size in [1, 10] {
        let world = World::with(shared()).await;
        world.shared("HOT", limits(1_000, 2)).await;
        let calls: Vec<_> = (0..200)
            .map(|number| {
                let mut call = world.redeem("HOT", "ana");
                call.ask.reference = Some(format!("sale {number}"));
                call
            })
            .collect();
        let answers = race(20, calls.chunks(size), async |batch| world.store().run_each(batch).await).await;
        let answers: Vec<_> = answers.into_iter().flatten().map(|answer| answer.unwrap().outcome).collect();
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "in batches of {size}");
        let rejected = answers.iter().filter_map(|answer| answer.as_ref().err());
        assert!(rejected.clone().all(|why| *why == Rejection::RedeemLimitReached { limit: 2 }));
        world.assert_invariants().await;
    }
}

/// Invariant I-87. A user presents different codes of a book at once: their rows are different, and the limit of the book is one.
#[tokio::test]
async fn one_user_never_uses_more_codes_of_a_book_than_it_allows() {
    let world = World::with(BookRules { max_codes_per_user: Some(2), ..shared() }).await;
    let codes: Vec<String> = (0..40).map(|number| format!("CODE-{number}")).collect();
    for code in &codes {
        world.shared(code, SharedLimits::default()).await;
    }
    let presents = async |(number, code): (usize, &String)| match number % 2 {
        0 => world.run_batch(world.lock(code, "ana")).await.outcome.map(drop),
        _ => world.run_batch(world.redeem(code, "ana")).await.outcome.map(drop),
    };
    let answers = race(20, codes.iter().enumerate(), presents).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2, "{answers:?}");
    let rejected = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(rejected.clone().all(|why| *why == Rejection::UserLimitReached { limit: 2 }), "{answers:?}");
    world.assert_invariants().await;
}

/// Invariant I-87. All read before any writes: the strictest race for the last use.
#[tokio::test]
async fn the_last_use_is_redeemed_or_locked_once() {
    for locks in [false, true] {
        let world = World::with(shared()).await;
        world.shared("LAST", limits(1, 1)).await;
        // So that the calls wait for the row.
        world.store().validate(&world.redeem("LAST", "nobody")).await.unwrap();
        let _ = world.run_batch(world.unlock("LAST", "nobody")).await;
        let calls = race(6, 0..6, async |number: usize| {
            let user = format!("user-{number}");
            if locks && number % 2 == 0 {
                world.run_batch(world.lock("LAST", &user)).await.outcome.map(drop)
            } else {
                world.run_batch(world.redeem("LAST", &user)).await.outcome.map(drop)
            }
        });
        let answers = world.all_at_once_on("LAST", 4, calls).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        world.assert_invariants().await;
    }
}

/// Invariant I-11. A key is executed once, although batches with it run at the same time.
#[tokio::test]
async fn a_key_redeems_a_shared_code_once() {
    let world = World::with(shared()).await;
    world.shared("HOT", limits(1_000, 1_000)).await;
    let calls: Vec<_> =
        (0..240).map(|number| world.redeem("HOT", &format!("user-{}", number % 12)).with_key(&format!("key-{}", number % 12))).collect();
    let answers = race(10, calls.chunks(12), async |batch| world.store().run_batch(batch).await.unwrap()).await;
    let answers: Vec<CallResult<_>> = answers.into_iter().flatten().collect();
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 12);
    assert_eq!(world.coupon("HOT").await.redeem_count, 12);
    world.assert_invariants().await;
}

/// Invariant I-74.
#[tokio::test]
async fn a_reference_redeems_a_shared_code_once() {
    let world = World::with(shared()).await;
    world.shared("HOT", limits(1_000, 1_000)).await;
    let calls: Vec<_> = (0..240)
        .map(|number| {
            let mut call = world.redeem("HOT", &format!("user-{}", number % 12));
            call.ask.reference = Some(format!("sale {}", number % 12));
            call
        })
        .collect();
    let answers = race(10, calls.chunks(24), async |batch| world.store().run_batch(batch).await.unwrap()).await;
    let redeemed: Vec<_> = answers.into_iter().flatten().map(|answer| answer.outcome.unwrap()).collect();
    assert_eq!(redeemed.iter().filter(|redeemed| !redeemed.replayed).count(), 12);
    assert_eq!(redeemed.iter().map(|redeemed| redeemed.redemption).collect::<HashSet<_>>().len(), 12);
    let mut of_another = world.redeem("HOT", "eva");
    of_another.ask.reference = Some("sale 1".to_owned());
    assert_eq!(world.run_batch(of_another).await.outcome, Err(Rejection::ReferenceUsed));
    world.assert_invariants().await;
}

/// Invariant I-51.
#[tokio::test]
async fn a_redemption_is_rolled_back_once() {
    let world = World::with(shared()).await;
    world.shared("HOT", limits(3, 1)).await;
    let used = world.run_batch(world.redeem("HOT", "ana")).await.outcome.unwrap();
    let call = roll_back(&world, "HOT", used.redemption);
    let batch = [call.clone(), call.clone()];
    let answers = race(8, 0..8, async |_| world.store().run_batch(&batch).await.unwrap()).await;
    let done = answers.iter().flatten().filter(|answer| answer.outcome.is_ok()).count();
    assert_eq!((done, world.coupon("HOT").await.redeem_count), (1, 0));
    world.assert_invariants().await;
}

/// Invariant I-5.
#[tokio::test]
async fn batches_with_the_same_codes_and_users_in_opposite_orders_do_not_deadlock() {
    let world = World::with(BookRules { max_codes_per_user: Some(30), max_redeems_per_user: 50, ..shared() }).await;
    let codes: Vec<String> = (0..20).map(|number| format!("CODE-{number}")).collect();
    for code in &codes {
        world.shared(code, SharedLimits::default()).await;
    }
    let users = ["ana", "eva", "leo"];
    let forward: Vec<_> =
        codes.iter().enumerate().map(|(number, code)| world.redeem(code, users[number % 3])).collect();
    let backward: Vec<_> = forward.iter().rev().cloned().collect();
    let locks: Vec<_> =
        codes.iter().enumerate().map(|(number, code)| world.lock(code, users[2 - number % 3])).collect();
    let (redeemed, _) = futures::join!(
        race(6, (0..12).map(|number| if number % 2 == 0 { &forward } else { &backward }), async |batch| {
            world.store().run_batch(batch).await.unwrap()
        }),
        race(3, 0..6, async |_| world.store().run_batch(&locks).await.unwrap()),
    );
    assert!(redeemed.iter().flatten().all(|answer| answer.outcome.is_ok()));
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}
