//! BEARER books: the user who locks or redeems a free code becomes its holder, in the same statement.

mod kind;
mod races;

use chrono::TimeDelta;
use cuponera_domain::book::{BookRules, CodeKind};
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Call, Error, Presenter, Redeem, Revoke};
use cuponera_testkit::{CallExt, World, rules};
use sqlx::{query, query_as, query_scalar};

/// The rules of a BEARER book without limits.
pub(crate) fn bearer() -> BookRules {
    BookRules { code_kind: CodeKind::Bearer, ..rules() }
}

/// A BEARER book with this limit of each user.
fn limited_to(codes: i32) -> BookRules {
    BookRules { max_codes_per_user: Some(codes), ..bearer() }
}

/// A redemption without a user.
fn without_user(world: &World, code: &str) -> Call<Redeem> {
    let mut call = world.redeem(code, "");
    call.ask.presenter = Presenter::Bearer;
    call
}

fn revoke(world: &World, code: &str) -> Call<Revoke> {
    world.call(Revoke { code: code.to_owned(), user: None, assignment: None, reason: "a reason".to_owned() })
}

/// Versions, actions and users of a coupon's events, in the order of the log.
async fn log(world: &World, code: &str) -> Vec<(i32, String, String)> {
    query_as(
        "select e.version, e.action, e.user_id from coupon_event e join coupon c using (book_id, position)
         where c.code = $1 order by e.epoch, e.tx, e.id",
    )
    .bind(code)
    .fetch_all(world.pool())
    .await
    .unwrap()
}

fn event(version: i32, action: &str, user: &str) -> (i32, String, String) {
    (version, action.to_owned(), user.to_owned())
}

/// Invariant I-80.
#[tokio::test]
async fn redeeming_a_free_code_first_assigns_it_to_its_presenter() {
    let world = World::with(BookRules { code_valid_days: Some(30), ..bearer() }).await;
    let codes = world.insert_codes(3).await;
    let redeemed = world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    assert_eq!((redeemed.version, redeemed.is_final()), (2, true));
    assert_eq!(log(&world, &codes[0]).await, [event(1, "ASSIGN", "ana"), event(2, "REDEEM", "ana")]);
    let coupon = world.coupon(&codes[0]).await;
    assert_eq!((coupon.status, coupon.holder.as_deref()), (CouponStatus::Redeemed, Some("ana")));
    assert_eq!(coupon.assigned_at, coupon.redeemed_at);
    assert_eq!(coupon.expires_at, Some(redeemed.redeemed_at + TimeDelta::hours(30 * 24)));
    assert!(coupon.assignment.is_some());
    let counts = world.counts().await;
    assert_eq!((counts.available, counts.assigned, counts.redeemed), (2, 0, 1));
    let again = world.run_batch(world.redeem(&codes[0], "eva")).await.outcome;
    assert_eq!(again, Err(Rejection::NotHolder));
    world.assert_invariants().await;
}

/// Invariant I-80.
#[tokio::test]
async fn locking_a_free_code_first_assigns_it_to_its_presenter() {
    let world = World::with(BookRules { require_lock: true, code_valid_days: Some(1), ..bearer() }).await;
    let codes = world.insert_codes(2).await;
    let redeem = world.run_batch(world.redeem(&codes[0], "ana")).await.outcome;
    assert_eq!(redeem, Err(Rejection::LockRequired), "a free code has no lock");
    let locked = world.locked(&codes[0], "ana").await;
    assert_eq!(locked.version, 2);
    assert_eq!(log(&world, &codes[0]).await, [event(1, "ASSIGN", "ana"), event(2, "LOCK", "ana")]);
    let coupon = world.coupon(&codes[0]).await;
    assert_eq!((coupon.status, coupon.holder.as_deref()), (CouponStatus::Locked, Some("ana")));
    assert_eq!(coupon.expires_at, Some(locked.locked_at + TimeDelta::hours(24)));
    let counts = world.counts().await;
    assert_eq!((counts.available, counts.assigned, counts.locked), (1, 0, 1));
    assert!(matches!(
        world.run_batch(world.lock(&codes[0], "eva")).await.outcome,
        Err(Rejection::CouponLocked { .. })
    ));
    world.run_batch(world.unlock(&codes[0], "ana")).await.outcome.unwrap();
    assert_eq!(world.run_batch(world.lock(&codes[0], "eva")).await.outcome, Err(Rejection::NotHolder));
    world.locked(&codes[0], "ana").await;
    world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "UNLOCK", "LOCK", "REDEEM"]);
    world.assert_invariants().await;
}

/// A batch has events of one, two and no effects; the ids of all are in the order of the versions.
#[tokio::test]
async fn the_events_of_a_batch_are_in_the_order_of_the_versions() {
    let world = World::with(BookRules { max_redeems_per_user: 3, ..bearer() }).await;
    let codes = world.insert_codes(40).await;
    for code in &codes[..10] {
        world.locked(code, "ana").await;
    }
    world.expire_all_locks().await;
    for _ in 0..3 {
        let calls: Vec<_> = codes.iter().map(|code| world.redeem(code, "ana")).collect();
        assert!(world.store().run_batch(&calls).await.unwrap().iter().all(|answer| answer.outcome.is_ok()));
    }
    for code in &codes {
        let versions: Vec<i32> = log(&world, code).await.into_iter().map(|event| event.0).collect();
        assert!(versions.is_sorted(), "{code}: {versions:?}");
    }
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "LOCK", "EXPIRE", "REDEEM", "REDEEM", "REDEEM"]);
    assert_eq!(world.actions(&codes[39]).await, ["ASSIGN", "REDEEM", "REDEEM", "REDEEM"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_code_that_is_redeemed_without_a_user_belongs_to_its_bearer() {
    let world = World::with(BookRules { max_redeems_per_user: 3, ..limited_to(1) }).await;
    let codes = world.insert_codes(2).await;
    for (code, uses) in [(&codes[0], 1), (&codes[1], 1), (&codes[0], 2)] {
        let redeemed = world.run_batch(without_user(&world, code)).await.outcome.unwrap();
        assert_eq!(redeemed.redeem_count, uses);
    }
    assert_eq!(world.coupon(&codes[0]).await.holder.as_deref(), Some("bearer:C000000"));
    assert_eq!(world.run_batch(world.redeem(&codes[0], "ana")).await.outcome, Err(Rejection::NotHolder));
    let holder: String =
        query_scalar("select distinct user_id from redemption where code = $1 group by user_id")
            .bind(&codes[0])
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!(holder, "bearer:C000000");
    let mut with_reference = without_user(&world, &codes[1]);
    with_reference.ask.reference = Some("sale 7".to_owned());
    let first = world.run_batch(with_reference.clone()).await.outcome.unwrap();
    let second = world.run_batch(with_reference).await.outcome.unwrap();
    assert_eq!((first.redemption, second.replayed), (second.redemption, true));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_code_that_a_user_holds_is_not_redeemed_without_a_user() {
    let world = World::with(bearer()).await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "ana").await;
    assert_eq!(world.run_batch(without_user(&world, &codes[0])).await.outcome, Err(Rejection::NotHolder));
    world.locked(&codes[1], "ana").await;
    let locked = world.run_batch(without_user(&world, &codes[1])).await.outcome;
    assert!(matches!(locked, Err(Rejection::CouponLocked { .. })), "{locked:?}");
    world.assert_invariants().await;
}

/// The answer is not stored: the request is corrected with a user, as after other invalid fields.
#[tokio::test]
async fn a_code_of_a_unique_book_is_not_redeemed_without_a_user_and_not_presented() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "bearer:C000000").await;
    for code in &codes {
        let call = without_user(&world, code).with_key(code);
        let rejected = world.run_batch(call).await.outcome.unwrap_err();
        let Rejection::Invalid { faults } = &rejected else { panic!("{rejected:?}") };
        assert_eq!(faults[0].field, "userId");
        let validated = world.store().validate(&without_user(&world, code)).await;
        assert!(matches!(validated, Err(Error::Rejected(Rejection::Invalid { .. }))), "{validated:?}");
    }
    let stored: i64 = query_scalar("select count(*) from request_key").fetch_one(world.pool()).await.unwrap();
    assert_eq!(stored, 0);
    assert_eq!(world.run_batch(world.redeem(&codes[1], "ana")).await.outcome, Err(Rejection::NotAssigned));
    assert_eq!(world.run_batch(world.lock(&codes[1], "ana")).await.outcome, Err(Rejection::NotAssigned));
    let unknown = world.run_batch(without_user(&world, "NONE")).await.outcome;
    assert_eq!(unknown, Err(Rejection::not_found("coupon")));
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_limit_of_a_user_counts_assigned_locked_and_redeemed_codes_alike() {
    let world = World::with(limited_to(3)).await;
    let codes = world.insert_codes(8).await;
    world.give(&codes[0], "ana").await;
    world.locked(&codes[1], "ana").await;
    world.run_batch(world.redeem(&codes[2], "ana")).await.outcome.unwrap();
    let limit = Rejection::UserLimitReached { limit: 3 };
    assert_eq!(world.run_batch(world.redeem(&codes[3], "ana")).await.outcome, Err(limit.clone()));
    assert_eq!(world.run_batch(world.lock(&codes[3], "ana")).await.outcome, Err(limit.clone()));
    assert_eq!(world.run_batch(world.random("ana")).await.outcome, Err(limit.clone()));
    let validated = world.store().validate(&world.redeem(&codes[3], "ana")).await;
    assert!(matches!(validated, Err(Error::Rejected(Rejection::UserLimitReached { limit: 3 }))));
    world.run_batch(revoke(&world, &codes[0])).await.outcome.unwrap();
    let batch: Vec<_> = codes[3..].iter().map(|code| world.redeem(code, "ana")).collect();
    let answers = world.store().run_batch(&batch).await.unwrap();
    assert_eq!(answers.iter().filter(|answer| answer.outcome.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.outcome == Err(limit.clone())).count(), 4);
    world.run_batch(world.redeem(&codes[0], "eva")).await.outcome.unwrap();
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN", "REVOKE", "ASSIGN", "REDEEM"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_end_user_presents_free_codes_and_sees_no_codes_of_others() {
    let world = World::with(limited_to(2)).await;
    let codes = world.insert_codes(4).await;
    let hidden = Err(Rejection::not_found("coupon"));
    world.store().validate(&world.redeem(&codes[0], "ana").by_end_user()).await.unwrap();
    world.run_batch(world.lock(&codes[0], "ana").by_end_user()).await.outcome.unwrap();
    world.run_batch(world.redeem(&codes[1], "ana").by_end_user()).await.outcome.unwrap();
    let at_limit = world.run_batch(world.redeem(&codes[2], "ana").by_end_user()).await.outcome;
    assert_eq!(at_limit, Err(Rejection::UserLimitReached { limit: 2 }));
    let free = world.run_batch(world.unlock(&codes[2], "ana").by_end_user()).await.outcome.map(drop);
    assert_eq!(free, Err(Rejection::NotAssigned));
    for code in &codes[..2] {
        assert_eq!(world.run_batch(world.redeem(code, "eva").by_end_user()).await.outcome.map(drop), hidden);
        assert_eq!(world.run_batch(world.lock(code, "eva").by_end_user()).await.outcome.map(drop), hidden);
    }
    query("update coupon set status = 'VOID', version = 1 where code = $1")
        .bind(&codes[3])
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(world.run_batch(world.redeem(&codes[3], "eva").by_end_user()).await.outcome.map(drop), hidden);
    assert_eq!(world.run_batch(world.redeem(&codes[3], "eva")).await.outcome, Err(Rejection::CouponVoid));
}

#[tokio::test]
async fn a_reserved_code_is_not_presented() {
    let world = World::with(bearer()).await;
    let code = world.insert_codes(1).await.remove(0);
    query("update coupon set reserved_by = gen_random_uuid()").execute(world.pool()).await.unwrap();
    assert_eq!(world.run_batch(world.redeem(&code, "ana")).await.outcome, Err(Rejection::CouponReserved));
    assert_eq!(world.run_batch(world.lock(&code, "ana")).await.outcome, Err(Rejection::CouponReserved));
    assert_eq!(world.run_batch(without_user(&world, &code)).await.outcome, Err(Rejection::CouponReserved));
    assert_eq!(world.coupon(&code).await.status, CouponStatus::Available);
}

#[tokio::test]
async fn a_presented_code_is_redeemed_once_for_a_key_and_rolled_back_to_its_holder() {
    let world = World::with(bearer()).await;
    let code = world.insert_codes(1).await.remove(0);
    let call = world.redeem(&code, "ana").with_key("one");
    let first = world.run_batch(call.clone()).await;
    let second = world.run_batch(call).await;
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.outcome, second.outcome);
    let rollback = cuponera_store::Rollback {
        redemption: first.outcome.unwrap().redemption,
        code: code.clone(),
        user: None,
        reason: "returned".to_owned(),
    };
    world.run_batch(world.call(rollback)).await.outcome.unwrap();
    let coupon = world.coupon(&code).await;
    assert_eq!((coupon.status, coupon.holder.as_deref()), (CouponStatus::Assigned, Some("ana")));
    assert_eq!(world.run_batch(world.redeem(&code, "eva")).await.outcome, Err(Rejection::NotHolder));
    world.run_batch(world.redeem(&code, "ana")).await.outcome.unwrap();
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_presented_code_gets_the_stored_spelling_of_its_holder() {
    let world = World::with(limited_to(3)).await;
    let codes = world.insert_codes(4).await;
    world.give(&codes[0], " ana\u{a0}").await;
    world.locked(&codes[1], "ana").await;
    world.run_batch(world.redeem(&codes[2], "ana")).await.outcome.unwrap();
    for code in &codes[..3] {
        assert_eq!(world.coupon(code).await.holder.as_deref(), Some(" ana\u{a0}"));
    }
    let limit = Err(Rejection::UserLimitReached { limit: 3 });
    assert_eq!(world.run_batch(world.redeem(&codes[3], "ana")).await.outcome, limit);
    world.run_batch(world.redeem(&codes[1], "ana")).await.outcome.unwrap();
    world.assert_invariants().await;
}
