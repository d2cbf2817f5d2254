//! Undo: a revoked code is free again, a redemption is rolled back once, and a void code stays void.

mod bulk;
mod races;
mod redemptions;

use cuponera_domain::book::BookRules;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::RedemptionId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::GenerateId;
use cuponera_store::{Call, Redeemed, Revoke, Rollback, Void};
use cuponera_testkit::{CallExt, World, race, rules};

fn revoke(world: &World, code: &str) -> Call<Revoke> {
    let reason = "given by mistake".to_owned();
    world.call(Revoke { code: code.to_owned(), user: None, assignment: None, reason })
}

fn void(world: &World, code: &str) -> Call<Void> {
    world.call(Void { code: code.to_owned(), user: None, only: None, reason: "leaked".to_owned() })
}

fn rollback(world: &World, code: &str, redemption: RedemptionId) -> Call<Rollback> {
    let reason = "goods returned".to_owned();
    world.call(Rollback { redemption, code: code.to_owned(), user: None, reason })
}

async fn redeemed(world: &World, code: &str) -> Redeemed {
    world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap()
}

/// A world where `ana` holds this many codes, each with this many redemptions.
async fn held(count: i32, uses: i32) -> (World, Vec<String>) {
    let world = World::with(BookRules { max_redeems_per_user: uses, ..rules() }).await;
    let codes = world.insert_codes(count).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    (world, codes)
}

#[tokio::test]
async fn a_revoked_code_is_free_and_its_place_in_the_quota_too() {
    let world = World::with(BookRules { max_codes_per_user: Some(1), ..rules() }).await;
    let code = world.insert_codes(1).await.remove(0);
    for _ in 0..3 {
        world.run_batch(world.random("ana")).await.outcome.unwrap();
        assert!(world.run_batch(world.random("ana")).await.outcome.is_err(), "the quota is full");
        let revoked = world.run_batch(revoke(&world, &code)).await.outcome.unwrap();
        assert_eq!((revoked.code.as_str(), revoked.book), (code.as_str(), world.book));
        let coupon = world.coupon(&code).await;
        assert_eq!((coupon.status, coupon.holder, coupon.assigned_at), (CouponStatus::Available, None, None));
        world.assert_invariants().await;
    }
    let counts = world.counts().await;
    assert_eq!((counts.available, counts.given_out()), (1, 0));
    assert_eq!(world.actions(&code).await, ["ASSIGN", "REVOKE", "ASSIGN", "REVOKE", "ASSIGN", "REVOKE"]);
}

#[tokio::test]
async fn a_code_that_is_free_locked_used_or_another_users_is_not_revoked() {
    let (world, codes) = held(5, 2).await;
    let outcome = async |call| world.run_batch(call).await.outcome.unwrap_err();
    let free = world.insert_codes_into(world.book, "FREE", 1).await.remove(0);
    assert_eq!(outcome(revoke(&world, &free)).await, Rejection::NotAssigned);
    let locked = world.locked(&codes[0], "ana").await;
    let until = locked.locked_until;
    assert_eq!(outcome(revoke(&world, &codes[0])).await, Rejection::CouponLocked { locked_until: until });
    let use_of_it = redeemed(&world, &codes[1]).await.redemption;
    assert_eq!(outcome(revoke(&world, &codes[1])).await, Rejection::CouponAlreadyRedeemed);
    world.run_batch(rollback(&world, &codes[1], use_of_it)).await.outcome.unwrap();
    assert_eq!(
        outcome(revoke(&world, &codes[1])).await,
        Rejection::CouponAlreadyRedeemed,
        "it was used once"
    );
    let mut of_eva = revoke(&world, &codes[2]);
    of_eva.ask.user = Some("eva".to_owned());
    assert_eq!(outcome(of_eva).await, Rejection::NotHolder);
    world.run_batch(void(&world, &codes[3])).await.outcome.unwrap();
    assert_eq!(outcome(revoke(&world, &codes[3])).await, Rejection::CouponVoid);
    assert_eq!(outcome(revoke(&world, "NONE")).await, Rejection::not_found("coupon"));
    let elsewhere = revoke(&world, &codes[4]).in_business(world.another_business().await);
    assert_eq!(outcome(elsewhere).await, Rejection::not_found("coupon"));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_job_takes_back_only_its_own_assignment() {
    let (world, codes) = held(1, 1).await;
    let first = world.coupon(&codes[0]).await.assignment;
    world.run_batch(revoke(&world, &codes[0])).await.outcome.unwrap();
    let second = world.give(&codes[0], "ana").await.id;
    let mut call = revoke(&world, &codes[0]);
    call.ask.assignment = first;
    assert_eq!(world.run_batch(call.clone()).await.outcome, Err(Rejection::NotHolder));
    call.ask.assignment = Some(second);
    world.run_batch(call).await.outcome.unwrap();
    world.assert_invariants().await;
}

#[tokio::test]
async fn undo_ends_a_lapsed_lock_first() {
    let (world, codes) = held(2, 1).await;
    for code in &codes {
        world.locked(code, "ana").await;
    }
    world.expire_all_locks().await;
    world.run_batch(revoke(&world, &codes[0])).await.outcome.unwrap();
    world.run_batch(void(&world, &codes[1])).await.outcome.unwrap();
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "EXPIRE", "REVOKE"]);
    assert_eq!(world.actions(&codes[1]).await, ["ASSIGN", "LOCK", "EXPIRE", "VOID"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn two_hundred_rollbacks_of_a_redemption_give_one_use_back() {
    for uses in [1, 3] {
        let (world, codes) = held(1, uses).await;
        let mut redemption = None;
        for _ in 0..uses {
            redemption = Some(redeemed(&world, &codes[0]).await.redemption);
        }
        assert_eq!(world.coupon(&codes[0]).await.status, CouponStatus::Redeemed);
        let call = rollback(&world, &codes[0], redemption.unwrap());
        let answers = race(24, 0..200, async |_| world.run_batch(call.clone()).await.outcome).await;
        let done: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert_eq!(done.len(), 1);
        assert_eq!((done[0].redeem_count, done[0].status), (uses - 1, CouponStatus::Assigned));
        let late = answers.iter().filter(|answer| **answer == Err(Rejection::AlreadyRolledBack)).count();
        assert_eq!(late, 199);
        world.assert_invariants().await;
    }
}

/// Invariant I-51. All have read the redemption as one that stands before one of them rolls it back.
#[tokio::test]
async fn of_eight_rollbacks_that_all_saw_the_redemption_one_succeeds() {
    let (world, codes) = held(1, 3).await;
    redeemed(&world, &codes[0]).await;
    let redemption = redeemed(&world, &codes[0]).await.redemption;
    let call = rollback(&world, &codes[0], redemption);
    let rollbacks = race(8, 0..8, async |_| world.run_batch(call.clone()).await.outcome);
    let answers = world.all_at_once_on(&codes[0], 8, rollbacks).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(world.coupon(&codes[0]).await.redeem_count, 1);
    world.assert_invariants().await;
}

/// Invariant I-52.
#[tokio::test]
async fn a_use_that_is_given_back_can_be_made_again_under_a_new_number() {
    let (world, codes) = held(1, 2).await;
    let first = redeemed(&world, &codes[0]).await;
    let second = redeemed(&world, &codes[0]).await;
    world.run_batch(rollback(&world, &codes[0], second.redemption)).await.outcome.unwrap();
    assert_eq!(world.coupon(&codes[0]).await.redeemed_at, Some(first.redeemed_at));
    let third = redeemed(&world, &codes[0]).await;
    assert_eq!((third.redeem_count, third.is_final()), (2, true));
    let number = |id| world.store().get_redemption(world.business, id);
    assert_eq!(number(third.redemption).await.unwrap().use_number, 3);
    assert!(number(second.redemption).await.unwrap().rolled_back_at.is_some());
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_rollback_leaves_a_lock_and_a_void_code_as_they_are() {
    let (world, codes) = held(2, 3).await;
    let locked_use = redeemed(&world, &codes[0]).await.redemption;
    let locked = world.locked(&codes[0], "ana").await;
    let done = world.run_batch(rollback(&world, &codes[0], locked_use)).await.outcome.unwrap();
    assert_eq!(done.status, CouponStatus::Locked);
    assert_eq!(world.coupon(&codes[0]).await.locked_until, Some(locked.locked_until));
    let void_use = redeemed(&world, &codes[1]).await.redemption;
    world.run_batch(void(&world, &codes[1])).await.outcome.unwrap();
    let done = world.run_batch(rollback(&world, &codes[1], void_use)).await.outcome.unwrap();
    assert_eq!((done.status, done.redeem_count), (CouponStatus::Void, 0));
    world.assert_invariants().await;
}

#[tokio::test]
async fn only_the_redemption_that_is_named_is_rolled_back() {
    let (world, codes) = held(2, 2).await;
    let used = redeemed(&world, &codes[0]).await.redemption;
    let outcome = async |call| world.run_batch(call).await.outcome.unwrap_err();
    let mut of_eva = rollback(&world, &codes[0], used);
    of_eva.ask.user = Some("eva".to_owned());
    assert_eq!(outcome(of_eva).await, Rejection::NotHolder);
    let unknown = rollback(&world, &codes[0], RedemptionId::generate());
    assert_eq!(outcome(unknown).await, Rejection::not_found("redemption"));
    let elsewhere = rollback(&world, &codes[0], used).in_business(world.another_business().await);
    assert_eq!(outcome(elsewhere).await, Rejection::not_found("redemption"));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_void_code_stays_void_and_frees_its_place_in_the_quota() {
    let (world, codes) = held(3, 2).await;
    let free = world.insert_codes_into(world.book, "FREE", 1).await.remove(0);
    redeemed(&world, &codes[1]).await;
    world.locked(&codes[2], "ana").await;
    for code in codes.iter().chain([&free]) {
        assert!(world.run_batch(void(&world, code)).await.outcome.unwrap().version > 0);
        assert_eq!(world.run_batch(void(&world, code)).await.outcome.unwrap().version, 0, "again: no change");
        assert_eq!(world.run_batch(world.lock(code, "ana")).await.outcome, Err(Rejection::CouponVoid));
        assert_eq!(world.run_batch(world.redeem(code, "ana")).await.outcome, Err(Rejection::CouponVoid));
        assert_eq!(
            world.run_batch(world.named(code, "leo")).await.outcome.unwrap_err(),
            Rejection::CouponVoid
        );
    }
    let counts = world.counts().await;
    assert_eq!((counts.void, counts.all()), (4, 4));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_redeemed_code_or_another_users_is_not_voided() {
    let (world, codes) = held(2, 1).await;
    redeemed(&world, &codes[0]).await;
    let outcome = async |call| world.run_batch(call).await.outcome.unwrap_err();
    assert_eq!(outcome(void(&world, &codes[0])).await, Rejection::CouponAlreadyRedeemed);
    let mut of_eva = void(&world, &codes[1]);
    of_eva.ask.user = Some("eva".to_owned());
    assert_eq!(outcome(of_eva).await, Rejection::NotHolder);
    assert_eq!(outcome(void(&world, "NONE")).await, Rejection::not_found("coupon"));
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_undo_under_a_key_is_done_once_and_answered_again() {
    let (world, codes) = held(1, 1).await;
    let used = redeemed(&world, &codes[0]).await.redemption;
    let call = rollback(&world, &codes[0], used).with_key("rollback");
    let first = world.run_batch(call.clone()).await;
    let again = world.run_batch(call).await;
    assert_eq!((first.replayed, again.replayed), (false, true));
    assert_eq!(first.outcome, again.outcome);
    let call = void(&world, &codes[0]).with_key("void");
    assert_eq!(world.run_batch(call.clone()).await.outcome, world.run_batch(call).await.outcome);
    world.assert_invariants().await;
}

/// A code that was ever assigned keeps its book, although it is free again.
#[tokio::test]
async fn a_book_with_a_revoked_or_void_code_is_not_deleted() {
    let (world, codes) = held(1, 1).await;
    world.run_batch(revoke(&world, &codes[0])).await.outcome.unwrap();
    assert_eq!(world.counts().await.given_out(), 0);
    let deleted = world.store().delete_book_if_unused(world.business, "admin:test", world.book).await;
    assert!(matches!(deleted, Err(cuponera_store::Error::Rejected(Rejection::BookInUse))));
    let other = world.another_book(&rules()).await;
    let free = world.insert_codes_into(other, "FREE", 1).await.remove(0);
    world.run_batch(void(&world, &free)).await.outcome.unwrap();
    let deleted = world.store().delete_book_if_unused(world.business, "admin:test", other).await;
    assert!(matches!(deleted, Err(cuponera_store::Error::Rejected(Rejection::BookInUse))));
    world.assert_invariants().await;
}
