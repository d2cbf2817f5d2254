//! Lifetimes: a code expires some days after its assignment, and not when its book changes.

use chrono::TimeDelta;
use cuponera_domain::book::{BookPatch, BookRules, Change};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::{Call, Lock, Revoke, Rollback, Void};
use cuponera_testkit::{World, rules};
use sqlx::query;

async fn world(days: Option<i32>) -> (World, Vec<String>) {
    let limits =
        BookRules { code_valid_days: days, max_codes_per_user: Some(4), max_redeems_per_user: 2, ..rules() };
    let world = World::with(limits).await;
    let codes = world.insert_codes(4).await;
    (world, codes)
}

/// Moves the expiry of all assigned codes to the past, with the ends of their locks.
async fn let_codes_expire(world: &World) {
    world.expire_all_locks().await;
    let past = "update coupon set expires_at = now() - interval '1 second' where expires_at is not null";
    query(past).execute(world.pool()).await.unwrap();
}

#[tokio::test]
async fn each_assignment_fixes_the_expiry_of_its_code() {
    let (world, codes) = world(Some(30)).await;
    let named = world.give(&codes[0], "ana").await;
    let coupon = world.coupon(&codes[0]).await;
    assert_eq!(coupon.expires_at, Some(named.assigned_at + TimeDelta::hours(30 * 24)));
    let random = world.run_batch(world.random("ana")).await.outcome.unwrap();
    let expires_at = world.coupon(&random.code).await.expires_at;
    assert_eq!(expires_at, Some(random.assigned_at + TimeDelta::hours(30 * 24)));
    let patch = BookPatch { code_valid_days: Change::Set(Some(1)), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, patch).await.unwrap().outcome.unwrap();
    assert_eq!(world.coupon(&random.code).await.expires_at, expires_at, "a change concerns later codes");
    let later = world.run_batch(world.random("ana")).await.outcome.unwrap();
    let expires_at = world.coupon(&later.code).await.expires_at;
    assert_eq!(expires_at, Some(later.assigned_at + TimeDelta::hours(24)));
    let never = BookPatch { code_valid_days: Change::Set(None), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, never).await.unwrap().outcome.unwrap();
    let last = world.run_batch(world.random("ana")).await.outcome.unwrap();
    assert_eq!(world.coupon(&last.code).await.expires_at, None);
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_expired_code_cannot_be_used_but_undone_and_keeps_its_place_in_the_quota() {
    let (world, codes) = world(Some(1)).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    let used = world.run_batch(world.redeem(&codes[1], "ana")).await.outcome.unwrap().redemption;
    world.locked(&codes[2], "ana").await;
    let_codes_expire(&world).await;
    assert_eq!(world.run_batch(world.lock(&codes[0], "ana")).await.outcome, Err(Rejection::CouponExpired));
    assert_eq!(world.run_batch(world.redeem(&codes[2], "ana")).await.outcome, Err(Rejection::CouponExpired));
    let validated = world.store().validate(&world.redeem(&codes[0], "ana")).await;
    assert!(matches!(validated, Err(Error::Rejected(Rejection::CouponExpired))));
    let more = world.insert_codes_into(world.book, "MORE", 1).await;
    let refused = world.run_batch(world.named(&more[0], "ana")).await.outcome.unwrap_err();
    assert_eq!(refused, Rejection::UserLimitReached { limit: 4 });
    world.run_batch(world.unlock(&codes[2], "ana")).await.outcome.unwrap();
    let reason = "test".to_owned();
    let rollback = Rollback { redemption: used, code: codes[1].clone(), user: None, reason: reason.clone() };
    world.run_batch(world.call(rollback)).await.outcome.unwrap();
    let revoke = Revoke { code: codes[0].clone(), user: None, assignment: None, reason: reason.clone() };
    world.run_batch(world.call(revoke)).await.outcome.unwrap();
    assert_eq!(world.coupon(&codes[0]).await.expires_at, None);
    let void = Void { code: codes[2].clone(), user: None, only: None, reason };
    world.run_batch(world.call(void)).await.outcome.unwrap();
    assert_eq!(world.coupon(&codes[2]).await.status, CouponStatus::Void);
    world.give(&codes[0], "ana").await;
    assert!(world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.is_ok(), "assigned anew");
    world.assert_invariants().await;
}

#[tokio::test]
async fn no_lock_outlives_its_code() {
    let (world, codes) = world(Some(1)).await;
    world.give(&codes[0], "ana").await;
    let soon = "update coupon set expires_at = now() + interval '100 seconds' where holder is not null";
    query(soon).execute(world.pool()).await.unwrap();
    let lock = |ttl| -> Call<Lock> {
        world.call(Lock { code: codes[0].clone(), user: "ana".into(), ttl_seconds: Some(ttl), amount: None })
    };
    let expires_at = world.coupon(&codes[0]).await.expires_at.unwrap();
    let short = world.run_batch(lock(10)).await.outcome.unwrap();
    assert!(short.locked_until < expires_at);
    let long = world.run_batch(lock(3_600)).await.outcome.unwrap();
    assert_eq!((long.lock, long.locked_until), (short.lock, expires_at));
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_expiry_of_the_book_is_checked_first() {
    let (world, codes) = world(Some(1)).await;
    world.give(&codes[0], "ana").await;
    let_codes_expire(&world).await;
    let past = chrono::Utc::now() - TimeDelta::hours(1);
    let patch = BookPatch { expires_at: Change::Set(Some(past)), ..BookPatch::default() };
    world.store().update_book(None, world.business, world.book, patch).await.unwrap().outcome.unwrap();
    assert_eq!(world.run_batch(world.lock(&codes[0], "ana")).await.outcome, Err(Rejection::BookExpired));
    assert_eq!(world.run_batch(world.redeem(&codes[0], "ana")).await.outcome, Err(Rejection::BookExpired));
    let over = BookRules { expires_at: Some(past), ..rules() };
    let created = world.store().create_book(None, world.business, &over).await.unwrap();
    assert_eq!(created.outcome.unwrap_err().code(), "invalid");
}

#[tokio::test]
async fn a_clone_has_the_rules_without_the_times_that_have_passed() {
    let (world, _) = world(Some(7)).await;
    let (past, ahead) = (chrono::Utc::now() - TimeDelta::days(1), chrono::Utc::now() + TimeDelta::days(1));
    let patch = BookPatch {
        starts_at: Change::Set(Some(past)),
        expires_at: Change::Set(Some(ahead)),
        ..BookPatch::default()
    };
    world.store().update_book(None, world.business, world.book, patch).await.unwrap().outcome.unwrap();
    let clone = world.store().clone_book(None, world.business, world.book, None).await.unwrap();
    let clone = clone.outcome.unwrap();
    assert_eq!(clone.rules.name, "A book (copy)");
    assert_eq!((clone.rules.code_valid_days, clone.rules.max_codes_per_user), (Some(7), Some(4)));
    assert_eq!((clone.rules.starts_at, clone.rules.expires_at.is_some()), (None, true));
    assert_eq!(clone.counts.all(), 0);
    let long = "x".repeat(200);
    let named = world.store().clone_book(None, world.business, clone.id, Some(long.clone())).await.unwrap();
    let named = named.outcome.unwrap();
    assert_eq!(named.rules.name, long);
    let again =
        world.store().clone_book(None, world.business, named.id, None).await.unwrap().outcome.unwrap();
    assert_eq!((again.rules.name.chars().count(), again.rules.name.ends_with("x (copy)")), (200, true));
    let elsewhere = world.another_business().await;
    let foreign = world.store().clone_book(None, elsewhere, world.book, None).await.unwrap();
    assert_eq!(foreign.outcome.unwrap_err(), Rejection::not_found("coupon book"));
}
