//! Creation of single codes, changes of their limits, and suspension.

use cuponera_domain::book::Change;
use cuponera_domain::coupon::limits::CodePatch;
use cuponera_domain::coupon::state::Coupon;
use cuponera_store::NewSharedCode;
use cuponera_testkit::key;
use serde_json::{Value, json};

use super::*;

pub(super) async fn change(world: &World, code: &str, patch: CodePatch) -> Result<Coupon, Rejection> {
    let audit = world.call(()).audit;
    let store = world.store().clone().acting_as(audit.clone());
    store.change_code(None, world.business, code, patch, &audit).await.unwrap().outcome
}

pub(super) fn total(most: i32) -> CodePatch {
    CodePatch { max_redemptions: Change::Set(Some(most)), ..CodePatch::default() }
}

fn suspend(is_suspended: bool) -> CodePatch {
    CodePatch { suspended: Change::Set(is_suspended), ..CodePatch::default() }
}

#[tokio::test]
async fn a_code_is_created_once_in_a_shared_book_only() {
    let world = World::with(shared()).await;
    let new = NewSharedCode {
        book: world.book,
        code: "SUMMER".to_owned(),
        limits: limits(5, 2),
        metadata: Some(json!({"channel": "radio"})),
    };
    let create = async |key, new: &NewSharedCode| {
        world.store().create_shared_code(key, world.business, new).await.unwrap()
    };
    let first = create(Some(key("one", "body")), &new).await;
    let second = create(Some(key("one", "body")), &new).await;
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.outcome, second.outcome);
    let coupon = first.outcome.unwrap();
    assert_eq!((coupon.kind, coupon.status, coupon.metadata), (CodeKind::Shared, CouponStatus::Available, new.metadata.clone()));
    assert_eq!(coupon.shared.unwrap().max_redemptions, Some(5));
    assert_eq!(create(None, &new).await.outcome, Err(Rejection::CodeExists));
    let unique = NewSharedCode { book: world.another_book(&rules()).await, code: "OTHER".to_owned(), ..new.clone() };
    assert!(matches!(create(None, &unique).await.outcome, Err(Rejection::Invalid { .. })));
    let expired = SharedLimits { expires_at: Some(chrono::Utc::now()), ..SharedLimits::default() };
    let expired = NewSharedCode { code: "PAST".to_owned(), limits: expired, ..new.clone() };
    let Err(Rejection::Invalid { faults }) = create(None, &expired).await.outcome else { panic!() };
    assert_eq!(faults[0].field, "expiresAt");
    let next: i32 = query_scalar("select next_position from coupon_book where id = $1")
        .bind(world.book.0)
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(next, 1, "a rejected code takes no position");
    assert_eq!(world.counts().await.available, 1);
    let recorded: Value = query_scalar("select after from admin_event where subject = 'COUPON' and action = 'CREATE'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!((&recorded["maxRedemptions"], &recorded["maxRedeemsPerUser"]), (&json!(5), &json!(2)));
    world.assert_invariants().await;
}

/// Invariant I-89.
#[tokio::test]
async fn limits_are_changed_down_to_the_uses_and_the_status_follows() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(5, 3)).await;
    for _ in 0..2 {
        world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    }
    world.locked("SUMMER", "ana").await;
    world.locked("SUMMER", "eva").await;
    let below = |field: &str, least: i32| {
        Rejection::invalid(field, format!("must be at least {least}, the uses that {} redeemed or locked", match field {
            "maxRedemptions" => "are",
            _ => "a user has",
        }))
    };
    assert_eq!(change(&world, "SUMMER", total(3)).await, Err(below("maxRedemptions", 4)));
    let of_user = |most| CodePatch { max_redeems_per_user: Change::Set(Some(most)), ..CodePatch::default() };
    assert_eq!(change(&world, "SUMMER", of_user(2)).await, Err(below("maxRedeemsPerUser", 3)));
    change(&world, "SUMMER", of_user(3)).await.unwrap();
    change(&world, "SUMMER", total(4)).await.unwrap();
    world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    world.run_batch(world.unlock("SUMMER", "eva")).await.outcome.unwrap();
    let coupon = change(&world, "SUMMER", total(3)).await.unwrap();
    assert_eq!(coupon.status, CouponStatus::Redeemed);
    assert_eq!(world.counts().await.redeemed, 1);
    let coupon = change(&world, "SUMMER", total(9)).await.unwrap();
    assert_eq!((coupon.status, world.counts().await.available), (CouponStatus::Available, 1));
    world.run_batch(world.redeem("SUMMER", "eva")).await.outcome.unwrap();
    let none = CodePatch { max_redemptions: Change::Set(None), ..CodePatch::default() };
    assert_eq!(change(&world, "SUMMER", none).await.unwrap().shared.unwrap().max_redemptions, None);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_change_writes_an_event_and_an_admin_event_and_no_change_writes_none() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(5, 1)).await;
    let patch = CodePatch { suspended: Change::Set(true), ..total(6) };
    change(&world, "SUMMER", patch.clone()).await.unwrap();
    change(&world, "SUMMER", patch).await.unwrap();
    let events = world.store().history(world.business, "SUMMER", None, 10).await.unwrap().items;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].action.as_str(), events[0].actor.as_str()), ("UPDATE", "service:test"));
    assert_eq!(events[0].reason.as_deref(), Some("suspended: false -> true, maxRedemptions: 5 -> 6"));
    let recorded: (Value, Value, String) = query_as(
        "select before, after, actor from admin_event where subject = 'COUPON' and subject_id = 'SUMMER' and action = 'UPDATE'",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!((&recorded.0["maxRedemptions"], &recorded.1["maxRedemptions"]), (&json!(5), &json!(6)));
    assert_eq!((&recorded.1["suspended"], recorded.2.as_str()), (&json!(true), "service:test"));
    world.assert_invariants().await;
}

/// Invariant I-89.
#[tokio::test]
async fn a_suspended_code_of_any_kind_is_neither_locked_nor_redeemed_nor_assigned() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "ana").await;
    let locked = world.locked(&codes[0], "ana").await;
    for code in &codes {
        let coupon = change(&world, code, suspend(true)).await.unwrap();
        assert!(coupon.suspended_at.is_some());
    }
    let suspended = Rejection::CouponSuspended;
    assert_eq!(world.run_batch(world.lock(&codes[0], "ana")).await.outcome, Err(suspended.clone()));
    assert_eq!(world.run_batch(world.redeem(&codes[0], "ana")).await.outcome, Err(suspended.clone()));
    let validated = world.store().validate(&world.redeem(&codes[0], "ana")).await;
    assert!(matches!(validated, Err(Error::Rejected(Rejection::CouponSuspended))), "{validated:?}");
    assert_eq!(world.run_batch(world.named(&codes[1], "eva")).await.outcome, Err(suspended));
    assert_eq!(world.run_batch(world.random("eva")).await.outcome, Err(Rejection::SoldOut));
    world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.unwrap();
    assert!(locked.locked_until > chrono::Utc::now());
    change(&world, &codes[0], suspend(false)).await.unwrap();
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    let limit = change(&world, &codes[1], total(5)).await;
    assert!(matches!(limit, Err(Rejection::Invalid { .. })), "{limit:?}");
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "UPDATE", "UNLOCK", "UPDATE", "REDEEM"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_suspended_shared_code_keeps_its_locks_and_its_own_times_apply() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(5, 1)).await;
    world.locked("SUMMER", "ana").await;
    change(&world, "SUMMER", suspend(true)).await.unwrap();
    let suspended = Rejection::CouponSuspended;
    assert_eq!(world.run_batch(world.redeem("SUMMER", "ana")).await.outcome, Err(suspended.clone()));
    assert_eq!(world.run_batch(world.lock("SUMMER", "eva")).await.outcome, Err(suspended));
    change(&world, "SUMMER", suspend(false)).await.unwrap();
    let later = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let starts = |at| CodePatch { starts_at: Change::Set(at), ..CodePatch::default() };
    change(&world, "SUMMER", starts(Some(later))).await.unwrap();
    assert_eq!(world.run_batch(world.redeem("SUMMER", "eva")).await.outcome, Err(Rejection::CouponNotStarted));
    change(&world, "SUMMER", starts(None)).await.unwrap();
    let past = chrono::Utc::now() - chrono::TimeDelta::hours(1);
    let ends = CodePatch { expires_at: Change::Set(Some(past)), ..CodePatch::default() };
    change(&world, "SUMMER", ends).await.unwrap();
    assert_eq!(world.run_batch(world.redeem("SUMMER", "ana")).await.outcome, Err(Rejection::CouponExpired));
    let unknown = change(&world, "NONE", suspend(true)).await;
    assert_eq!(unknown, Err(Rejection::not_found("coupon")));
    world.run_batch(void(&world, "SUMMER")).await.outcome.unwrap();
    assert_eq!(change(&world, "SUMMER", suspend(true)).await, Err(Rejection::CouponVoid));
    world.assert_invariants().await;
}

/// The counts of a SHARED book do not show its uses.
#[tokio::test]
async fn the_uses_of_each_user_in_a_book_are_only_increased_once_it_has_codes() {
    let world = World::with(BookRules { max_redeems_per_user: 2, ..shared() }).await;
    let to = async |most| {
        let patch = cuponera_domain::book::BookPatch {
            max_redeems_per_user: Change::Set(most),
            ..Default::default()
        };
        world.store().update_book(None, world.business, world.book, patch).await.unwrap().outcome
    };
    to(1).await.unwrap();
    to(2).await.unwrap();
    world.shared("SUMMER", SharedLimits::default()).await;
    assert!(matches!(to(1).await, Err(Rejection::Invalid { .. })));
    to(3).await.unwrap();
}

#[tokio::test]
async fn a_book_with_codes_that_were_never_used_is_deleted() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", SharedLimits::default()).await;
    world.store().delete_book_if_unused(world.business, "admin:test", world.book).await.unwrap();
    assert!(world.store().get_coupon(world.business, "SUMMER").await.is_err());
    let world = World::with(shared()).await;
    world.shared("SUMMER", SharedLimits::default()).await;
    world.locked("SUMMER", "ana").await;
    let used = world.store().delete_book_if_unused(world.business, "admin:test", world.book).await;
    assert!(matches!(used, Err(Error::Rejected(Rejection::BookInUse))), "{used:?}");
    world.assert_invariants().await;
}
