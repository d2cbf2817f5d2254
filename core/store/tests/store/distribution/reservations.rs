//! What a reservation keeps others from, and what it does not.

use cuponera_domain::coupon::state::CouponStatus;
use cuponera_store::{CodeFilter, Void};
use cuponera_testkit::race;

use super::*;

/// Invariant: others take only codes that are not reserved.
#[tokio::test]
async fn a_reserved_code_is_shown_as_available_and_is_given_to_nobody_else() {
    let world = World::new().await;
    let codes = world.insert_codes(12).await;
    let pool = pool_of(&world, 10).await;
    submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
    let assign = up_to_assign(&world).await;
    assert_eq!(world.counts().await.available, 12);
    let filter = CodeFilter { status: Some(CouponStatus::Available), ..CodeFilter::default() };
    let book = world.store().get_book(world.business, world.book).await.unwrap();
    let listed = world.store().list_codes(&book, &filter, 100).await.unwrap();
    assert_eq!(listed.items.len(), 12);
    let mut outcomes = Vec::new();
    for code in &codes {
        outcomes.push(world.run_batch(world.named(code, "eva")).await.outcome);
    }
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(Rejection::CouponReserved)).count(), 10);
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    assert_eq!(world.run_batch(world.random("leo")).await.outcome, Err(Rejection::SoldOut));
    let deleted = world.store().delete_book_if_unused(world.business, "test", world.book).await;
    assert!(matches!(deleted, Err(Error::Rejected(Rejection::BookInUse | Rejection::CouponReserved))));
    assert_eq!(work(world.store(), &assign).await.unwrap(), Step::Finished);
    assert_released(&world).await;
}

#[tokio::test]
async fn a_book_whose_codes_are_distributed_is_not_deleted() {
    let world = World::new().await;
    world.insert_codes(12).await;
    let pool = pool_of(&world, 10).await;
    let delete = async || world.store().delete_book_if_unused(world.business, "test", world.book).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
    assert!(matches!(delete().await, Err(Error::Rejected(Rejection::CouponReserved))));
    up_to_assign(&world).await;
    world.store().cancel_job_if_open(None, world.business, submitted.id).await.unwrap().outcome.unwrap();
    assert!(
        matches!(delete().await, Err(Error::Rejected(Rejection::CouponReserved))),
        "its codes are still reserved"
    );
    world.store().release_reserved_codes().await.unwrap();
    assert!(delete().await.is_ok());
}

/// Programs of the version before know no reservation.
#[tokio::test]
async fn a_reserved_code_that_an_older_program_takes_is_replaced_or_counted_as_short() {
    let world = World::new().await;
    let codes = world.insert_codes(21).await;
    let pool = pool_of(&world, 20).await;
    for (round, short) in [(0, 0), (1, 1)] {
        if round == 1 {
            world.insert_codes_into(world.book, "MORE", 20).await;
        }
        let submitted =
            submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
        let assign = up_to_assign(&world).await;
        let taken: String =
            query_scalar("select code from coupon where reserved_by is not null order by position limit 1")
                .fetch_one(world.pool())
                .await
                .unwrap();
        give_as_before(&world, &taken, "old").await;
        assert_eq!(work(world.store(), &assign).await.unwrap(), Step::Finished);
        let done = job(&world, submitted.id).await;
        let numbers = ["given", "short"].map(|name| done.result[name].as_i64());
        assert_eq!((done.status, numbers), (JobStatus::Succeeded, [Some(20 - short), Some(short)]));
        let notes = report(&world, done.id).await.into_iter().filter_map(|row| row.note).collect::<Vec<_>>();
        assert_eq!(notes, vec!["not_enough_codes"; usize::try_from(short).unwrap()]);
        assert_released(&world).await;
    }
    assert_eq!(codes.len(), 21);
}

/// A void does not wait for a distribution: the code leaves it, and another takes its place.
#[tokio::test]
async fn a_reserved_code_that_is_voided_is_replaced() {
    let world = World::new().await;
    world.insert_codes(21).await;
    let pool = pool_of(&world, 20).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
    let assign = up_to_assign(&world).await;
    let reserved = "select code from coupon where reserved_by is not null order by position limit 1";
    let code: String = query_scalar(reserved).fetch_one(world.pool()).await.unwrap();
    let void = Void { code: code.clone(), user: None, only: None, reason: "leaked".to_owned() };
    world.run_batch(world.call(void)).await.outcome.unwrap();
    assert_eq!(work(world.store(), &assign).await.unwrap(), Step::Finished);
    let done = job(&world, submitted.id).await;
    assert_eq!((done.status, done.result["given"].as_i64()), (JobStatus::Succeeded, Some(20)));
    assert_eq!(world.coupon(&code).await.status, CouponStatus::Void);
    assert_released(&world).await;
    world.assert_invariants().await;
}

/// 50 clients take codes of the book for the same users while the codes are distributed. Invariant I-55.
#[tokio::test]
async fn no_limit_is_exceeded_while_others_assign_codes_of_the_book_to_the_same_users() {
    let world = World::with(limited_to(3)).await;
    world.insert_codes(3_000).await;
    let pool = pool_of(&world, 400).await;
    let submitted =
        submit(&world, new(&world, pool, Mode::Random, TOTAL(900), OnShortage::Fail)).await.unwrap();
    let assigning =
        race(50, 0..600_u32, async |n| world.run_batch(world.random(&ids([n % 400])[0])).await.outcome);
    let ((), outcomes) = futures::join!(work_all(&world), assigning);
    assert!(
        outcomes.iter().all(|outcome| matches!(outcome, Ok(_) | Err(Rejection::UserLimitReached { .. })))
    );
    let done = job(&world, submitted.id).await;
    assert_eq!(done.status, JobStatus::Succeeded, "{:?}", done.error);
    assert_eq!(done.succeeded + done.failed, 900);
    let held = held(&world, world.book).await;
    assert!(held.values().all(|codes| *codes <= 3));
    let others = i64::try_from(outcomes.iter().flatten().count()).unwrap();
    assert_eq!(held.values().sum::<i64>(), done.succeeded + others);
    assert_released(&world).await;
}

/// Two distributions of one book reserve different codes.
#[tokio::test]
async fn two_distributions_of_one_book_share_no_code() {
    let world = World::new().await;
    world.insert_codes(30_000).await;
    let pool = pool_of(&world, 1_000).await;
    for _ in 0..2 {
        submit(&world, new(&world, pool, Mode::Random, TOTAL(15_000), OnShortage::Fail)).await.unwrap();
    }
    race(4, 0..4, async |_| work_all(&world).await).await;
    assert_eq!(held(&world, world.book).await.values().sum::<i64>(), 30_000);
    assert_released(&world).await;
}
