//! Redemption: exactly as often as the book allows.

use cuponera_domain::book::{BookPatch, BookRules, BookStatus, Change};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::{CallResult, Redeemed};
use cuponera_testkit::{World, race, rules};

/// A world where `ana` holds one code with this many redemptions.
async fn good_for(uses: i32) -> (World, String) {
    of(BookRules { max_redeems_per_user: uses, ..rules() }).await
}

async fn of(rules: BookRules) -> (World, String) {
    let world = World::with(rules).await;
    let code = world.insert_codes(1).await.remove(0);
    world.give(&code, "ana").await;
    (world, code)
}

fn uses(answers: &[CallResult<Redeemed>]) -> Vec<i32> {
    let mut uses: Vec<i32> = answers
        .iter()
        .filter_map(|answer| answer.outcome.as_ref().ok())
        .map(|used| used.redeem_count)
        .collect();
    uses.sort_unstable();
    uses
}

fn used_up(answers: &[CallResult<Redeemed>]) -> usize {
    answers.iter().filter(|answer| answer.outcome == Err(Rejection::CouponAlreadyRedeemed)).count()
}

#[tokio::test]
async fn two_hundred_racers_redeem_a_code_as_often_as_it_is_good_for() {
    for most in [1, 3] {
        let (world, code) = good_for(most).await;
        let answers = race(24, 0..200, async |_| world.run_batch(world.redeem(&code, "ana")).await).await;
        assert_eq!(uses(&answers), (1..=most).collect::<Vec<_>>());
        assert_eq!(used_up(&answers), 200 - uses(&answers).len());
        let last =
            answers.iter().filter_map(|answer| answer.outcome.as_ref().ok()).filter(|used| used.is_final());
        assert_eq!(last.count(), 1);
        assert_eq!(world.coupon(&code).await.status, CouponStatus::Redeemed);
        world.assert_invariants().await;
    }
}

/// Invariant I-2.
#[tokio::test]
async fn of_eight_who_all_saw_a_use_left_as_many_use_it_as_there_are_uses() {
    let (world, code) = good_for(3).await;
    let redeems = race(8, 0..8, async |_| world.run_batch(world.redeem(&code, "ana")).await);
    let answers = world.all_at_once_on(&code, 8, redeems).await;
    assert_eq!((uses(&answers), used_up(&answers)), (vec![1, 2, 3], 5));
    world.assert_invariants().await;
}

/// Invariant I-1.
#[tokio::test]
async fn one_batch_may_name_a_code_as_often_as_it_likes() {
    let (world, code) = good_for(45).await;
    let calls: Vec<_> = (0..64).map(|_| world.redeem(&code, "ana")).collect();
    let answers = world.store().run_batch(&calls).await.unwrap();
    assert_eq!(uses(&answers), (1..=45).collect::<Vec<_>>());
    assert_eq!(used_up(&answers), 19);
    world.assert_invariants().await;
}

/// When the coupon in the middle becomes free, each batch would hold half of the coupons and wait for the other batch,
/// if it locked them in its own order.
/// Invariant I-5.
#[tokio::test]
async fn batches_that_name_the_same_codes_in_opposite_orders_do_not_deadlock() {
    let world = World::with(BookRules { max_redeems_per_user: 2, ..rules() }).await;
    let codes = world.insert_codes(21).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    let forward: Vec<_> = codes.iter().map(|code| world.redeem(code, "ana")).collect();
    let backward: Vec<_> = forward.iter().rev().cloned().collect();
    let redeems = race(2, [&forward, &backward], async |batch| world.store().run_batch(batch).await.unwrap());
    let answers: Vec<_> = world.all_at_once_on(&codes[10], 2, redeems).await.into_iter().flatten().collect();
    assert_eq!(uses(&answers).len(), 42);
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

#[tokio::test]
async fn redeeming_twice_with_a_reference_is_one_redemption() {
    let (world, code) = good_for(1).await;
    let mut call = world.redeem(&code, "ana");
    call.ask.reference = Some("sale 7".to_owned());
    call.ask.metadata = Some(serde_json::json!({ "till": 3 }));
    assert!(world.run_batch(call.clone()).await.outcome.unwrap().is_final());
    assert!(world.run_batch(call).await.outcome.unwrap().replayed);
    let without = world.redeem(&code, "ana");
    assert_eq!(world.run_batch(without).await.outcome, Err(Rejection::CouponAlreadyRedeemed));
    let kept: (String, serde_json::Value) =
        sqlx::query_as("select reference, metadata from redemption").fetch_one(world.pool()).await.unwrap();
    assert_eq!(kept, ("sale 7".to_owned(), serde_json::json!({ "till": 3 })));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_use_that_is_not_the_last_clears_the_lock() {
    let (world, code) = good_for(2).await;
    world.locked(&code, "ana").await;
    world.run_batch(world.redeem(&code, "ana")).await.outcome.unwrap();
    let coupon = world.coupon(&code).await;
    assert_eq!((coupon.status, coupon.locked_until, coupon.redeem_count), (CouponStatus::Assigned, None, 1));
    world.assert_invariants().await;
}

#[tokio::test]
async fn where_the_book_wants_a_lock_there_is_no_redemption_without_one() {
    let (world, code) = of(BookRules { require_lock: true, ..rules() }).await;
    let redeem = async || world.run_batch(world.redeem(&code, "ana")).await.outcome;
    assert_eq!(redeem().await, Err(Rejection::LockRequired), "never locked");
    world.locked(&code, "ana").await;
    world.expire_all_locks().await;
    assert_eq!(redeem().await, Err(Rejection::LockExpired), "expired, not swept");
    world.store().expire_locks(10).await.unwrap();
    assert_eq!(redeem().await, Err(Rejection::LockExpired), "expired and swept");
    world.locked(&code, "ana").await;
    world.run_batch(world.unlock(&code, "ana")).await.outcome.unwrap();
    assert_eq!(redeem().await, Err(Rejection::LockRequired), "released by the holder");
    world.locked(&code, "ana").await;
    assert!(redeem().await.unwrap().is_final());
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_book_that_is_paused_lets_nothing_be_locked_or_redeemed() {
    let (world, code) = good_for(1).await;
    let paused = BookPatch { status: Change::Set(BookStatus::Paused), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, paused).await.unwrap().outcome.unwrap();
    assert_eq!(world.run_batch(world.redeem(&code, "ana")).await.outcome, Err(Rejection::BookNotActive));
    assert_eq!(world.run_batch(world.lock(&code, "ana")).await.outcome, Err(Rejection::BookNotActive));
    world.assert_invariants().await;
}

#[tokio::test]
async fn validating_says_what_redeeming_would_and_changes_nothing() {
    let (world, code) = of(BookRules { require_lock: true, ..rules() }).await;
    let validate = async || world.store().validate(&world.redeem(&code, "ana")).await;
    assert!(matches!(validate().await, Err(Error::Rejected(Rejection::LockRequired))));
    world.locked(&code, "ana").await;
    validate().await.unwrap();
    validate().await.unwrap();
    assert_eq!(world.coupon(&code).await.redeem_count, 0);
    world.run_batch(world.redeem(&code, "ana")).await.outcome.unwrap();
    assert!(matches!(validate().await, Err(Error::Rejected(Rejection::CouponAlreadyRedeemed))));
    world.assert_invariants().await;
}
