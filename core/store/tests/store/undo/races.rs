//! Undo against every other transition of the same code.

use cuponera_domain::book::BookRules;
use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::id::RedemptionId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::{AttemptResult, Call, Transition};
use cuponera_testkit::{World, race, rules, waits_for};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sqlx::{AssertSqlSafe, query};

use super::{held, redeemed, revoke, rollback, void};

/// A transition of a code of `ana`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Rollback,
    Revoke,
    Void,
    Lock,
    Redeem,
}

const ACTS: [Act; 5] = [Act::Rollback, Act::Revoke, Act::Void, Act::Lock, Act::Redeem];

impl Act {
    /// Whether no rule rejects it on a code that was used this many times of two. Otherwise it does not wait for the coupon.
    fn is_possible(self, uses: i32) -> bool {
        match self {
            Self::Rollback => uses > 0,
            Self::Revoke => uses == 0,
            Self::Void | Self::Lock | Self::Redeem => uses < 2,
        }
    }
}

/// Attempts it until it has an answer; returns whether it had its effect.
async fn act(world: &World, act: Act, code: &str, redemption: Option<RedemptionId>) -> bool {
    match act {
        Act::Rollback => match redemption {
            Some(redemption) => world.run_batch(rollback(world, code, redemption)).await.outcome.is_ok(),
            None => false,
        },
        Act::Revoke => world.run_batch(revoke(world, code)).await.outcome.is_ok(),
        Act::Void => world.run_batch(void(world, code)).await.outcome.is_ok_and(|done| done.version > 0),
        Act::Lock => world.run_batch(world.lock(code, "ana")).await.outcome.is_ok(),
        Act::Redeem => world.run_batch(world.redeem(code, "ana")).await.outcome.is_ok(),
    }
}

/// Each pair on a code that was never used, on one that was used once of twice, and on one that is used up. All calls have read
/// the coupon before one of them writes.
#[tokio::test]
async fn two_transitions_of_a_code_at_once_leave_a_whole_history() {
    let (world, codes) = held(45, 2).await;
    let mut codes = codes.iter();
    for (n, first) in ACTS.into_iter().enumerate() {
        for second in &ACTS[n..] {
            for uses in 0..3 {
                let code = codes.next().unwrap();
                let mut redemption = None;
                for _ in 0..uses {
                    redemption = Some(redeemed(&world, code).await.redemption);
                }
                let pair = [first, *second, first, *second];
                let calls = race(4, pair, async |one| act(&world, one, code, redemption).await);
                let waiting = pair.iter().filter(|one| one.is_possible(uses)).count();
                let done = match i64::try_from(waiting).unwrap() {
                    0 => calls.await,
                    waiting => world.all_at_once_on(code, waiting, calls).await,
                };
                let times =
                    |which| pair.iter().zip(&done).filter(|(one, done)| **one == which && **done).count();
                assert!(times(Act::Rollback) <= 1, "{pair:?} after {uses} uses: {done:?}");
                assert!(times(Act::Revoke) <= 1 && times(Act::Void) <= 1, "{pair:?}: {done:?}");
                assert_eq!(times(Act::Rollback), usize::from(uses > 0 && pair.contains(&Act::Rollback)));
                let coupon = world.coupon(code).await;
                assert!(times(Act::Void) == 0 || coupon.status == CouponStatus::Void, "{pair:?}: {coupon:?}");
            }
        }
    }
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

/// Executes `call` while another transaction holds its coupon, which then commits these statements: the call has read the state
/// before them, and writes after them.
async fn overtaken<T: Transition>(world: &World, call: Call<T>, code: &str, sqls: &[&str]) -> T::Outcome {
    let mut other = world.pool().begin().await.unwrap();
    for sql in sqls {
        query(AssertSqlSafe(sql.replace("$code", &format!("'{code}'")))).execute(&mut *other).await.unwrap();
    }
    let answer = waits_for(world.pool(), 1, other.commit(), world.run_batch(call)).await;
    answer.outcome.unwrap()
}

/// The code of `ana` is revoked and given to `leo`, who held no code.
const GIVE_TO_LEO: [&str; 4] = [
    "update coupon set holder = 'leo', assignment_id = gen_random_uuid(), version = version + 2 where code = $code",
    "update user_quota set held = held - 1 where user_id = 'ana'",
    "insert into user_quota (book_id, user_id, held, granted) select book_id, 'leo', 1, 1 from coupon where code = $code",
    "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, reason, actor)
     select gen_random_uuid(), business_id, book_id, position, version - 1 + n, case n when 0 then 'ASSIGNED' else 'AVAILABLE' end::coupon_status,
            case n when 0 then 'AVAILABLE' else 'ASSIGNED' end::coupon_status, case n when 0 then 'REVOKE' else 'ASSIGN' end, holder, 'test', 'test'
     from coupon, generate_series(0, 1) n where code = $code",
];

/// The quota of the new holder is not in the snapshot of the statement.
/// Invariant I-50.
#[tokio::test]
async fn a_code_that_gets_another_holder_at_the_last_moment_frees_the_quota_of_that_holder() {
    let (world, codes) = held(2, 1).await;
    let revoked = overtaken(&world, revoke(&world, &codes[0]), &codes[0], &GIVE_TO_LEO).await;
    assert_eq!(revoked.version, 4);
    query("delete from user_quota where user_id = 'leo'").execute(world.pool()).await.unwrap();
    let voided = overtaken(&world, void(&world, &codes[1]), &codes[1], &GIVE_TO_LEO).await;
    assert_eq!(voided.version, 4);
    world.assert_invariants().await;
}

/// The other rollback is not in the snapshot of the statement.
/// Invariant I-50.
#[tokio::test]
async fn of_two_rollbacks_of_a_code_at_once_the_second_knows_of_the_first() {
    let (world, codes) = held(1, 2).await;
    redeemed(&world, &codes[0]).await;
    let last = redeemed(&world, &codes[0]).await.redemption;
    let rolled_back = overtaken(
        &world,
        rollback(&world, &codes[0], last),
        &codes[0],
        &[
            "update coupon set status = 'ASSIGNED', redeem_count = 1, rollback_count = 1, version = version + 1 where code = $code",
            "update redemption set rolled_back_at = now() where code = $code and use_number = 1",
            "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, reason, actor)
             select gen_random_uuid(), business_id, book_id, position, version, 'REDEEMED', 'ASSIGNED', 'ROLLBACK', holder, 'test', 'test'
             from coupon where code = $code",
            "insert into book_delta (book_id, assigned, redeemed) select book_id, 1, -1 from coupon where code = $code",
        ],
    )
    .await;
    assert_eq!((rolled_back.redeem_count, world.coupon(&codes[0]).await.redeemed_at), (0, None));
    world.assert_invariants().await;
}

/// A batch of undo waits for no coupon that another transaction holds.
#[tokio::test]
async fn a_batch_skips_a_held_coupon_and_undoes_the_others() {
    let (world, codes) = held(8, 1).await;
    let mut other = world.pool().begin().await.unwrap();
    query("select from coupon where code = $1 for update")
        .bind(&codes[3])
        .execute(&mut *other)
        .await
        .unwrap();
    let calls: Vec<_> = codes.iter().map(|code| revoke(&world, code)).collect();
    let tried = world.store().try_each(&calls).await;
    let busy: Vec<_> = tried
        .iter()
        .enumerate()
        .filter(|(_, tried)| matches!(tried, AttemptResult::Busy))
        .map(|(n, _)| n)
        .collect();
    assert_eq!(busy, [3]);
    other.rollback().await.unwrap();
    world.assert_invariants().await;
}

const CODES: i32 = 24;
const USERS: [&str; 4] = ["ana", "leo", "eva", "joe"];

/// One of all transitions, of some codes and users. Refusals are expected; faults are not, except of a busy row.
async fn any(world: &World, codes: &[String], seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let code = codes[rng.random_range(0..codes.len())].as_str();
    let user = USERS[rng.random_range(0..USERS.len())];
    match rng.random_range(0..14) {
        0..3 => drop(try_one(world, world.random(user)).await),
        3 | 4 => drop(try_one(world, revoke(world, code)).await),
        5..7 => drop(try_one(world, world.lock(code, user)).await),
        7 => drop(try_one(world, world.unlock(code, user)).await),
        8..10 => drop(try_one(world, world.redeem(code, user)).await),
        10..13 => {
            let redemption = query("select id from redemption where code = $1 order by random() limit 1")
                .bind(code)
                .fetch_optional(world.pool())
                .await
                .unwrap();
            if let Some(row) = redemption {
                let redemption = RedemptionId(sqlx::Row::get(&row, 0));
                drop(try_one(world, rollback(world, code, redemption)).await);
            }
        }
        _ if rng.random_bool(0.2) => drop(try_one(world, void(world, code)).await),
        _ => {}
    }
}

async fn try_one<T: Transition>(world: &World, call: Call<T>) -> Option<T::Outcome> {
    match world.store().run_batch(&[call]).await {
        Ok(mut answers) => answers.pop().unwrap().outcome.ok(),
        Err(Error::Busy) => None,
        Err(fault) => panic!("{}", fault.chain()),
    }
}

#[tokio::test]
async fn all_transitions_at_once_leave_exact_quotas_counts_and_histories() {
    let limits = BookRules { max_codes_per_user: Some(5), max_redeems_per_user: 3, ..rules() };
    let world = World::with(limits).await;
    let codes = world.insert_codes(CODES).await;
    let calls = race(20, 0..2_000, async |seed| any(&world, &codes, seed).await);
    let sweeps = race(1, 0..10, async |_| {
        world.expire_all_locks().await;
        world.store().expire_locks(20).await.unwrap();
        world.store().roll_up_counts().await.unwrap();
    });
    futures::join!(calls, sweeps);
    world.assert_invariants().await;
    for action in ["ASSIGN", "REVOKE", "LOCK", "REDEEM", "ROLLBACK", "VOID"] {
        let seen = "select 1 from coupon_event where action = $1 limit 1";
        assert!(
            query(seen).bind(action).fetch_optional(world.pool()).await.unwrap().is_some(),
            "no {action}"
        );
    }
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}

#[tokio::test]
async fn batches_of_undo_in_opposite_orders_do_not_deadlock() {
    let (world, codes) = held(40, 1).await;
    let forward: Vec<_> = codes.iter().map(|code| revoke(&world, code)).collect();
    let backward: Vec<_> = codes.iter().rev().map(|code| void(&world, code)).collect();
    let revokes = race(4, 0..4, async |_| world.store().run_batch(&forward).await.unwrap());
    let voids = race(4, 0..4, async |_| world.store().run_batch(&backward).await.unwrap());
    let (freed, ended) = futures::join!(revokes, voids);
    assert!(
        freed.iter().flatten().all(|answer| matches!(
            answer.outcome,
            Ok(_) | Err(Rejection::NotAssigned | Rejection::CouponVoid)
        ))
    );
    assert!(ended.iter().flatten().all(|answer| answer.outcome.is_ok()));
    assert_eq!(world.counts().await.void, 40);
    world.assert_invariants().await;
    assert_eq!(world.database.close_and_count_deadlocks().await, 0);
}
