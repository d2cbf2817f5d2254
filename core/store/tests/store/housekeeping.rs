//! Housekeeping: one process does it, reads no whole table, and deletes old rows only.

use std::time::Duration;

use cuponera_domain::id::JobId;
use cuponera_domain::job::{Job, JobStatus};
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_testkit::{World, eventually, generate};
use sqlx::{query, query_as, query_scalar};

const LEASE: Duration = Duration::from_secs(30);
const RETENTION: Duration = Duration::from_hours(90 * 24);
/// Rows that are not deleted. A statement without an index reads all of them.
const YOUNG: i32 = 50_000;
const OLD: i64 = 12_000;

#[tokio::test(flavor = "multi_thread")]
async fn one_process_keeps_house_and_another_takes_over_when_it_ends() {
    let world = World::new().await;
    let lead = async |name: &str, lease| world.store().lead_housekeeping(name, lease).await.unwrap();
    let (one, other) = tokio::join!(lead("one", LEASE), lead("other", LEASE));
    assert!(one != other, "{one} and {other}");
    let (leader, follower) = if one { ("one", "other") } else { ("other", "one") };
    assert!(lead(leader, LEASE).await && !lead(follower, LEASE).await);
    world.store().yield_housekeeping(follower).await.unwrap();
    assert!(!lead(follower, LEASE).await, "a process without the lease released it");
    world.store().yield_housekeeping(leader).await.unwrap();
    assert!(lead(follower, Duration::from_millis(50)).await);
    eventually("the lease to expire", async || lead(leader, LEASE).await.then_some(())).await;
}

/// The blocks of a table and its indexes that were read since the counters were reset.
async fn touched(world: &World, sql: &'static str) -> i64 {
    world.database.close_and_ask(sql).await
}

/// Invariant I-16.
#[tokio::test]
async fn old_answers_are_deleted_without_reading_the_others() {
    let mut world = World::new().await;
    query("alter table request_key set (autovacuum_enabled = off)").execute(world.pool()).await.unwrap();
    let insert = "insert into request_key (id, fingerprint, answer, at)
                  select gen_random_uuid(), gen_random_uuid(), '{}', now() - make_interval(hours => $2) from generate_series(1, $1)";
    // Old and new rows share pages, as after days of deletes and inserts.
    for (count, hours) in [(OLD / 2, 25), (i64::from(YOUNG), 23), (OLD - OLD / 2, 30)] {
        query(insert).bind(count).bind(hours).execute(world.pool()).await.unwrap();
    }
    assert_eq!(world.store().forget_answers().await.unwrap(), u64::try_from(OLD).unwrap());
    let left: i64 = query_scalar("select count(*) from request_key").fetch_one(world.pool()).await.unwrap();
    assert_eq!(left, i64::from(YOUNG));
    query("insert into request_key (id, fingerprint, answer, at)
           select gen_random_uuid(), gen_random_uuid(), '{}', now() - interval '26 hours' from generate_series(1, 10)")
        .execute(world.pool())
        .await
        .unwrap();
    query("vacuum request_key").execute(world.pool()).await.unwrap();
    world.database.count_anew().await;
    assert_eq!(world.store().forget_answers().await.unwrap(), 10);
    let blocks = touched(
        &world,
        "select heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit from pg_statio_user_tables
         where relname = 'request_key'",
    )
    .await;
    assert!(blocks < 200, "deleting 10 answers read {blocks} blocks");
}

async fn done(world: &World) -> Job {
    generate(world.store(), world.business, world.book, "{XXXXXXXX}", 10).await
}

#[tokio::test]
async fn details_of_a_job_are_deleted_once_it_ended_long_ago_and_not_before() {
    let world = World::new().await;
    let (kept, old) = (done(&world).await, done(&world).await);
    let reject = "insert into import_rejection (job_id, chunk, line, code, reason, detail, row)
                  select $1, line / 100, line, '', 'empty', '', '' from generate_series(1, 6000) as line";
    for job in [&kept, &old] {
        query(reject).bind(job.id.0).execute(world.pool()).await.unwrap();
    }
    let age = "update job set finished_at = now() - make_interval(days => $2) where id = $1";
    query(age).bind(kept.id.0).bind(89).execute(world.pool()).await.unwrap();
    query(age).bind(old.id.0).bind(91).execute(world.pool()).await.unwrap();
    let due = async || world.store().mark_jobs_to_discard(RETENTION).await.unwrap();
    assert_eq!(due().await, [old.id]);
    // As after a crash between the steps.
    assert_eq!(due().await, [old.id]);
    world.store().discard_job(old.id).await.unwrap();
    assert_eq!(due().await, []);
    let chunks = async |job: JobId| {
        let count = query_scalar::<_, i64>("select count(*) from job_chunk where job_id = $1");
        count.bind(job.0).fetch_one(world.pool()).await.unwrap()
    };
    assert_eq!((chunks(kept.id).await, chunks(old.id).await), (1, 0));
    let rejections = "select count(*) filter (where job_id = $1), count(*) from import_rejection";
    let rejections: (i64, i64) = query_as(rejections).bind(kept.id.0).fetch_one(world.pool()).await.unwrap();
    assert_eq!(rejections, (6000, 6000));
    let job = world.store().get_job(world.business, old.id).await.unwrap();
    assert_eq!((job.status, job.succeeded), (JobStatus::Succeeded, 10));
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_failed_job_is_retried_until_its_details_are_deleted() {
    let world = World::new().await;
    let job = done(&world).await;
    let fail =
        "update job set status = 'FAILED', finished_at = now() - make_interval(days => $2) where id = $1";
    let retry =
        async || world.store().retry_job_if_failed(None, world.business, job.id).await.unwrap().outcome;
    query(fail).bind(job.id.0).bind(91).execute(world.pool()).await.unwrap();
    assert_eq!(retry().await.map(|job| job.status), Ok(JobStatus::Queued));
    assert_eq!(world.store().mark_jobs_to_discard(RETENTION).await.unwrap(), [], "a running job was marked");
    query(fail).bind(job.id.0).bind(91).execute(world.pool()).await.unwrap();
    assert_eq!(world.store().mark_jobs_to_discard(RETENTION).await.unwrap(), [job.id]);
    assert_eq!(retry().await, Err(Rejection::JobDiscarded));
    let errors = world.store().errors_files(world.business, job.id).await;
    assert!(matches!(errors, Err(Error::Rejected(Rejection::JobDiscarded))), "{errors:?}");
    let redriven = world.store().redrive_jobs(None, world.business).await.unwrap().outcome.unwrap();
    assert_eq!((redriven.jobs.len(), redriven.remaining), (0, 0));
    assert_eq!(world.store().jobs_that_need_files(&[job.id]).await.unwrap(), []);
}

#[tokio::test]
async fn an_index_whose_building_was_interrupted_is_built_again() {
    let world = World::new().await;
    let is_valid = async || {
        let valid = "select indisvalid from pg_index where indexrelid = to_regclass('request_key_age')";
        query_scalar::<_, bool>(valid).fetch_optional(world.pool()).await.unwrap()
    };
    query("drop index request_key_age").execute(world.pool()).await.unwrap();
    query(
        "insert into request_key (id, fingerprint, answer, at)
           select gen_random_uuid(), gen_random_uuid(), '{}', '2026-01-01' from generate_series(1, 2)",
    )
    .execute(world.pool())
    .await
    .unwrap();
    // A failed build leaves the same invalid index as an interrupted one.
    query("create unique index concurrently request_key_age on request_key (at)")
        .execute(world.pool())
        .await
        .unwrap_err();
    assert_eq!(is_valid().await, Some(false));
    world.store().build_indexes().await.unwrap();
    assert_eq!(is_valid().await, Some(true));
    world.store().build_indexes().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_while_an_index_waits_for_a_long_transaction() {
    let world = World::new().await;
    let codes = world.insert_codes(20).await;
    query("drop index redemption_of_user, request_key_age").execute(world.pool()).await.unwrap();
    let mut long = world.pool().begin().await.unwrap();
    query("insert into redemption (id, business_id, book_id, code, use_number, user_id) select gen_random_uuid(), $1, $1, 'X', 1, 'x'")
        .bind(world.business.0)
        .execute(&mut *long)
        .await
        .unwrap();
    let beside = async {
        eventually("the build to wait", async || {
            let waits = "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'virtualxid')";
            query_scalar::<_, bool>(waits).fetch_one(world.pool()).await.unwrap().then_some(())
        })
        .await;
        for code in &codes {
            world.give(code, "ana").await;
            world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap();
        }
        long.rollback().await.unwrap();
    };
    // Twice at once, as the workers of a fleet do.
    let (one, other, ()) = tokio::join!(world.store().build_indexes(), world.store().build_indexes(), beside);
    one.and(other).unwrap();
    let invalid: i64 = query_scalar("select count(*) from pg_index where not indisvalid")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(invalid, 0);
}
