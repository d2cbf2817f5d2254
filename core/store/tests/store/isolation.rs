//! Isolation in a batch: a call that waits or fails does not delay or fail the other calls.

use std::time::{Duration, Instant};

use cuponera_store::Error;
use cuponera_store::{AttemptResult, Call, CallResult, TIMEOUT, Transition};
use cuponera_testkit::{CallExt, World, key, rules};
use sqlx::{AssertSqlSafe, PgTransaction, query, query_scalar};

/// The other calls of a batch are answered within this time, on a busy machine too.
const SOON: Duration = Duration::from_millis(1_500);
const BATCH: i32 = 64;

/// A world where each of [`BATCH`] users holds one code and [`BATCH`] codes are free. The id of a user is the user's
/// code.
async fn crowd() -> (World, Vec<String>, Vec<String>) {
    let world = World::with(rules()).await;
    let held = world.insert_codes(BATCH).await;
    for code in &held {
        world.give(code, code).await;
    }
    let free = world.insert_codes_into(world.book, "F", BATCH).await;
    (world, held, free)
}

/// Another transaction that has executed this statement and stays open.
async fn blocker(world: &World, sql: &str) -> PgTransaction<'static> {
    let mut transaction = world.pool().begin().await.expect("beginning failed");
    let done = query(AssertSqlSafe(sql)).execute(&mut *transaction).await.expect("holding a row failed");
    assert!(done.rows_affected() > 0, "{sql} locks no row");
    transaction
}

async fn holding(world: &World, code: &str) -> PgTransaction<'static> {
    blocker(world, &format!("select from coupon where code = '{code}' for update")).await
}

/// Runs a batch whose call at index `stuck` needs a row that `held` holds. Asserts that this call is busy after
/// [`TIMEOUT`], that all others are answered before, and that the call has its effect after `held` has ended.
async fn assert_only_one_waits<T>(
    world: &World,
    calls: Vec<Call<T>>,
    stuck: usize,
    held: PgTransaction<'static>,
) where
    T: Transition + Clone,
    T::Outcome: std::fmt::Debug,
{
    let begun = Instant::now();
    let tried = world.store().try_each(&calls).await;
    let mut others: Vec<Option<CallResult<T::Outcome>>> = Vec::new();
    for (place, tried) in tried.into_iter().enumerate() {
        match tried {
            AttemptResult::Answered(answer) => others.push(Some(answer)),
            AttemptResult::Busy if place == stuck => others.push(None),
            // Busy because of the stuck call in its statement; runs by itself.
            AttemptResult::Busy => {
                others.push(Some(world.store().run_alone(&calls[place], deadline()).await.unwrap()));
            }
            AttemptResult::Failed(fault) => panic!("{place} failed: {}", fault.chain()),
        }
    }
    assert!(begun.elapsed() < SOON, "the others waited for {:?}", begun.elapsed());
    for (place, answer) in others.iter().enumerate() {
        match answer {
            Some(answer) => assert!(answer.outcome.is_ok(), "{place}: {answer:?}"),
            None => assert_eq!(place, stuck),
        }
    }
    assert!(others[stuck].is_none(), "the row was not held");
    let begun = Instant::now();
    let alone = world.store().run_alone(&calls[stuck], deadline()).await;
    assert!(matches!(alone, Err(Error::Busy)), "{alone:?}");
    assert!(begun.elapsed() >= TIMEOUT, "the call was abandoned after {:?}", begun.elapsed());
    held.rollback().await.expect("rolling back failed");
    let settled = world.run_batch(calls[stuck].clone()).await;
    assert!(settled.outcome.is_ok() && !settled.replayed, "{settled:?}");
    world.assert_invariants().await;
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + TIMEOUT
}

/// Invariant I-6.
#[tokio::test]
async fn a_held_coupon_keeps_no_other_redemption_waiting() {
    let (world, held, _) = crowd().await;
    let calls =
        held.iter().map(|code| world.redeem(code, code).with_key(&format!("redeem {code}"))).collect();
    let blocker = holding(&world, &held[7]).await;
    assert_only_one_waits(&world, calls, 7, blocker).await;
}

#[tokio::test]
async fn a_held_coupon_keeps_no_other_lock_or_release_waiting() {
    let (world, held, _) = crowd().await;
    let calls = held.iter().map(|code| world.lock(code, code)).collect();
    let blocker = holding(&world, &held[0]).await;
    assert_only_one_waits(&world, calls, 0, blocker).await;
    let calls = held.iter().map(|code| world.unlock(code, code)).collect();
    let blocker = holding(&world, &held[63]).await;
    assert_only_one_waits(&world, calls, 63, blocker).await;
}

#[tokio::test]
async fn a_held_coupon_keeps_no_other_assignment_waiting() {
    let (world, _, free) = crowd().await;
    let calls = free.iter().map(|code| world.named(code, code)).collect();
    let blocker = holding(&world, &free[5]).await;
    assert_only_one_waits(&world, calls, 5, blocker).await;
}

/// A quota and a key cannot be skipped: the statement fails after its lock timeout, and its items run one by one.
/// Invariant I-6.
#[tokio::test]
async fn a_held_quota_keeps_no_other_assignment_waiting() {
    let (world, held, _) = crowd().await;
    let calls = held.iter().map(|user| world.random(user)).collect();
    let quota = format!("select from user_quota where user_id = '{}' for update", held[9]);
    let blocker = blocker(&world, &quota).await;
    assert_only_one_waits(&world, calls, 9, blocker).await;
}

#[tokio::test]
async fn a_key_that_is_being_stored_keeps_no_other_call_waiting() {
    let (world, held, _) = crowd().await;
    let calls: Vec<_> =
        held.iter().map(|code| world.redeem(code, code).with_key(&format!("redeem {code}"))).collect();
    let being_stored = key(&format!("redeem {}", held[3]), "body");
    let insert = format!(
        "insert into request_key (id, fingerprint, answer) values ('{}', '{}', '{{}}')",
        being_stored.id, being_stored.fingerprint
    );
    let blocker = blocker(&world, &insert).await;
    assert_only_one_waits(&world, calls, 3, blocker).await;
}

/// A trigger simulates an error of one row.
/// Invariant I-6.
#[tokio::test]
async fn an_error_of_one_call_is_its_own() {
    let (world, held, _) = crowd().await;
    let broken = "create function broken() returns trigger language plpgsql as $$
        begin if new.code = 'C000011' then raise exception 'broken'; end if; return new; end $$;
        create trigger broken before update on coupon for each row execute function broken()";
    sqlx::raw_sql(broken).execute(world.pool()).await.unwrap();
    let calls: Vec<_> = held.iter().map(|code| world.redeem(code, code)).collect();
    for (place, answer) in world.store().run_each(&calls).await.into_iter().enumerate() {
        match answer {
            Ok(answer) => assert!(answer.outcome.is_ok() && place != 11, "{place}: {answer:?}"),
            Err(fault) => assert!(matches!(fault, Error::Internal(_)) && place == 11, "{place}: {fault:?}"),
        }
    }
    world.assert_invariants().await;
}

#[tokio::test]
async fn the_refusals_of_a_batch_are_kept_in_one_statement() {
    let (world, held, _) = crowd().await;
    let calls: Vec<_> =
        held.iter().map(|code| world.redeem(code, "nobody").with_key(&format!("foreign {code}"))).collect();
    for _ in 0..2 {
        for answer in world.store().run_batch(&calls).await.unwrap() {
            assert_eq!(answer.outcome.unwrap_err().code(), "not_holder");
        }
    }
    let commits = "select count(distinct xmin::text) from request_key where answer ? 'Err'";
    let commits: i64 = query_scalar(commits).fetch_one(world.pool()).await.unwrap();
    assert_eq!(commits, 1);
}

#[tokio::test]
async fn a_held_coupon_keeps_no_lapsed_lock_of_another_waiting() {
    let (world, held, _) = crowd().await;
    for code in &held[..3] {
        world.locked(code, code).await;
    }
    world.expire_all_locks().await;
    let blocker = holding(&world, &held[1]).await;
    assert_eq!(world.store().expire_locks(100).await.unwrap().expired, 2);
    assert_eq!(world.store().expire_locks(100).await.unwrap().expired, 0);
    blocker.rollback().await.unwrap();
    assert_eq!(world.store().expire_locks(100).await.unwrap().expired, 1);
    let left: i64 = query_scalar("select count(*) from lock_agenda").fetch_one(world.pool()).await.unwrap();
    assert_eq!(left, 0);
    world.assert_invariants().await;
}
