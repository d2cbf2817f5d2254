//! Batches in which a code occurs many times, alone and with codes of other books.

use std::time::{Duration, Instant};

use cuponera_store::{AttemptResult, NewSharedCode};
use cuponera_testkit::{bound, key};

use super::settings::change;
use super::*;

/// Invariant I-87.
#[tokio::test]
async fn a_batch_has_many_calls_of_one_code_and_writes_its_row_once() {
    let world = World::with(BookRules { max_redeems_per_user: 2, ..shared() }).await;
    world.shared("HOT", limits(50, 2)).await;
    let calls: Vec<_> = (0..64).map(|number| world.redeem("HOT", &format!("user-{}", number % 30))).collect();
    let answers = world.store().run_batch(&calls).await.unwrap();
    let transactions: i64 =
        query_scalar("select count(distinct tx) from coupon_event").fetch_one(world.pool()).await.unwrap();
    assert_eq!(transactions, 1);
    let numbers: Vec<_> = answers.iter().filter_map(|answer| answer.outcome.as_ref().ok()).map(|done| done.redeem_count).collect();
    assert_eq!(numbers, (1..=50).collect::<Vec<_>>(), "in the order of the calls");
    let times: i64 = query_scalar("select count(distinct at) from redemption").fetch_one(world.pool()).await.unwrap();
    assert_eq!(times, 50, "a redemption and its event are found by their time");
    let versions: Vec<i32> = log(&world, "HOT").await.into_iter().map(|event| event.0).collect();
    assert_eq!(versions, (1..=50).collect::<Vec<_>>());
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_call_that_one_limit_rejects_takes_nothing_from_another() {
    let world = World::with(BookRules { max_codes_per_user: Some(1), ..shared() }).await;
    world.shared("AAA", limits(1, 1)).await;
    world.shared("BBB", limits(5, 1)).await;
    world.run_batch(world.redeem("AAA", "max")).await.outcome.unwrap();
    // AAA is used up, so it does not count as the one code of ana.
    let calls = [world.redeem("AAA", "ana"), world.redeem("BBB", "ana"), world.redeem("BBB", "ana")];
    let answers = world.store().run_batch(&calls).await.unwrap();
    let outcomes: Vec<_> = answers.into_iter().map(|answer| answer.outcome.map(drop)).collect();
    let expected = [
        Err(Rejection::CouponAlreadyRedeemed),
        Ok(()),
        Err(Rejection::RedeemLimitReached { limit: 1 }),
    ];
    assert_eq!(outcomes, expected);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_batch_has_codes_of_all_kinds() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(2, 1)).await;
    let unique = world.another_book(&rules()).await;
    let codes = world.insert_codes_into(unique, "U", 3).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    for round in 0..2 {
        let calls = [
            world.redeem(&codes[round], "ana").with_key(&format!("unique {round}")),
            world.redeem("SUMMER", &format!("ana {round}")).with_key(&format!("shared {round}")),
            world.redeem("NONE", "ana"),
            world.redeem("SUMMER", &format!("ana {round}")).with_key(&format!("shared {round}")),
            world.redeem(&codes[round], "ana"),
        ];
        let answers = world.store().run_batch(&calls).await.unwrap();
        let replayed: Vec<_> = answers.iter().map(|answer| answer.replayed).collect();
        assert_eq!(replayed, [false, false, false, true, false]);
        let done: Vec<_> = answers.iter().map(|answer| answer.outcome.is_ok()).collect();
        assert_eq!(done, [true, true, false, true, false]);
    }
    world.assert_invariants().await;
}

/// A rejection is stored under its key, and a call under a key of another request is rejected.
#[tokio::test]
async fn answers_under_keys_are_stored_as_for_other_codes() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(1, 1)).await;
    let first = world.run_batch(world.redeem("SUMMER", "ana").with_key("one")).await;
    let second = world.run_batch(world.redeem("SUMMER", "ana").with_key("one")).await;
    assert_eq!((first.outcome.clone(), second.replayed), (second.outcome, true));
    let other = world.redeem("SUMMER", "ana").with_request_key(key("one", "other body"));
    assert_eq!(world.run_batch(other).await.outcome, Err(Rejection::KeyReused));
    let rejected = world.run_batch(world.redeem("SUMMER", "eva").with_key("two")).await;
    assert_eq!((rejected.outcome, rejected.replayed), (Err(Rejection::CouponAlreadyRedeemed), false));
    change(&world, "SUMMER", settings::total(5)).await.unwrap();
    let stored = world.run_batch(world.redeem("SUMMER", "eva").with_key("two")).await;
    assert_eq!((stored.outcome, stored.replayed), (Err(Rejection::CouponAlreadyRedeemed), true));
    world.assert_invariants().await;
}

/// The store remembers which codes are SHARED. A code may be created again in another book.
#[tokio::test]
async fn a_code_that_is_shared_no_longer_is_used_as_what_it_is() {
    let world = World::new().await;
    let book = world.another_book(&shared()).await;
    let new = NewSharedCode {
        book,
        code: "C000000".to_owned(),
        limits: SharedLimits::default(),
        metadata: None,
    };
    world.store().create_shared_code(None, world.business, &new).await.unwrap().outcome.unwrap();
    world.run_batch(world.unlock("C000000", "ana")).await.outcome.unwrap();
    world.store().delete_book_if_unused(world.business, "admin:test", book).await.unwrap();
    let gone = world.run_batch(world.redeem("C000000", "ana")).await.outcome;
    assert_eq!(gone, Err(Rejection::not_found("coupon")));
    world.insert_codes(1).await;
    world.give("C000000", "ana").await;
    let redeemed = world.run_batch(world.redeem("C000000", "ana")).await.outcome.unwrap();
    assert!(!redeemed.is_shared);
    world.assert_invariants().await;
}

/// A code that a long transaction holds is busy; the others of its batch are not.
#[tokio::test]
async fn a_held_code_does_not_delay_the_others_of_its_batch() {
    let world = World::with(shared()).await;
    for code in ["AAA", "BBB", "CCC"] {
        world.shared(code, SharedLimits::default()).await;
        world.run_batch(world.unlock(code, "ana")).await.outcome.unwrap();
    }
    let mut holding = world.pool().begin().await.unwrap();
    sqlx::query("select from coupon where code in ('AAA', 'BBB') for update").execute(&mut *holding).await.unwrap();
    let calls = ["AAA", "BBB", "CCC"].map(|code| world.redeem(code, "ana"));
    let begun = Instant::now();
    let tried = world.store().try_each(&calls).await;
    let is_busy: Vec<_> = tried.iter().map(|tried| matches!(tried, AttemptResult::Busy)).collect();
    assert_eq!(is_busy, [true, true, false]);
    let [promised, telling] = [600, 1_500].map(Duration::from_millis);
    assert!(begun.elapsed() < bound(promised, telling), "{:?}", begun.elapsed());
    holding.rollback().await.unwrap();
    let answers = world.store().run_batch(&calls).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.outcome.is_ok()).count(), 2);
    world.assert_invariants().await;
}

/// A code of a job that did not know SHARED codes has no counters. Its first use adds them.
#[tokio::test]
async fn a_code_without_counters_gets_them_with_its_first_use() {
    let world = World::with(shared()).await;
    let code = world.insert_codes(1).await.remove(0);
    world.locked(&code, "ana").await;
    world.run_batch(world.redeem(&code, "eva")).await.outcome.unwrap();
    let counters: (Option<i32>, Option<i32>) =
        query_as("select lock_count, last_use from coupon").fetch_one(world.pool()).await.unwrap();
    assert_eq!(counters, (Some(1), Some(1)));
    world.assert_invariants().await;
}
