//! Races for free codes between real connections: a code gets one holder, and a user gets no code beyond the limit.

use std::collections::BTreeSet;

use cuponera_testkit::race;

use super::*;

/// The limit of the user in a race for many codes.
const LIMIT: i32 = 5;

/// Invariant I-80.
#[tokio::test]
async fn of_many_users_who_present_a_code_one_becomes_its_holder() {
    let world = World::with(limited_to(1)).await;
    let codes = world.insert_codes(20).await;
    for code in &codes {
        let presents = async |number: usize| {
            let user = format!("{code}-{number}");
            let taken = match number % 4 {
                0 => world.run_batch(world.lock(code, &user)).await.outcome.map(drop),
                1 => world.run_batch(world.named(code, &user)).await.outcome.map(drop),
                2 => world.run_batch(world.redeem(code, &user).by_end_user()).await.outcome.map(drop),
                _ => world.run_batch(world.redeem(code, &user)).await.outcome.map(drop),
            };
            taken.map(|()| user)
        };
        let outcomes = race(16, 0..32, presents).await;
        let winners: Vec<&String> = outcomes.iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(world.coupon(code).await.holder.as_ref(), Some(winners[0]));
    }
    world.assert_invariants().await;
}

/// All have read the code as free before one of them takes it.
/// Invariant I-80.
#[tokio::test]
async fn of_users_who_all_have_seen_a_code_free_one_becomes_its_holder() {
    for by in ["redeem", "lock"] {
        let world = World::with(limited_to(2)).await;
        let code = world.insert_codes(1).await.remove(0);
        let presents = race(8, 0..8, async |number| {
            let user = format!("u{number}");
            match by {
                "lock" => world.run_batch(world.lock(&code, &user)).await.outcome.map(drop),
                _ => world.run_batch(world.redeem(&code, &user)).await.outcome.map(drop),
            }
        });
        let outcomes = world.all_at_once_on(&code, 8, presents).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{by}: {outcomes:?}");
        assert_eq!(world.actions(&code).await.len(), 2);
        let quotas: i64 = query_scalar("select count(*) from user_quota where held > 0")
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert_eq!(quotas, 1, "only the holder has used a place");
        world.assert_invariants().await;
    }
}

/// Invariant I-80.
#[tokio::test]
async fn a_user_who_presents_many_codes_at_once_gets_exactly_the_limit() {
    let world = World::with(limited_to(LIMIT)).await;
    let codes = world.insert_codes(200).await;
    let presents = async |(number, code): (usize, &String)| match number % 5 {
        0 => world.run_batch(world.lock(code, "ana")).await.outcome.map(drop),
        1 => world.run_batch(world.named(code, "ana")).await.outcome.map(drop),
        2 => world.run_batch(world.random("ana")).await.outcome.map(drop),
        _ => world.run_batch(world.redeem(code, "ana")).await.outcome.map(drop),
    };
    let outcomes = race(24, codes.iter().enumerate(), presents).await;
    let held: i64 = query_scalar("select count(*) from coupon where holder = 'ana'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(held, i64::from(LIMIT));
    let other: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert!(
        other.iter().all(|rejection| **rejection == Rejection::UserLimitReached { limit: LIMIT }),
        "{other:?}"
    );
    world.assert_invariants().await;
}

/// The statements hold their codes and wait for one quota, which all have read with a place left.
#[tokio::test]
async fn the_last_place_of_a_user_is_used_once() {
    let world = World::with(limited_to(2)).await;
    let codes = world.insert_codes(9).await;
    world.give(&codes[8], "ana").await;
    let mut holding = world.pool().begin().await.unwrap();
    query("select from user_quota for update").execute(&mut *holding).await.unwrap();
    let presents =
        race(4, &codes[..4], async |code| world.run_batch(world.redeem(code, "ana")).await.outcome.map(drop));
    let outcomes = cuponera_testkit::waits_for(world.pool(), 4, holding.rollback(), presents).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    world.assert_invariants().await;
}

/// Invariant I-5.
#[tokio::test]
async fn batches_that_present_the_same_codes_in_opposite_orders_do_not_deadlock() {
    let world = World::with(limited_to(30)).await;
    let codes = world.insert_codes(60).await;
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
    let holders: BTreeSet<String> =
        query_scalar("select distinct holder from coupon where holder is not null")
            .fetch_all(world.pool())
            .await
            .unwrap()
            .into_iter()
            .collect();
    assert_eq!(holders, users.map(str::to_owned).into_iter().collect());
    assert!(redeemed.iter().flatten().any(|answer| answer.outcome.is_ok()));
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}
