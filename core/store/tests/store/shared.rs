//! SHARED codes: many users lock and redeem one code, within limits of the code, of each user, and of the book.

mod batches;
mod expiry;
mod mixed;
mod plan;
mod races;
mod settings;

use cuponera_domain::book::{BookRules, CodeKind};
use cuponera_domain::coupon::limits::SharedLimits;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::{LockId, RedemptionId};
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Call, Error, LockOwner, Presenter, Rollback, Unlock, Void};
use cuponera_testkit::{CallExt, World, rules};
use sqlx::{query_as, query_scalar};
use uuid::Uuid;

/// The rules of a SHARED book without limits in total, and with one use of each code for each user.
pub(crate) fn shared() -> BookRules {
    BookRules { code_kind: CodeKind::Shared, ..rules() }
}

/// The limits of a code: uses in total, uses of each user.
pub(crate) fn limits(total: i32, of_user: i32) -> SharedLimits {
    SharedLimits {
        max_redemptions: Some(total),
        max_redeems_per_user: Some(of_user),
        ..SharedLimits::default()
    }
}

pub(crate) fn roll_back(world: &World, code: &str, redemption: RedemptionId) -> Call<Rollback> {
    let (code, reason) = (code.to_owned(), "returned".to_owned());
    world.call(Rollback { redemption, code, user: None, reason })
}

fn void(world: &World, code: &str) -> Call<Void> {
    world.call(Void { code: code.to_owned(), user: None, only: None, reason: "over".to_owned() })
}

/// Versions, actions and users of a coupon's events, in the order of the log.
async fn log(world: &World, code: &str) -> Vec<(i32, String, Option<String>)> {
    query_as(
        "select e.version, e.action, e.user_id from coupon_event e join coupon c using (book_id, position)
         where c.code = $1 order by e.epoch, e.tx, e.id",
    )
    .bind(code)
    .fetch_all(world.pool())
    .await
    .unwrap()
}

/// Invariant I-87.
#[tokio::test]
async fn many_users_redeem_one_code_until_its_total_is_used() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(3, 1)).await;
    for (user, uses) in [("ana", 1), ("eva", 2), ("leo", 3)] {
        let redeemed = world.run_batch(world.redeem("SUMMER", user)).await.outcome.unwrap();
        assert_eq!((redeemed.redeem_count, redeemed.max_redeems, redeemed.is_shared), (uses, 3, true));
        assert_eq!(redeemed.is_final(), uses == 3);
        if uses == 1 {
            let again = world.run_batch(world.redeem("SUMMER", user)).await.outcome;
            assert_eq!(again, Err(Rejection::RedeemLimitReached { limit: 1 }));
        }
    }
    let used_up = world.run_batch(world.redeem("SUMMER", "max")).await.outcome;
    assert_eq!(used_up, Err(Rejection::CouponAlreadyRedeemed));
    let coupon = world.coupon("SUMMER").await;
    assert_eq!((coupon.status, coupon.holder, coupon.redeem_count), (CouponStatus::Redeemed, None, 3));
    let counts = world.counts().await;
    assert_eq!((counts.available, counts.assigned, counts.redeemed), (0, 0, 1));
    world.assert_invariants().await;
}

/// Invariant I-87.
#[tokio::test]
async fn a_lock_holds_a_use_and_its_user_renews_it() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(2, 2)).await;
    let first = world.locked("SUMMER", "ana").await;
    let second = world.locked("SUMMER", "ana").await;
    assert_eq!((first.lock, first.locked_at), (second.lock, second.locked_at));
    assert!(second.locked_until > first.locked_until);
    world.run_batch(world.redeem("SUMMER", "eva")).await.outcome.unwrap();
    let held = world.run_batch(world.redeem("SUMMER", "leo")).await.outcome;
    assert_eq!(held, Err(Rejection::CouponLocked { locked_until: second.locked_until }));
    assert_eq!(world.coupon("SUMMER").await.shared.unwrap().locked_count, 1);
    let mut stale = world.redeem("SUMMER", "ana");
    stale.ask.lock = Some(LockId(Uuid::nil()));
    assert_eq!(world.run_batch(stale.clone()).await.outcome, Err(Rejection::LockStale));
    stale.ask.lock = Some(first.lock);
    world.run_batch(stale).await.outcome.unwrap();
    let expected = [(1, "LOCK", "ana"), (2, "LOCK", "ana"), (3, "REDEEM", "eva"), (4, "REDEEM", "ana")];
    let expected = expected.map(|(version, action, user)| (version, action.to_owned(), Some(user.to_owned())));
    assert_eq!(log(&world, "SUMMER").await, expected);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_lock_is_released_by_its_user_or_by_force_with_its_id() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(1, 1)).await;
    let lock = world.locked("SUMMER", "ana").await.lock;
    let none = world.run_batch(world.unlock("SUMMER", "eva")).await.outcome.unwrap();
    assert!(none.is_shared, "a user without a lock succeeds");
    let forced = |lock| {
        world.call(Unlock { code: "SUMMER".to_owned(), owner: LockOwner::Anyone, lock })
    };
    let unnamed = world.run_batch(forced(None)).await.outcome;
    assert!(matches!(unnamed, Err(Rejection::Invalid { .. })), "{unnamed:?}");
    world.run_batch(forced(Some(lock))).await.outcome.unwrap();
    world.locked("SUMMER", "eva").await;
    world.run_batch(world.unlock("SUMMER", "eva")).await.outcome.unwrap();
    let actions: Vec<_> = world.actions("SUMMER").await;
    assert_eq!(actions, ["LOCK", "UNLOCK", "LOCK", "UNLOCK"]);
    world.assert_invariants().await;
}

/// Invariant I-87.
#[tokio::test]
async fn a_user_uses_as_many_codes_of_the_book_as_it_allows() {
    let world = World::with(BookRules { max_codes_per_user: Some(2), max_redeems_per_user: 2, ..shared() }).await;
    for code in ["AAA", "BBB", "CCC"] {
        world.shared(code, SharedLimits::default()).await;
    }
    world.locked("AAA", "ana").await;
    let used = world.run_batch(world.redeem("BBB", "ana")).await.outcome.unwrap();
    let limit = Rejection::UserLimitReached { limit: 2 };
    assert_eq!(world.run_batch(world.redeem("CCC", "ana")).await.outcome, Err(limit.clone()));
    assert_eq!(world.run_batch(world.lock("CCC", "ana")).await.outcome, Err(limit.clone()));
    world.run_batch(world.redeem("BBB", "ana")).await.outcome.unwrap();
    world.run_batch(world.unlock("AAA", "ana")).await.outcome.unwrap();
    world.run_batch(world.redeem("CCC", "ana")).await.outcome.unwrap();
    assert_eq!(world.run_batch(world.redeem("AAA", "ana")).await.outcome, Err(limit));
    world.run_batch(roll_back(&world, "BBB", used.redemption)).await.outcome.unwrap();
    let still = world.run_batch(world.redeem("AAA", "ana")).await.outcome;
    assert!(still.is_err(), "BBB has another use");
    world.run_batch(void(&world, "BBB")).await.outcome.unwrap();
    world.run_batch(world.redeem("AAA", "ana")).await.outcome.unwrap();
    world.assert_invariants().await;
}

/// Invariant I-87.
#[tokio::test]
async fn a_rollback_gives_the_use_back_once_to_the_code_and_its_user() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(1, 1)).await;
    let first = world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    let mut of_another = roll_back(&world, "SUMMER", first.redemption);
    of_another.ask.user = Some("eva".to_owned());
    assert_eq!(world.run_batch(of_another).await.outcome, Err(Rejection::NotHolder));
    let done = world.run_batch(roll_back(&world, "SUMMER", first.redemption)).await.outcome.unwrap();
    assert_eq!((done.status, done.redeem_count, done.max_redeems), (CouponStatus::Available, 0, 1));
    let again = world.run_batch(roll_back(&world, "SUMMER", first.redemption)).await.outcome;
    assert_eq!(again, Err(Rejection::AlreadyRolledBack));
    let unknown = world.run_batch(roll_back(&world, "SUMMER", RedemptionId(Uuid::nil()))).await.outcome;
    assert_eq!(unknown, Err(Rejection::not_found("redemption")));
    world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    let numbers: Vec<i32> = query_scalar("select use_number from redemption order by use_number")
        .fetch_all(world.pool())
        .await
        .unwrap();
    assert_eq!(numbers, [1, 2], "numbers are not given again");
    assert_eq!(world.actions("SUMMER").await, ["REDEEM", "ROLLBACK", "REDEEM"]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_void_code_ends_with_its_locks() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(5, 1)).await;
    let used = world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    world.locked("SUMMER", "eva").await;
    world.run_batch(void(&world, "SUMMER")).await.outcome.unwrap();
    for rejected in [
        world.run_batch(world.redeem("SUMMER", "eva")).await.outcome.map(drop),
        world.run_batch(world.lock("SUMMER", "leo")).await.outcome.map(drop),
        world.run_batch(world.unlock("SUMMER", "eva")).await.outcome.map(drop),
    ] {
        assert_eq!(rejected, Err(Rejection::CouponVoid));
    }
    assert_eq!(world.coupon("SUMMER").await.shared.unwrap().locked_count, 0);
    world.run_batch(void(&world, "SUMMER")).await.outcome.unwrap();
    let done = world.run_batch(roll_back(&world, "SUMMER", used.redemption)).await.outcome.unwrap();
    assert_eq!(done.status, CouponStatus::Void);
    world.expire_all_locks().await;
    world.store().expire_shared_locks(100).await.unwrap();
    assert_eq!(world.actions("SUMMER").await, ["REDEEM", "LOCK", "VOID", "ROLLBACK"]);
    world.assert_invariants().await;
}

/// Invariant I-88.
#[tokio::test]
async fn a_shared_code_is_not_assigned_in_any_way() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", SharedLimits::default()).await;
    assert_eq!(world.run_batch(world.named("SUMMER", "ana")).await.outcome, Err(Rejection::NotAssignable));
    assert_eq!(world.run_batch(world.random("ana")).await.outcome, Err(Rejection::NotAssignable));
    let checked = world.store().check_book_assignable(world.business, world.book).await;
    assert!(matches!(checked, Err(Error::Rejected(Rejection::NotAssignable))), "{checked:?}");
    let revoked = cuponera_store::Revoke {
        code: "SUMMER".to_owned(),
        user: None,
        assignment: None,
        reason: "a reason".to_owned(),
    };
    assert_eq!(world.run_batch(world.call(revoked)).await.outcome, Err(Rejection::NotAssigned));
    world.assert_invariants().await;
}

/// Invariant I-88. The statements of an earlier version: they fail, and change nothing.
#[tokio::test]
async fn no_statement_of_an_earlier_version_misreads_a_shared_code() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(9, 9)).await;
    let used = world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    let statements = [
        "update coupon set status = 'ASSIGNED', holder = 'ana', assignment_id = gen_random_uuid(), assigned_at = now(), version = version + 1",
        "update coupon set reserved_by = gen_random_uuid()",
        "update coupon set redeem_count = redeem_count - 1, rollback_count = rollback_count + 1, version = version + 1",
        "update coupon set redeem_count = 10",
        "update coupon set status = 'REDEEMED'",
    ];
    for statement in statements {
        let failed = sqlx::query(statement).execute(world.pool()).await.unwrap_err();
        assert!(cuponera_store::breaches(&failed, "coupon_shared"), "{statement}: {failed}");
    }
    assert_eq!(world.coupon("SUMMER").await.redeem_count, used.redeem_count);
    world.assert_invariants().await;
}

#[tokio::test]
async fn an_end_user_uses_a_shared_code_and_must_be_named_by_a_trusted_caller() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(1, 1)).await;
    world.store().validate(&world.redeem("SUMMER", "ana").by_end_user()).await.unwrap();
    let mut nobody = world.redeem("SUMMER", "").with_key("nobody");
    nobody.ask.presenter = Presenter::Bearer;
    for _ in 0..2 {
        let rejected = world.run_batch(nobody.clone()).await;
        assert!(matches!(rejected.outcome, Err(Rejection::Invalid { .. })) && !rejected.replayed);
    }
    world.run_batch(world.lock("SUMMER", "ana").by_end_user()).await.outcome.unwrap();
    let held = world.store().validate(&world.redeem("SUMMER", "eva").by_end_user()).await;
    assert!(matches!(held, Err(Error::Rejected(Rejection::CouponLocked { .. }))), "{held:?}");
    world.store().validate(&world.redeem("SUMMER", "ana").by_end_user()).await.unwrap();
    world.run_batch(world.redeem("SUMMER", "ana").by_end_user()).await.outcome.unwrap();
    let unknown = world.run_batch(world.redeem("NONE", "ana").by_end_user()).await.outcome;
    assert_eq!(unknown, Err(Rejection::not_found("coupon")));
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_rules_of_the_book_apply_to_its_shared_codes() {
    let world = World::with(BookRules { require_lock: true, lock_ttl_seconds: 60, ..shared() }).await;
    world.shared("SUMMER", SharedLimits::default()).await;
    let unlocked = world.run_batch(world.redeem("SUMMER", "ana")).await.outcome;
    assert_eq!(unlocked, Err(Rejection::LockRequired));
    let lock = world.locked("SUMMER", "ana").await;
    assert_eq!((lock.locked_until - lock.locked_at).num_seconds(), 60);
    world.expire_all_locks().await;
    assert_eq!(world.run_batch(world.redeem("SUMMER", "ana")).await.outcome, Err(Rejection::LockExpired));
    world.store().expire_shared_locks(10).await.unwrap();
    assert_eq!(world.run_batch(world.redeem("SUMMER", "ana")).await.outcome, Err(Rejection::LockExpired));
    sqlx::query("update coupon_book set status = 'PAUSED'").execute(world.pool()).await.unwrap();
    assert_eq!(world.run_batch(world.lock("SUMMER", "ana")).await.outcome, Err(Rejection::BookNotActive));
    world.assert_invariants().await;
}

/// Another business may have the same code, of another kind.
#[tokio::test]
async fn a_code_of_another_business_is_another_code() {
    let world = World::with(shared()).await;
    world.shared("SUMMER", limits(1, 1)).await;
    let other = world.another_business().await;
    let foreign = world.run_batch(world.redeem("SUMMER", "ana").in_business(other)).await.outcome;
    assert_eq!(foreign, Err(Rejection::not_found("coupon")));
    world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_user_is_found_by_its_stored_spelling() {
    let world = World::with(shared()).await;
    let unique = world.another_book(&rules()).await;
    let codes = world.insert_codes_into(unique, "U", 1).await;
    world.give(&codes[0], " ana\u{a0}").await;
    world.shared("SUMMER", limits(5, 1)).await;
    world.run_batch(world.redeem("SUMMER", "ana")).await.outcome.unwrap();
    let again = world.run_batch(world.redeem("SUMMER", " ana\u{a0}")).await.outcome;
    assert_eq!(again, Err(Rejection::RedeemLimitReached { limit: 1 }));
    world.assert_invariants().await;
}
