//! Idempotency keys: each has one effect and one answer, for any number of concurrent and repeated calls.

use std::fmt::Debug;

use cuponera_domain::book::BookRules;
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Call, CallResult, Transition};
use cuponera_testkit::{CallExt, World, key, race, rules, waits_for};
use sqlx::{query, query_scalar};

const RACERS: usize = 16;

/// A world where `ana` holds one code with 50 redemptions, and 49 codes are free.
async fn plenty() -> (World, String) {
    let world = World::with(BookRules { max_redeems_per_user: 50, ..rules() }).await;
    let code = world.insert_codes(50).await.remove(0);
    world.give(&code, "ana").await;
    (world, code)
}

/// Asserts that all calls got the same answer, all but one of them as a replay.
fn assert_one_effect<T: PartialEq + Debug>(answers: &[CallResult<T>]) {
    assert!(answers.iter().all(|answer| answer.outcome == answers[0].outcome), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert!(answers[0].outcome.is_ok());
}

async fn asked_at_once<T>(world: &World, call: &Call<T>) -> Vec<CallResult<T::Outcome>>
where
    T: Transition + Clone,
{
    race(RACERS, 0..RACERS, async |_| world.run_batch(call.clone()).await).await
}

/// Invariant I-11.
#[tokio::test]
async fn a_key_raced_for_has_one_effect_of_each_kind() {
    let (world, code) = plenty().await;
    let another = world.another_book(&rules()).await;
    for (round, name) in world.insert_codes_into(another, "N", 8).await.into_iter().enumerate() {
        let key = |kind| format!("{kind} {round}");
        assert_one_effect(&asked_at_once(&world, &world.random("eva").with_key(&key("random"))).await);
        assert_one_effect(&asked_at_once(&world, &world.named(&name, "leo").with_key(&key("named"))).await);
        assert_one_effect(&asked_at_once(&world, &world.lock(&code, "ana").with_key(&key("lock"))).await);
        assert_one_effect(&asked_at_once(&world, &world.unlock(&code, "ana").with_key(&key("unlock"))).await);
        assert_one_effect(&asked_at_once(&world, &world.redeem(&code, "ana").with_key(&key("redeem"))).await);
    }
    assert_eq!(world.coupon(&code).await.redeem_count, 8);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_key_asked_again_later_replays_the_answer() {
    let (world, code) = plenty().await;
    let first = world.run_batch(world.redeem(&code, "ana").with_key("one")).await;
    let again = world.run_batch(world.redeem(&code, "ana").with_key("one")).await;
    assert_eq!(again, CallResult { replayed: true, ..first });
    assert_eq!(world.coupon(&code).await.redeem_count, 1);
    world.run_batch(world.redeem(&code, "ana").with_key("two")).await.outcome.unwrap();
    assert_eq!(world.coupon(&code).await.redeem_count, 2);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_key_with_another_request_is_refused() {
    let (world, code) = plenty().await;
    world
        .run_batch(world.redeem(&code, "ana").with_request_key(key("one", "three euros")))
        .await
        .outcome
        .unwrap();
    let other = world.run_batch(world.redeem(&code, "ana").with_request_key(key("one", "four euros"))).await;
    assert_eq!(other, CallResult { outcome: Err(Rejection::KeyReused), replayed: false });
    let lock = world.run_batch(world.lock(&code, "ana").with_request_key(key("one", "a lock"))).await;
    assert_eq!(lock.outcome, Err(Rejection::KeyReused));
    assert_eq!(world.coupon(&code).await.redeem_count, 1);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_refusal_is_kept_even_when_nothing_refuses_any_more() {
    let world = World::new().await;
    let rejected = asked_at_once(&world, &world.random("ana").with_key("one")).await;
    assert!(rejected.iter().all(|answer| answer.outcome == Err(Rejection::SoldOut)));
    assert_eq!(rejected.iter().filter(|answer| !answer.replayed).count(), 1);
    world.insert_codes(5).await;
    let again = world.run_batch(world.random("ana").with_key("one")).await;
    assert_eq!(again, CallResult { outcome: Err(Rejection::SoldOut), replayed: true });
    assert!(world.run_batch(world.random("ana").with_key("two")).await.outcome.is_ok());
    world.assert_invariants().await;
}

/// Another call with the key stores its answer after the first lookup and before the rejection is stored. Its answer
/// counts.
#[tokio::test]
async fn a_refusal_that_comes_second_under_its_key_gives_way_to_the_answer_that_came_first() {
    let world = World::new().await;
    let mut first = world.pool().begin().await.unwrap();
    let key = key("one", "body");
    let kept = "insert into request_key (id, fingerprint, answer) values ($1, $2, $3)";
    let answer = serde_json::json!({ "Err": { "code": "book_not_active" } });
    query(kept).bind(key.id).bind(key.fingerprint).bind(answer).execute(&mut *first).await.unwrap();
    let second = world.run_batch(world.random("ana").with_request_key(key));
    let answer = waits_for(world.pool(), 1, first.commit(), second).await;
    assert_eq!(answer, CallResult { outcome: Err(Rejection::BookNotActive), replayed: true });
}

/// Invariant I-1.
#[tokio::test]
async fn a_key_that_stands_twice_in_one_batch_has_one_effect() {
    let (world, code) = plenty().await;
    let call = world.redeem(&code, "ana");
    let calls =
        [call.clone().with_key("one"), call.clone(), call.clone().with_key("one"), call.with_key("two")];
    let answers = world.store().run_batch(&calls).await.unwrap();
    assert_eq!(answers[2], CallResult { replayed: true, ..answers[0].clone() });
    assert_eq!(world.coupon(&code).await.redeem_count, 3);
    let calls = [world.random("eva").with_key("r"), world.random("eva").with_key("r"), world.random("eva")];
    let answers = world.store().run_batch(&calls).await.unwrap();
    assert_eq!(answers[1], CallResult { replayed: true, ..answers[0].clone() });
    assert_ne!(answers[2].outcome, answers[0].outcome);
    world.assert_invariants().await;
}

/// Calls in the same and in different batches share keys, and the users' limits hold.
#[tokio::test]
async fn shared_keys_and_limits_raced_for_in_batches_hold_both() {
    let world = World::with(BookRules { max_codes_per_user: Some(3), ..rules() }).await;
    world.insert_codes(200).await;
    // Five keys for each of 20 users, with eight calls for each key.
    let call = |n: usize| {
        let user = format!("user-{}", n * 7 % 20);
        world.random(&user).with_key(&format!("{user} {}", n % 5))
    };
    let calls: Vec<_> = (0..800).map(call).collect();
    let answers =
        race(RACERS, calls.chunks(9), async |batch| world.store().run_batch(batch).await.unwrap()).await;
    let answers: Vec<_> = answers.into_iter().flatten().collect();
    for (call, answer) in calls.iter().zip(&answers) {
        let twin = calls.iter().position(|other| other.key == call.key).unwrap();
        assert_eq!(answer.outcome, answers[twin].outcome, "one answer for each key");
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn one_key_makes_one_book() {
    let world = World::new().await;
    let make = async |_| {
        world.store().create_book(Some(key("one", "a book")), world.business, &rules()).await.unwrap()
    };
    let answers = race(RACERS, 0..RACERS, make).await;
    assert_one_effect(&answers);
    let books: i64 = query_scalar("select count(*) from coupon_book").fetch_one(world.pool()).await.unwrap();
    assert_eq!(books, 2, "the world's book and this one");
    let other =
        world.store().create_book(Some(key("one", "another")), world.business, &rules()).await.unwrap();
    assert_eq!(other.outcome, Err(Rejection::KeyReused));
}

#[tokio::test]
async fn one_key_makes_one_job_and_reserves_once() {
    let world = World::new().await;
    let pattern = Pattern::parse("J-{9999}").unwrap();
    let submit = async |_| {
        let key = Some(key("one", "a job"));
        world.store().submit_generation(key, world.business, "test", world.book, &pattern, 600).await.unwrap()
    };
    let answers = race(RACERS, 0..RACERS, submit).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.outcome.as_ref().unwrap().id).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let space = world.store().find_space(world.business, &pattern.canonical()).await.unwrap().unwrap();
    assert_eq!(space.used, 600);
}

#[tokio::test]
async fn a_refused_book_is_refused_again_and_leaves_nothing() {
    let world = World::new().await;
    let nameless = BookRules { name: String::new(), ..rules() };
    let make =
        async || world.store().create_book(Some(key("one", "x")), world.business, &nameless).await.unwrap();
    let (first, again) = (make().await, make().await);
    assert!(matches!(first.outcome, Err(Rejection::Invalid { .. })));
    assert!(again.replayed && again.outcome == first.outcome);
}

#[tokio::test]
async fn answers_are_forgotten_after_a_day_and_not_before() {
    let (world, code) = plenty().await;
    world.run_batch(world.redeem(&code, "ana").with_key("old")).await.outcome.unwrap();
    query("update request_key set at = at - interval '25 hours'").execute(world.pool()).await.unwrap();
    world.run_batch(world.redeem(&code, "ana").with_key("new")).await.outcome.unwrap();
    assert_eq!(world.store().forget_answers().await.unwrap(), 1);
    assert!(world.run_batch(world.redeem(&code, "ana").with_key("new")).await.replayed);
    assert!(!world.run_batch(world.redeem(&code, "ana").with_key("old")).await.replayed);
    assert_eq!(world.coupon(&code).await.redeem_count, 3);
}
