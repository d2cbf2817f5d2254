//! Take-back: exactly the codes that the distribution assigned and that were never used, whatever else happens to them and to the
//! workers.

use std::time::Duration;

use cuponera_domain::coupon::state::CouponStatus;
use cuponera_domain::job::take_back::Chunk as TakeBackStep;
use cuponera_domain::job::{JobError, JobKind};
use cuponera_store::{RejectedRowCursor, Revoke, Void};
use cuponera_testkit::{key, race};
use serde_json::json;

use super::*;

/// A distribution of this many codes to each of these members, done.
async fn distributed(world: &World, members: i32, codes: u32) -> Job {
    world.insert_codes(members * i32::try_from(codes).unwrap()).await;
    let pool = pool_of(world, members).await;
    let submitted =
        submit(world, new(world, pool, Mode::Equal, PER_USER(codes), OnShortage::Fail)).await.unwrap();
    work_all(world).await;
    job(world, submitted.id).await
}

async fn try_take_back(world: &World, id: JobId) -> Result<Job, Rejection> {
    let reason = Some("wrong pool".to_owned());
    world.store().submit_take_back(None, world.business, "service:test", id, reason).await.unwrap().outcome
}

async fn take_back(world: &World, id: JobId) -> Job {
    try_take_back(world, id).await.unwrap()
}

/// Does what a worker does with a chunk of a take-back.
async fn step(store: &Store, claim: &Claim) -> Result<ClaimState> {
    let Task::TakeBack(spec, step) = &claim.task else { panic!("not a take-back: {:?}", claim.task) };
    match step {
        TakeBackStep::Divide => store.finish_divided(claim, spec).await,
        TakeBackStep::Part(part) => store.finish_taken_back_part(claim, spec, part).await,
        TakeBackStep::Held { codes } => store.finish_taken_back_held(claim, spec, codes).await,
    }
}

/// Works the chunks of a take-back; a chunk that finds a code held is tried again.
async fn step_all(world: &World) {
    while let Some(claim) = claim(world.store(), "worker").await {
        while let Err(error) = step(world.store(), &claim).await {
            assert!(matches!(error, Error::Unavailable(_)), "{error:?}");
        }
    }
}

async fn codes_of(world: &World, user: &str) -> Vec<String> {
    query_scalar("select code from coupon where holder = $1 order by code")
        .bind(user)
        .fetch_all(world.pool())
        .await
        .unwrap()
}

/// The numbers of a result: taken back, gone, locked, redeemed.
fn numbers(job: &Job) -> [i64; 4] {
    ["takenBackCount", "goneCount", "lockedCount", "redeemedCount"]
        .map(|name| job.result[name].as_i64().unwrap())
}

fn revoke(world: &World, code: &str) -> cuponera_store::Call<Revoke> {
    world.call(Revoke { code: code.to_owned(), user: None, assignment: None, reason: "a test".to_owned() })
}

async fn rejected(world: &World, id: JobId) -> Vec<(u64, String, String, String)> {
    let page = world.store().list_rejected_rows(id, RejectedRowCursor::default()).await.unwrap();
    let rows = page.rejections.into_iter();
    rows.map(|row| (row.line, row.code, row.reason.into_owned(), row.row)).collect()
}

/// Invariant I-56.
#[tokio::test]
async fn unused_codes_are_free_again_and_the_others_stay() {
    let world = World::with(limited_to(2)).await;
    let given = distributed(&world, 10, 2).await;
    let users = ids(0..10);
    let first = async |user: usize| codes_of(&world, &users[user]).await.remove(0);
    let [locked, used, moved, revoked, voided, again] =
        [first(0).await, first(1).await, first(2).await, first(3).await, first(4).await, first(5).await];
    world.locked(&locked, &users[0]).await;
    world.run_batch(world.redeem(&used, &users[1])).await.outcome.unwrap();
    for code in [&moved, &revoked, &again] {
        world.run_batch(revoke(&world, code)).await.outcome.unwrap();
    }
    world.give(&moved, "leo").await;
    world.give(&again, &users[5]).await;
    let void = Void { code: voided.clone(), user: None, only: None, reason: "leaked".to_owned() };
    world.run_batch(world.call(void)).await.outcome.unwrap();

    let submitted = take_back(&world, given.id).await;
    assert_eq!((submitted.kind.as_str(), submitted.total), ("TAKE_BACK", None));
    step_all(&world).await;
    let done = job(&world, submitted.id).await;
    assert_eq!(
        (done.status, done.total, done.succeeded, done.failed),
        (JobStatus::Succeeded, Some(20), 18, 2)
    );
    assert_eq!(numbers(&done), [14, 4, 1, 1]);
    assert_eq!(done.result["distributionId"], json!(given.id));
    for (code, holder) in [(&locked, &users[0]), (&used, &users[1]), (&again, &users[5])] {
        assert_eq!(world.coupon(code).await.holder.as_ref(), Some(holder));
    }
    assert_eq!(world.coupon(&moved).await.holder.as_deref(), Some("leo"));
    assert_eq!(world.coupon(&voided).await.status, CouponStatus::Void);
    assert_eq!(world.counts().await.available, 14 + 1);
    let rows = rejected(&world, done.id).await;
    let reasons: Vec<_> = rows.iter().map(|row| (row.1.as_str(), row.2.as_str(), row.3.clone())).collect();
    let row = |user: usize, code: &str| format!("{} {code}", users[user]);
    let expected = [
        (locked.as_str(), "coupon_locked", row(0, &locked)),
        (used.as_str(), "coupon_already_redeemed", row(1, &used)),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(rows.iter().map(|row| row.0 <= 4).collect::<Vec<_>>(), [true, true], "lines of the report");
    let event: (String, String, i64) = query_as(
        "select min(actor), min(reason), count(*) from coupon_event where action = 'REVOKE' and reason <> 'a test'",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(event, (format!("job:{}", done.id), "wrong pool".to_owned(), 14));
    // The quota is free: user-000009 may have two codes again, user-000000 one.
    for (user, rooms) in [(9, 2), (0, 1)] {
        for _ in 0..rooms {
            world.run_batch(world.random(&users[user])).await.outcome.unwrap();
        }
        let full = world.run_batch(world.random(&users[user])).await.outcome;
        assert!(matches!(full, Err(Rejection::UserLimitReached { .. })), "{full:?}");
    }
    world.assert_invariants().await;
    // A second take-back finds the rest.
    world.run_batch(world.unlock(&locked, &users[0])).await.outcome.unwrap();
    let second = take_back(&world, given.id).await;
    assert_ne!(second.id, submitted.id);
    step_all(&world).await;
    assert_eq!(numbers(&job(&world, second.id).await), [1, 18, 0, 1]);
    world.assert_invariants().await;
}

#[tokio::test]
async fn only_a_distribution_that_is_over_is_taken_back_and_one_take_back_runs_at_a_time() {
    let world = World::new().await;
    world.insert_codes(20).await;
    let pool = pool_of(&world, 10).await;
    let preview =
        NewDistribution { dry_run: true, ..new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail) };
    let preview = submit(&world, preview).await.unwrap();
    work_all(&world).await;
    let given = submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Fail)).await.unwrap();
    assert_eq!(try_take_back(&world, given.id).await.unwrap_err().code(), "wrong_job_state");
    work_all(&world).await;
    assert_eq!(try_take_back(&world, preview.id).await.unwrap_err().code(), "invalid");
    let open = take_back(&world, given.id).await;
    assert_eq!(take_back(&world, given.id).await.id, open.id);
    assert_eq!(try_take_back(&world, open.id).await.unwrap_err().code(), "invalid");
    let key = key("take-back", "");
    for replayed in [false, true] {
        let (store, business) = (world.store(), world.business);
        let answer =
            store.submit_take_back(Some(key), business, "service:test", given.id, None).await.unwrap();
        assert_eq!((answer.replayed, answer.outcome.unwrap().id), (replayed, open.id));
    }
    step_all(&world).await;
    let elsewhere = world.another_business().await;
    let foreign = world.store().submit_take_back(None, elsewhere, "test", given.id, None).await.unwrap();
    assert_eq!(foreign.outcome.unwrap_err(), Rejection::not_found("job"));
    query("update job set discarding_at = now() where id = $1")
        .bind(given.id.0)
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(try_take_back(&world, given.id).await.unwrap_err(), Rejection::JobDiscarded);
    let job = job(&world, open.id).await;
    assert_eq!((job.status, numbers(&job)), (JobStatus::Succeeded, [10, 0, 0, 0]));
    world.assert_invariants().await;
}

/// The distribution stays over, and its report stays, until the take-back has ended.
#[tokio::test]
async fn a_distribution_is_neither_retried_nor_discarded_while_it_is_taken_back() {
    let world = World::new().await;
    let given = distributed(&world, 10, 1).await;
    let retried =
        "update job set status = 'FAILED', chunks_failed = 1, chunks_done = chunks_done - 1 where id = $1";
    let chunk = "update job_chunk set status = 'FAILED' where job_id = $1 and number = 0";
    for sql in [retried, chunk] {
        query(sqlx::AssertSqlSafe(sql)).bind(given.id.0).execute(world.pool()).await.unwrap();
    }
    let open = take_back(&world, given.id).await;
    let store = world.store();
    let retry = store.retry_job_if_failed(None, world.business, given.id).await.unwrap().outcome.unwrap_err();
    assert!(
        matches!(&retry, Rejection::WrongJobState { hint, .. } if hint.contains("taken back")),
        "{retry:?}"
    );
    assert!(store.redrive_jobs(None, world.business).await.unwrap().outcome.unwrap().jobs.is_empty());
    assert!(store.mark_jobs_to_discard(Duration::ZERO).await.unwrap().is_empty());
    step_all(&world).await;
    assert_eq!(numbers(&job(&world, open.id).await), [10, 0, 0, 0]);
    let marked = store.mark_jobs_to_discard(Duration::ZERO).await.unwrap();
    assert_eq!(marked.len(), 2);
    let unmark = "update job set discarding_at = null where discarding_at is not null";
    query(unmark).execute(world.pool()).await.unwrap();
    let second = take_back(&world, given.id).await;
    // As by a program of the previous version, which knows no take-back.
    query("update job set status = 'RUNNING', finished_at = null where id = $1")
        .bind(given.id.0)
        .execute(world.pool())
        .await
        .unwrap();
    let divide = next(&world).await;
    let refused = step(store, &divide).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejection::WrongJobState { .. }))), "{refused:?}");
    store.cancel_job_if_open(None, world.business, second.id).await.unwrap().outcome.unwrap();
    world.assert_invariants().await;
}

/// Members with many codes, codes of one member in two slices, and pieces that end within the codes of a member.
#[tokio::test]
async fn the_parts_have_each_code_once() {
    for (members, codes) in [(7, 3_000), (2_600, 1), (1, 2_000)] {
        let world = World::new().await;
        let given = distributed(&world, members, codes).await;
        let total = i64::from(members) * i64::from(codes);
        let open = take_back(&world, given.id).await;
        step_all(&world).await;
        let done = job(&world, open.id).await;
        assert_eq!(
            (done.status, done.total, numbers(&done)),
            (JobStatus::Succeeded, Some(total), [total, 0, 0, 0])
        );
        let parts: i64 = query_scalar(
            "select count(*) from job_chunk where job_id = $1 and work->>'step' = 'PART' and work->'from'->>'codes_before' = '0'")
            .bind(done.id.0)
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert!(parts >= i64::from(members).min(3), "{parts} parts");
        assert_eq!(held(&world, world.book).await.len(), 0);
        world.assert_invariants().await;
    }
}

/// Fails a chunk, as a worker does after its last attempt.
async fn fail(world: &World, claim: &Claim) {
    let error = JobError { code: "internal".to_owned(), detail: "a test".to_owned() };
    assert_eq!(world.store().fail_chunk_if_held(claim, &error).await.unwrap(), ClaimState::Held);
}

async fn retry(world: &World, id: JobId) {
    world.store().retry_job_if_failed(None, world.business, id).await.unwrap().outcome.unwrap();
}

/// A distribution of 1,000 codes to each of 30 members, whose second of three slices failed: the members in the middle of the report have
/// no codes.
async fn distributed_with_a_gap(world: &World) -> JobId {
    world.insert_codes(30_000).await;
    let pool = pool_of(world, 30).await;
    let new = new(world, pool, Mode::Equal, PER_USER(1_000), OnShortage::Fail);
    let given = submit(world, new).await.unwrap();
    let mut chunk = Some(up_to_assign(world).await);
    while let Some(claimed) = chunk {
        match claimed.task {
            Task::Distribute(_, Chunk::Assign { slice: 1 }) => fail(world, &claimed).await,
            _ => assert_eq!(work(world.store(), &claimed).await.unwrap(), Step::Finished),
        }
        chunk = claim(world.store(), "worker").await;
    }
    assert_eq!(job(world, given.id).await.status, JobStatus::Failed);
    given.id
}

/// The retried distribution assigns codes between those of parts that are done.
#[tokio::test]
async fn a_retried_take_back_takes_also_what_its_distribution_assigned_meanwhile() {
    for (is_distribution_retried, total) in [(false, 20_000), (true, 30_000)] {
        let world = World::new().await;
        let given = distributed_with_a_gap(&world).await;
        let open = take_back(&world, given).await;
        while let Some(claimed) = claim(world.store(), "worker").await {
            match &claimed.task {
                Task::TakeBack(_, TakeBackStep::Part(part)) if part.until.is_none() => {
                    fail(&world, &claimed).await;
                }
                _ => assert_eq!(step(world.store(), &claimed).await.unwrap(), ClaimState::Held),
            }
        }
        let failed = job(&world, open.id).await;
        assert_eq!((failed.status, failed.total), (JobStatus::Failed, Some(20_000)));
        if is_distribution_retried {
            retry(&world, given).await;
            work_all(&world).await;
            assert_eq!(job(&world, given).await.status, JobStatus::Succeeded);
        }
        retry(&world, open.id).await;
        step_all(&world).await;
        let done = job(&world, open.id).await;
        assert_eq!(held(&world, world.book).await.len(), 0);
        assert_eq!(
            (done.status, done.total, done.succeeded, numbers(&done)),
            (JobStatus::Succeeded, Some(total), total, [total, 0, 0, 0])
        );
        world.assert_invariants().await;
    }
}

/// The lines of the rejected rows go on where those of the first division ended.
#[tokio::test]
async fn codes_of_a_second_division_have_numbers_of_their_own() {
    let world = World::new().await;
    let given = distributed_with_a_gap(&world).await;
    let open = take_back(&world, given).await;
    let divide = next(&world).await;
    assert_eq!(step(world.store(), &divide).await.unwrap(), ClaimState::Held);
    while let Some(claimed) = claim(world.store(), "worker").await {
        fail(&world, &claimed).await;
    }
    retry(&world, given).await;
    work_all(&world).await;
    let users = ids(0..30);
    let locked = [codes_of(&world, &users[0]).await.remove(0), codes_of(&world, &users[10]).await.remove(0)];
    world.locked(&locked[0], &users[0]).await;
    world.locked(&locked[1], &users[10]).await;
    retry(&world, open.id).await;
    step_all(&world).await;
    let done = job(&world, open.id).await;
    assert_eq!((done.status, numbers(&done)), (JobStatus::Succeeded, [29_998, 0, 2, 0]));
    let mut rows = rejected(&world, open.id).await;
    rows.sort();
    let lines: Vec<_> = rows.iter().map(|row| (row.0 <= 1_000, row.0 > 20_000 && row.0 <= 21_000)).collect();
    assert_eq!(lines, [(true, false), (false, true)], "{rows:?}");
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_distribution_that_gave_nothing_is_taken_back_at_once() {
    let world = World::new().await;
    let pool = pool_of(&world, 3).await;
    let given =
        submit(&world, new(&world, pool, Mode::Equal, PER_USER(1), OnShortage::Partial)).await.unwrap();
    work_all(&world).await;
    let open = take_back(&world, given.id).await;
    step_all(&world).await;
    let done = job(&world, open.id).await;
    assert_eq!((done.status, done.total, done.succeeded), (JobStatus::Succeeded, Some(0), 0));
}

/// A code that another transaction holds is left to a later chunk; the others are taken back without it.
#[tokio::test]
async fn a_held_code_is_taken_back_later_and_delays_no_other() {
    let world = World::new().await;
    let given = distributed(&world, 50, 1).await;
    let code = codes_of(&world, &ids(7..8)[0]).await.remove(0);
    let mut other = world.pool().begin().await.unwrap();
    query("select from coupon where code = $1 for update").bind(&code).execute(&mut *other).await.unwrap();
    let open = take_back(&world, given.id).await;
    for _ in 0..2 {
        let chunk = next(&world).await;
        assert_eq!(step(world.store(), &chunk).await.unwrap(), ClaimState::Held);
    }
    assert_eq!(world.counts().await.available, 49);
    let waiting = next(&world).await;
    let held = step(world.store(), &waiting).await;
    assert!(matches!(held, Err(Error::Unavailable(_))), "it is tried again later: {held:?}");
    other.rollback().await.unwrap();
    // Meanwhile it has got another holder.
    world.run_batch(revoke(&world, &code)).await.outcome.unwrap();
    world.give(&code, "leo").await;
    world.locked(&code, "leo").await;
    assert_eq!(step(world.store(), &waiting).await.unwrap(), ClaimState::Held);
    let done = job(&world, open.id).await;
    assert_eq!((done.status, numbers(&done)), (JobStatus::Succeeded, [49, 1, 0, 0]));
    assert_eq!(codes_of(&world, "leo").await, [code]);
    world.assert_invariants().await;
}

/// A worker that dies rolls back; one that was overtaken finishes nothing.
#[tokio::test]
async fn each_chunk_that_is_done_twice_has_its_effect_once() {
    let world = World::new().await;
    let given = distributed(&world, 1_500, 4).await;
    let open = take_back(&world, given.id).await;
    while let Some(first) = world.store().claim_chunk("first", Duration::ZERO, &JobKind::ALL).await.unwrap() {
        let second = next(&world).await;
        assert_eq!((second.number, second.epoch), (first.number, first.epoch + 1));
        let (overtaken, mut done) = futures::join!(step(world.store(), &first), step(world.store(), &second));
        assert!(!matches!(overtaken, Ok(ClaimState::Held)), "{overtaken:?}");
        while done.is_err() {
            done = step(world.store(), &second).await;
        }
        assert_eq!(done.unwrap(), ClaimState::Held);
    }
    let done = job(&world, open.id).await;
    assert_eq!((done.status, numbers(&done)), (JobStatus::Succeeded, [6_000, 0, 0, 0]));
    world.assert_invariants().await;
}

/// What a client did to a code before or while it was taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Nothing,
    Locked,
    Redeemed,
    GaveToLeo,
}

/// 16 clients lock, redeem, and revoke and assign the codes, most of them while four workers take the codes back. Invariant I-56.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn codes_that_are_used_or_assigned_anew_meanwhile_stay_with_their_users() {
    let world = World::with(limited_to(3_000)).await;
    let given = distributed(&world, 1_000, 3).await;
    let codes: Vec<(String, String)> =
        query_as("select code, holder from coupon order by md5(code)").fetch_all(world.pool()).await.unwrap();
    let open = take_back(&world, given.id).await;
    let act = async |(n, (code, user)): (usize, &(String, String))| match n % 4 {
        0 if world.run_batch(world.lock(code, user)).await.outcome.is_ok() => Act::Locked,
        1 if world.run_batch(world.redeem(code, user)).await.outcome.is_ok() => Act::Redeemed,
        2 => {
            // It is free in both cases.
            let _ = world.run_batch(revoke(&world, code)).await;
            world.give(code, "leo").await;
            Act::GaveToLeo
        }
        _ => Act::Nothing,
    };
    // Fast workers could end before the first client has changed a code.
    let early = 400;
    let mut acts = race(16, codes.iter().enumerate().take(early), act).await;
    let workers = race(4, 0..4, async |_| step_all(&world).await);
    let clients = race(16, codes.iter().enumerate().skip(early), act);
    let (_, later) = futures::join!(workers, clients);
    acts.extend(later);
    let done = job(&world, open.id).await;
    assert_eq!(
        (done.status, done.total, done.succeeded + done.failed),
        (JobStatus::Succeeded, Some(3_000), 3_000)
    );
    let [taken, gone, locked, redeemed] = numbers(&done);
    assert_eq!([taken + gone, locked + redeemed], [done.succeeded, done.failed]);
    for ((code, user), act) in codes.iter().zip(&acts) {
        let holder = world.coupon(code).await.holder;
        let expected = match act {
            Act::Nothing => None,
            Act::Locked | Act::Redeemed => Some(user.as_str()),
            Act::GaveToLeo => Some("leo"),
        };
        assert_eq!(holder.as_deref(), expected, "{code}: {act:?}");
    }
    let events = "select count(*) from coupon_event where action = 'REVOKE' and actor = 'job:' || $1::text";
    let events: i64 = query_scalar(events).bind(done.id.0).fetch_one(world.pool()).await.unwrap();
    assert_eq!(events, taken);
    let of = |which| i64::try_from(acts.iter().filter(|act| **act == which).count()).unwrap();
    assert_eq!((locked, redeemed), (of(Act::Locked), of(Act::Redeemed)));
    assert!(gone > 0 && locked > 0 && redeemed > 0, "{:?}", done.result);
    assert_eq!(i64::try_from(rejected(&world, done.id).await.len()).unwrap(), done.failed);
    world.assert_invariants().await;
}
