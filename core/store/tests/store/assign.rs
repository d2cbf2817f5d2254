//! Assignment: each code once, no user above the book's limit, and `sold_out` only if no code is free.

use std::collections::HashSet;

use cuponera_domain::book::{BookPatch, BookRules, BookStatus, Change};
use cuponera_domain::id::BookId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::GenerateId;
use cuponera_store::{AssignRandom, Assigned, Call, CallResult, Pools};
use cuponera_testkit::{World, eventually, race, rules};
use sqlx::query_scalar;

/// 50 connections for hot writes, so that the calls race.
const WIDE: Pools = Pools { hot: 50, solo: 8, rest: 8, ..Pools::MIN };

fn capped(most: i32) -> BookRules {
    BookRules { max_codes_per_user: Some(most), ..rules() }
}

/// The number of answers with this rejection.
fn count_refused<T>(answers: &[CallResult<T>], rejection: &Rejection) -> usize {
    answers.iter().filter(|answer| answer.outcome.as_ref().err() == Some(rejection)).count()
}

fn winners(answers: &[CallResult<Assigned>]) -> Vec<&Assigned> {
    answers.iter().filter_map(|answer| answer.outcome.as_ref().ok()).collect()
}

/// Runs the calls in batches of these sizes, in rotation, from all connections at once.
async fn race_in_batches(
    world: &World,
    calls: &[Call<AssignRandom>],
    sizes: &[usize],
) -> Vec<CallResult<Assigned>> {
    let mut batches = Vec::new();
    let mut rest = calls;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (batch, others) = rest.split_at(rest.len().min(*size));
        batches.push(batch);
        rest = others;
    }
    let answers = race(50, batches, async |batch| world.store().run_batch(batch).await.unwrap()).await;
    answers.into_iter().flatten().collect()
}

async fn assert_a_thousand_racing_for_a_hundred(sizes: &[usize]) {
    let world = World::with_pools(rules(), WIDE).await;
    world.insert_codes(100).await;
    let calls: Vec<_> = (0..1_000).map(|user| world.random(&format!("user-{user}"))).collect();
    let racing = race_in_batches(&world, &calls, sizes);
    // The counts are rolled up while they change.
    let rolling = race(1, 0..20, async |_| world.store().roll_up_counts().await.unwrap());
    let (answers, _) = futures::join!(racing, rolling);
    let winners = winners(&answers);
    let codes: HashSet<&str> = winners.iter().map(|won| won.code.as_str()).collect();
    assert_eq!((winners.len(), codes.len()), (100, 100), "winners and distinct codes");
    assert_eq!(count_refused(&answers, &Rejection::SoldOut), 900);
    assert_eq!((world.counts().await.available, world.counts().await.assigned), (0, 100));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_thousand_racing_one_by_one_for_a_hundred_codes_are_a_hundred_winners() {
    assert_a_thousand_racing_for_a_hundred(&[1]).await;
}

#[tokio::test]
async fn a_thousand_racing_in_batches_for_a_hundred_codes_are_a_hundred_winners() {
    assert_a_thousand_racing_for_a_hundred(&[1, 2, 5, 20]).await;
}

/// A user's second call briefly holds a code and releases it. A call that finds no free code in that time must try
/// again.
#[tokio::test]
async fn nobody_hears_sold_out_while_there_is_a_code_for_everybody() {
    for round in 0..4 {
        let world = World::with_pools(capped(1), WIDE).await;
        world.insert_codes(100).await;
        let calls: Vec<_> = (0..200).map(|call| world.random(&format!("user-{}", call / 2))).collect();
        let answers = race_in_batches(&world, &calls, &[1]).await;
        assert_eq!(count_refused(&answers, &Rejection::SoldOut), 0, "false sold_out in round {round}");
        assert_eq!(winners(&answers).len(), 100);
        assert_eq!(count_refused(&answers, &Rejection::UserLimitReached { limit: 1 }), 100);
        world.assert_invariants().await;
    }
}

/// A free code that another transaction holds is skipped. A call that finds no other code tries again.
/// Invariant I-3.
#[tokio::test]
async fn sold_out_is_not_said_while_somebody_may_still_give_the_last_code_back() {
    let world = World::new().await;
    let codes = world.insert_codes(1).await;
    let mut held = world.pool().begin().await.unwrap();
    sqlx::query("select from coupon for update").execute(&mut *held).await.unwrap();
    let release = async {
        let tried = "select exists (select from pg_stat_activity where datname = current_database() and state = 'idle'
                       and query like '-- Why an item of assign_random%')";
        eventually("the call to find no free code", async || {
            query_scalar::<_, bool>(tried).fetch_one(world.pool()).await.unwrap().then_some(())
        })
        .await;
        held.rollback().await.unwrap();
    };
    let (answer, ()) = futures::join!(world.run_batch(world.random("ana")), release);
    assert_eq!(answer.outcome.unwrap().code, codes[0]);
    assert_eq!(world.run_batch(world.random("eva")).await.outcome, Err(Rejection::SoldOut));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_user_asking_two_hundred_times_at_once_gets_no_more_than_the_limit() {
    for (most, sizes) in [(1, &[1][..]), (1, &[1, 4, 9]), (3, &[1, 4, 9])] {
        let world = World::with(capped(most)).await;
        world.insert_codes(300).await;
        let calls: Vec<_> = (0..200).map(|_| world.random("ana")).collect();
        let answers = race_in_batches(&world, &calls, sizes).await;
        let most = usize::try_from(most).unwrap();
        assert_eq!(winners(&answers).len(), most, "in batches of {sizes:?}");
        world.assert_invariants().await;
    }
}

#[tokio::test]
async fn many_users_in_mixed_batches_get_just_their_limit() {
    let world = World::with(capped(3)).await;
    world.insert_codes(300).await;
    let calls: Vec<_> = (0..200).map(|call| world.random(&format!("user-{}", call % 20))).collect();
    let answers = race_in_batches(&world, &calls, &[1, 7, 16]).await;
    assert_eq!(winners(&answers).len(), 60);
    assert_eq!(count_refused(&answers, &Rejection::UserLimitReached { limit: 3 }), 140);
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

#[tokio::test]
async fn a_batch_that_wants_more_than_there_is_gets_what_there_is() {
    let world = World::new().await;
    world.insert_codes(5).await;
    let calls: Vec<_> = (0..20).map(|user| world.random(&format!("user-{user}"))).collect();
    let answers = world.store().run_batch(&calls).await.unwrap();
    assert_eq!(winners(&answers).len(), 5);
    assert_eq!(count_refused(&answers, &Rejection::SoldOut), 15);
    world.assert_invariants().await;
}

/// If the statement counted before it holds a code, the calls would use up the limit.
/// Invariant I-4.
#[tokio::test]
async fn a_sold_out_book_uses_up_no_limit() {
    let world = World::with(capped(1)).await;
    let calls: Vec<_> = (0..50).map(|_| world.random("ana")).collect();
    let answers = race_in_batches(&world, &calls, &[1, 3]).await;
    assert_eq!(count_refused(&answers, &Rejection::SoldOut), 50);
    world.insert_codes(1).await;
    assert!(world.run_batch(world.random("ana")).await.outcome.is_ok());
    world.assert_invariants().await;
}

#[tokio::test]
async fn random_codes_do_not_come_in_the_order_of_the_book() {
    let world = World::new().await;
    let codes = world.insert_codes(1_000).await;
    let calls: Vec<_> = (0..10).map(|user| world.random(&format!("user-{user}"))).collect();
    let answers = race(1, &calls, async |call| world.run_batch(call.clone()).await).await;
    let given: Vec<&str> = winners(&answers).iter().map(|won| won.code.as_str()).collect();
    assert_ne!(given, codes[..10], "one in 10^30 by chance");
}

#[tokio::test]
async fn codes_raced_for_by_name_have_one_holder_each() {
    let world = World::new().await;
    let codes = world.insert_codes(20).await;
    let calls: Vec<_> =
        (0..200).map(|call| world.named(&codes[call % 20], &format!("user-{}", call / 20))).collect();
    let naming = race(24, calls.chunks(7), async |batch| world.store().run_batch(batch).await.unwrap());
    let answers: Vec<_> = naming.await.into_iter().flatten().collect();
    assert_eq!((winners(&answers).len(), count_refused(&answers, &Rejection::AlreadyAssigned)), (20, 180));
    world.assert_invariants().await;
}

#[tokio::test]
async fn batches_of_names_in_opposite_orders_do_not_deadlock() {
    let world = World::new().await;
    let codes = world.insert_codes(21).await;
    let batch = |user: &str| codes.iter().map(|code| world.named(code, user)).collect::<Vec<_>>();
    let (forward, mut backward) = (batch("ana"), batch("eva"));
    backward.reverse();
    let naming = race(2, [&forward, &backward], async |batch| world.store().run_batch(batch).await.unwrap());
    let answers: Vec<_> = world.all_at_once_on(&codes[10], 2, naming).await.into_iter().flatten().collect();
    assert_eq!((winners(&answers).len(), count_refused(&answers, &Rejection::AlreadyAssigned)), (21, 21));
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

/// Invariant I-2.
#[tokio::test]
async fn of_eight_who_all_saw_a_code_free_one_gets_it() {
    let world = World::new().await;
    let codes = world.insert_codes(1).await;
    let asking =
        race(8, 0..8, async |user| world.run_batch(world.named(&codes[0], &format!("user-{user}"))).await);
    let answers = world.all_at_once_on(&codes[0], 8, asking).await;
    assert_eq!((winners(&answers).len(), count_refused(&answers, &Rejection::AlreadyAssigned)), (1, 7));
    world.assert_invariants().await;
}

#[tokio::test]
async fn named_and_random_calls_race_for_the_same_codes_and_limits() {
    let world = World::with(capped(2)).await;
    let codes = world.insert_codes(60).await;
    let named = race(12, 0..120, async |call| {
        world.run_batch(world.named(&codes[call % 60], &format!("user-{}", call % 40))).await
    });
    let random =
        race(12, 0..120, async |call| world.run_batch(world.random(&format!("user-{}", call % 40))).await);
    let (named, random) = futures::join!(named, random);
    let fresh = winners(&named).into_iter().filter(|won| !won.repeated).count() + winners(&random).len();
    assert_eq!(fresh, 60, "all codes are assigned, each once");
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

#[tokio::test]
async fn a_batch_of_names_stops_at_the_users_limit() {
    let world = World::with(capped(2)).await;
    let codes = world.insert_codes(5).await;
    let calls: Vec<_> = codes.iter().map(|code| world.named(code, "ana")).collect();
    let answers = world.store().run_batch(&calls).await.unwrap();
    assert_eq!(winners(&answers).len(), 2);
    assert_eq!(count_refused(&answers, &Rejection::UserLimitReached { limit: 2 }), 3);
    world.assert_invariants().await;
}

#[tokio::test]
async fn asking_again_for_a_code_one_holds_is_the_same_answer() {
    let world = World::new().await;
    let codes = world.insert_codes(1).await;
    let first = world.give(&codes[0], "ana").await;
    let again = world.give(&codes[0], "ana").await;
    assert!(!first.repeated && again.repeated);
    assert_eq!(again, Assigned { repeated: true, ..first });
    assert_eq!(world.actions(&codes[0]).await, ["ASSIGN"]);
    let other = world.run_batch(world.named(&codes[0], "eva")).await;
    assert_eq!(other.outcome, Err(Rejection::AlreadyAssigned));
}

#[tokio::test]
async fn a_book_gives_codes_only_while_it_is_active_and_in_its_time() {
    let world = World::new().await;
    let codes = world.insert_codes(3).await;
    let patches = [
        (
            BookPatch { status: Change::Set(BookStatus::Paused), ..BookPatch::default() },
            Rejection::BookNotActive,
        ),
        (in_days(1, 2), Rejection::BookNotStarted),
        (in_days(-2, -1), Rejection::BookExpired),
        (BookPatch { status: Change::Set(BookStatus::Closed), ..in_days(-2, 2) }, Rejection::BookNotActive),
    ];
    for (patch, rejection) in patches {
        let active = BookPatch { status: Change::Set(BookStatus::Active), ..patch.clone() };
        let patch = if patch.status == Change::Keep { active } else { patch };
        world.store().update_book(None, world.business, world.book, patch).await.unwrap().outcome.unwrap();
        assert_eq!(world.run_batch(world.random("ana")).await.outcome, Err(rejection.clone()));
        assert_eq!(world.run_batch(world.named(&codes[0], "ana")).await.outcome, Err(rejection));
    }
    world.assert_invariants().await;
}

fn in_days(from: i64, until: i64) -> BookPatch {
    let now = chrono::Utc::now();
    let day = |days| Some(now + chrono::TimeDelta::days(days));
    BookPatch {
        starts_at: Change::Set(day(from)),
        expires_at: Change::Set(day(until)),
        ..BookPatch::default()
    }
}

#[tokio::test]
async fn a_book_that_does_not_exist_is_not_found() {
    let world = World::new().await;
    let unknown =
        world.call(AssignRandom { book: BookId::generate(), user: "ana".to_owned(), recipient_key: None });
    assert_eq!(world.run_batch(unknown).await.outcome, Err(Rejection::not_found("coupon book")));
    let none = world.store().get_book(world.business, BookId::generate()).await;
    assert!(matches!(none, Err(Error::Rejected(Rejection::NotFound { .. }))));
}
