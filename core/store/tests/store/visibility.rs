//! Visibility: no caller sees another business, and an end user sees only the user's own coupons.

use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::{Call, Redeem, Transition};
use cuponera_testkit::{CallExt, World};
use sqlx::query;

/// A coupon in each status: AVAILABLE, ASSIGNED, LOCKED, REDEEMED, VOID. `ana` holds the second, third and fourth.
async fn in_every_state() -> (World, Vec<String>) {
    let world = World::new().await;
    let codes = world.insert_codes(5).await;
    for code in &codes[1..4] {
        world.give(code, "ana").await;
    }
    world.locked(&codes[2], "ana").await;
    world.run_batch(world.redeem(&codes[3], "ana")).await.outcome.unwrap();
    let void = "update coupon set status = 'VOID' where code = $1";
    query(void).bind(&codes[4]).execute(world.pool()).await.unwrap();
    (world, codes)
}

async fn rejected<T: Transition>(world: &World, call: Call<T>) -> Rejection {
    match world.run_batch(call).await.outcome {
        Ok(_) => panic!("the call had an effect"),
        Err(rejection) => rejection,
    }
}

async fn validated(world: &World, call: &Call<Redeem>) -> Rejection {
    match world.store().validate(call).await {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("not rejected: {other:?}"),
    }
}

#[tokio::test]
async fn an_end_user_learns_nothing_of_anothers_coupon_whatever_its_state() {
    let (world, codes) = in_every_state().await;
    let none = Rejection::not_found("coupon");
    for code in &codes {
        assert_eq!(rejected(&world, world.lock(code, "eva").by_end_user()).await, none, "lock {code}");
        assert_eq!(rejected(&world, world.unlock(code, "eva").by_end_user()).await, none, "unlock {code}");
        assert_eq!(rejected(&world, world.redeem(code, "eva").by_end_user()).await, none, "redeem {code}");
        assert_eq!(
            validated(&world, &world.redeem(code, "eva").by_end_user()).await,
            none,
            "validate {code}"
        );
    }
}

#[tokio::test]
async fn a_trusted_caller_learns_what_stands_in_the_way() {
    let (world, codes) = in_every_state().await;
    let locked_until = world.coupon(&codes[2]).await.locked_until.unwrap();
    let reasons = [
        Rejection::NotAssigned,
        Rejection::NotHolder,
        Rejection::CouponLocked { locked_until },
        Rejection::NotHolder,
        Rejection::CouponVoid,
    ];
    for (code, reason) in codes.iter().zip(reasons) {
        assert_eq!(rejected(&world, world.lock(code, "eva")).await, reason, "lock {code}");
        assert_eq!(rejected(&world, world.unlock(code, "eva")).await, reason, "unlock {code}");
        assert_eq!(rejected(&world, world.redeem(code, "eva")).await, reason, "redeem {code}");
        assert_eq!(validated(&world, &world.redeem(code, "eva")).await, reason, "validate {code}");
    }
}

#[tokio::test]
async fn a_code_of_another_business_does_not_exist() {
    let (world, codes) = in_every_state().await;
    let other = world.another_business().await;
    let none = Rejection::not_found("coupon");
    for code in &codes {
        assert_eq!(rejected(&world, world.named(code, "ana").in_business(other)).await, none);
        assert_eq!(rejected(&world, world.lock(code, "ana").in_business(other)).await, none);
        assert_eq!(rejected(&world, world.unlock(code, "ana").in_business(other)).await, none);
        assert_eq!(rejected(&world, world.redeem(code, "ana").in_business(other)).await, none);
        assert!(world.store().get_coupon(other, code).await.is_err());
        assert!(world.store().history(other, code, None, 10).await.is_err());
    }
    let book = Rejection::not_found("coupon book");
    assert_eq!(rejected(&world, world.random("ana").in_business(other)).await, book);
    assert!(world.store().get_book(other, world.book).await.is_err());
}
