//! Books: their counts are exact while their codes change.

use cuponera_domain::book::{BookRules, Discount, DiscountKind};
use cuponera_domain::rejection::Rejection;
use cuponera_testkit::{World, generate, race, rules, waits_for};
use sqlx::query;

#[tokio::test]
async fn whether_a_books_time_is_over_is_for_the_databases_clock_to_say() {
    let world = World::new().await;
    let end = world.store().now().await.unwrap();
    for (key, expires_at, is_made) in
        [("past", end, false), ("future", end + chrono::TimeDelta::hours(1), true)]
    {
        let rules = BookRules { expires_at: Some(expires_at), ..rules() };
        let key = cuponera_testkit::key(key, "body");
        for _ in 0..2 {
            let answer = world.store().create_book(Some(key), world.business, &rules).await.unwrap();
            match answer.outcome {
                Ok(book) => assert!(is_made && !book.is_expired),
                Err(rejection) => {
                    assert!(!is_made);
                    assert_eq!(rejection, Rejection::invalid("expiresAt", "must be in the future"));
                }
            }
        }
    }
}

/// Invariant I-8.
#[tokio::test]
async fn counts_are_exact_before_and_after_they_are_rolled_up() {
    let world = World::new().await;
    generate(world.store(), world.business, world.book, "K-{XXXX}", 40).await;
    let answers =
        race(16, 0..25, async |user| world.run_batch(world.random(&format!("user-{user}"))).await).await;
    let before = world.counts().await;
    assert_eq!((before.available, before.assigned, before.all()), (15, 25, 40));
    race(4, 0..8, async |_| world.store().roll_up_counts().await.unwrap()).await;
    assert_eq!(world.counts().await, before);
    let code = answers[0].outcome.as_ref().unwrap().code.clone();
    world.run_batch(world.redeem(&code, "user-0")).await.outcome.unwrap();
    assert_eq!((world.counts().await.assigned, world.counts().await.redeemed), (24, 1));
    world.assert_invariants().await;
}

/// Deltas that a concurrent roll-up has already deleted must not be added again.
#[tokio::test]
async fn roll_ups_at_once_count_everything_once() {
    let world = World::new().await;
    world.insert_codes(30).await;
    world.store().roll_up_counts().await.unwrap();
    world.give("C000000", "ana").await;
    let mut holding = world.pool().begin().await.unwrap();
    query("select from book_count for update").fetch_one(&mut *holding).await.unwrap();
    let rolling = race(3, 0..3, async |_| world.store().roll_up_counts().await.unwrap());
    waits_for(world.pool(), 3, holding.rollback(), rolling).await;
    assert_eq!((world.counts().await.available, world.counts().await.assigned), (29, 1));
    world.assert_invariants().await;
}

/// `jsonb` stores decimal numbers; reading them back must return the same double.
#[tokio::test]
async fn numbers_as_large_and_as_small_as_can_be_are_kept_as_they_were_given() {
    let world = World::new().await;
    for value in [f64::MAX, f64::MIN_POSITIVE, 0.1 + 0.2] {
        let discount = Discount { kind: DiscountKind::Fixed, value, currency: Some("EUR".into()) };
        let metadata = Some(serde_json::json!({"value": value}));
        let given = BookRules { discount: Some(discount), metadata, ..rules() };
        let book = world.another_book(&given).await;
        let kept = world.store().get_book(world.business, book).await.unwrap().rules;
        assert_eq!((kept.discount, kept.metadata), (given.discount, given.metadata));
    }
}
