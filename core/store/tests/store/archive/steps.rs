//! Invariants I-77 and I-78: the steps of an archive, interrupted between any two of them, and beside calls.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cuponera_domain::audit::Month;
use cuponera_domain::export::{ExportKind, Filter, Format};
use cuponera_store::{ArchiveObstacle, DetachRound, ErasureStart, NewExport};
use cuponera_testkit::World;
use futures::future::join_all;
use sqlx::{AssertSqlSafe, query, query_scalar};
use uuid::Uuid;

use super::{
    Folder, age, aged_world, archive, archived, complete, count, detach, key, locked, month, record, redeem,
    try_detach, write_file,
};
use crate::audit_chain::{seal_to_end, texts, verify, wait_until_sealable};

/// Executes this number of steps.
async fn execute(world: &World, folder: &Folder, month: Month, steps: usize) {
    if steps == 0 {
        return;
    }
    let scanned = write_file(world, folder, month).await;
    if steps > 1 {
        record(world, &scanned).await;
    }
    if steps > 2 {
        world.store().seal_archive(&key()).await.unwrap();
    }
    if steps > 3 {
        detach(world, month).await;
    }
    if steps > 4 {
        query("select coupon_event_drop_month($1)")
            .bind(month.first_day())
            .execute(world.pool())
            .await
            .unwrap();
    }
}

/// Invariant I-77.
#[tokio::test]
async fn an_archive_that_ends_after_any_step_is_continued_and_the_chain_is_valid_meanwhile() {
    for steps in 0..=5 {
        let (world, _) = aged_world().await;
        let folder = Folder::default();
        let month = month(&world, 3).await;
        execute(&world, &folder, month, steps).await;
        let expected = if steps > 3 { 8 } else { 0 };
        assert_eq!(archived(&world, &folder).await, expected, "{steps}");
        assert_eq!(count(&world, "select count(*) from coupon_event").await, 24 - expected, "{steps}");
        world.assert_invariants().await;
        assert_eq!(world.store().reconcile(None).await.unwrap(), []);
        if steps > 1 {
            // Its file has the events as they are.
            let erasure = world.store().begin_erasure(world.business, "ana", false).await.unwrap();
            assert!(matches!(erasure, ErasureStart::ArchiveOpen), "{erasure:?}");
        }
        let file = archive(&world, &folder, month).await;
        assert_eq!(folder.lines(&file).len(), 8);
        assert_eq!(archived(&world, &folder).await, 8);
        assert_eq!(world.store().find_open_archive().await.unwrap(), None);
        let table: Option<String> = query_scalar("select to_regclass($1)::text")
            .bind(month.partition())
            .fetch_one(world.pool())
            .await
            .unwrap();
        assert_eq!(table, None);
        world.assert_invariants().await;
    }
}

/// Invariant I-78.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_waits_for_a_month_that_is_detached_behind_a_long_reader() {
    let (world, _) = aged_world().await;
    world.insert_codes_into(world.book, "W", 200).await;
    let folder = Folder::default();
    let month = month(&world, 3).await;
    execute(&world, &folder, month, 3).await;
    seal_to_end(&world).await;
    let mut reader = world.pool().begin().await.unwrap();
    query("select count(*) from coupon_event").fetch_one(&mut *reader).await.unwrap();
    let attempts = AtomicUsize::new(0);
    let mut lock = world.store().lock_archives().await.unwrap().unwrap();
    let detaching = async {
        loop {
            match world.store().detach_month(&mut lock, month).await.unwrap() {
                DetachRound::Locked => attempts.fetch_add(1, Ordering::Relaxed),
                DetachRound::Detached => return,
                other => panic!("{other:?}"),
            };
        }
    };
    let writing = async {
        let times = join_all((0..20).map(async |writer| {
            let mut slowest = Duration::ZERO;
            for call in 0..10 {
                let begun = Instant::now();
                let user = format!("user-{writer}-{call}");
                world.run_batch(world.random(&user)).await.outcome.unwrap();
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        }))
        .await;
        reader.rollback().await.unwrap();
        times.into_iter().max().unwrap()
    };
    let ((), slowest) = tokio::join!(detaching, writing);
    lock.release().await.unwrap();
    assert!(attempts.into_inner() > 0, "the month was detached before the reader ended");
    assert!(slowest < Duration::from_secs(2), "an assignment took {slowest:?}");
    complete(&world, month).await;
    seal_to_end(&world).await;
    assert_eq!(archived(&world, &folder).await, 8);
    world.assert_invariants().await;
}

/// Invariant I-77.
#[tokio::test]
async fn a_month_is_detached_only_after_its_record_is_sealed_and_without_later_events() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let month = month(&world, 3).await;
    let scanned = write_file(&world, &folder, month).await;
    record(&world, &scanned).await;
    assert_eq!(try_detach(&world, month).await, DetachRound::Unsealed);
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    // An event whose transaction began in the month.
    let late = "insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, actor)
                values (gen_random_uuid(), $1, gen_random_uuid(), gen_random_uuid(), 1, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'late')";
    query(late).bind(month.start()).execute(world.pool()).await.unwrap();
    assert_eq!(try_detach(&world, month).await, DetachRound::Later);
    // The record is given up, and the month is archived with the event.
    let abandon =
        async || locked(&world, async |store, lock| store.abandon_archive(lock, month).await.unwrap()).await;
    assert!(abandon().await && !abandon().await);
    assert_eq!(world.store().find_open_archive().await.unwrap(), None);
    let of_month =
        "select count(*) from admin_event where subject = 'EVENTS' and action = 'ABANDON' and after ? 'root'";
    assert_eq!(count(&world, of_month).await, 1);
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    let erasure = world.store().begin_erasure(world.business, "nobody", false).await.unwrap();
    assert!(matches!(erasure, ErasureStart::UnknownUser), "{erasure:?}");
    archive(&world, &folder, month).await;
    assert!(!abandon().await, "a detached month was given up");
    seal_to_end(&world).await;
    assert_eq!(archived(&world, &folder).await, 9);
}

/// The file of a recorded month is written again while its events are in the log.
#[tokio::test]
async fn a_recorded_month_can_be_scanned_again_and_has_the_same_file() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let month = month(&world, 3).await;
    let scanned = write_file(&world, &folder, month).await;
    record(&world, &scanned).await;
    let content = folder.lines(&scanned.file_name());
    folder.0.lock().unwrap().clear();
    let again = write_file(&world, &folder, month).await;
    assert_eq!((folder.lines(&again.file_name()), again.sha256), (content, scanned.sha256));
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    archive(&world, &folder, month).await;
    assert_eq!(archived(&world, &folder).await, 8);
}

/// The step fails with the lock: an erasure may run by then.
#[tokio::test]
async fn an_archive_whose_connection_was_ended_changes_nothing_in_any_step() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let month = month(&world, 3).await;
    let scanned = write_file(&world, &folder, month).await;
    let end = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted
                 and database = (select oid from pg_database where datname = current_database())";
    let mut lock = world.store().lock_archives().await.unwrap().unwrap();
    query(end).execute(world.pool()).await.unwrap();
    assert!(world.store().record_archive(&mut lock, &scanned, &key()).await.is_err());
    assert_eq!(world.store().find_open_archive().await.unwrap(), None);
    record(&world, &scanned).await;
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    let mut lock = world.store().lock_archives().await.unwrap().unwrap();
    query(end).execute(world.pool()).await.unwrap();
    assert!(world.store().detach_month(&mut lock, month).await.is_err());
    assert!(!world.store().find_open_archive().await.unwrap().unwrap().is_detached);
    assert!(world.store().abandon_archive(&mut lock, month).await.is_err());
    assert!(world.store().find_open_archive().await.unwrap().is_some());
    detach(&world, month).await;
    let mut lock = world.store().lock_archives().await.unwrap().unwrap();
    query(end).execute(world.pool()).await.unwrap();
    assert!(world.store().complete_archive(&mut lock, month).await.is_err());
    assert!(world.store().find_open_archive().await.unwrap().is_some_and(|open| open.is_detached));
    complete(&world, month).await;
    assert_eq!(archived(&world, &folder).await, 8);
}

/// Invariant I-77.
#[tokio::test]
async fn a_month_of_which_a_seal_was_removed_is_not_archived() {
    let (world, _) = aged_world().await;
    let (month, audit_key) = (month(&world, 3).await, key());
    let scan = async || world.store().scan_month(month, &audit_key, async |_| Ok(())).await;
    assert_eq!(scan().await.unwrap().unwrap().events, 8);
    query("create table removed as select * from audit_seal where false")
        .execute(world.pool())
        .await
        .unwrap();
    // The second seal has the last event of the month.
    for number in [1, 2] {
        for sql in [
            format!("insert into removed select * from audit_seal where number = {number}"),
            format!("delete from audit_seal where number = {number}"),
        ] {
            query(AssertSqlSafe(sql)).execute(world.pool()).await.unwrap();
        }
        let error = scan().await.unwrap_err().chain();
        assert!(error.contains("cuponera audit verify"), "{number}: {error}");
        query("insert into audit_seal select * from removed").execute(world.pool()).await.unwrap();
        query("delete from removed").execute(world.pool()).await.unwrap();
    }
    assert_eq!(scan().await.unwrap().unwrap().events, 8);
}

/// Invariant I-78.
#[tokio::test]
async fn a_reader_of_another_month_is_no_obstacle_and_one_of_the_log_is_named() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let month = month(&world, 3).await;
    execute(&world, &folder, month, 3).await;
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    let mut other = world.pool().begin().await.unwrap();
    let sql = format!(
        "lock table only {} in share update exclusive mode",
        super::month(&world, 0).await.partition()
    );
    query(AssertSqlSafe(sql)).execute(&mut *other).await.unwrap();
    assert_eq!(world.store().find_log_reader(month).await.unwrap(), None);
    let mut reader = world.pool().begin().await.unwrap();
    query("select count(*) from coupon_event").fetch_one(&mut *reader).await.unwrap();
    let pid: i32 = query_scalar("select pg_backend_pid()").fetch_one(&mut *reader).await.unwrap();
    let found = cuponera_testkit::eventually("the reader to be named", async || {
        world.store().find_log_reader(month).await.unwrap()
    })
    .await;
    assert_eq!(found.pid, pid);
    assert_eq!(try_detach(&world, month).await, DetachRound::Locked);
    reader.rollback().await.unwrap();
    assert_eq!(try_detach(&world, month).await, DetachRound::Detached);
    other.rollback().await.unwrap();
}

async fn obstacle(world: &World, month: Month) -> Option<ArchiveObstacle> {
    world.store().archive_obstacle(month).await.unwrap()
}

#[tokio::test]
async fn a_month_is_not_archived_before_its_events_are_sealed_counted_and_delivered() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "ana").await;
    age(&world, 3).await;
    let month = month(&world, 3).await;
    assert_eq!(obstacle(&world, month).await, Some(ArchiveObstacle::Unsealed));
    let audit_key = key();
    let scan = || world.store().scan_month(month, &audit_key, async |_| Ok(()));
    assert!(scan().await.unwrap_err().chain().contains("are not sealed"));
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    assert_eq!(obstacle(&world, month).await, None);

    let execute = async |sql: &'static str| query(sql).execute(world.pool()).await.unwrap();
    execute(
        "insert into stat_backfill (epoch, snapshot, counted_from) values (1, pg_current_snapshot(), now())",
    )
    .await;
    assert_eq!(obstacle(&world, month).await, Some(ArchiveObstacle::Uncounted));
    execute("delete from stat_backfill").await;

    let webhook = crate::webhook::webhook(&world).await;
    // It was created after the event.
    assert_eq!(obstacle(&world, month).await, None);
    execute("update webhook set since_snapshot = '3:3:'").await;
    execute("update webhook_cursor set tx = '3' where source = 'coupon_event'").await;
    assert_eq!(obstacle(&world, month).await, Some(ArchiveObstacle::Undelivered));
    cuponera_testkit::eventually("the event to be delivered", async || {
        world.store().read_webhook_events(100).await.unwrap();
        (obstacle(&world, month).await.is_none()).then_some(())
    })
    .await;
    assert!(!crate::webhook::deliveries(&world, webhook).await.is_empty());

    // What is changed after it was sealed is not archived.
    execute("update coupon_event set user_id = 'eva'").await;
    let error = scan().await.unwrap_err().chain();
    assert!(error.contains("does not prove them: run `cuponera audit verify`"), "{error}");
    execute("update coupon_event set user_id = 'ana'").await;
    assert_eq!(scan().await.unwrap().unwrap().events, 1);
    execute("delete from coupon_event").await;
    assert_eq!(scan().await.unwrap(), None);
}

#[tokio::test]
async fn a_month_is_kept_for_exports_of_events_and_for_distributions_that_can_be_taken_back() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let month = month(&world, 3).await;
    execute(&world, &folder, month, 3).await;
    seal_to_end(&world).await;
    let export = NewExport {
        kind: ExportKind::Events,
        book: Some(world.book),
        filter: Filter::default(),
        format: Format::default(),
    };
    let job = world.store().submit_export(None, world.business, "test", export).await.unwrap();
    let job = job.outcome.unwrap().id;
    assert_eq!(obstacle(&world, month).await, Some(ArchiveObstacle::Exports(vec![job])));
    assert_eq!(try_detach(&world, month).await, DetachRound::Exporting);
    world.store().cancel_job_if_open(None, world.business, job).await.unwrap().outcome.unwrap();
    assert_eq!(obstacle(&world, month).await, None);
    // The submission of an export that has taken its snapshot.
    let mut submitting = world.pool().begin().await.unwrap();
    query("insert into export_file (job_id, business_id) values ($1, $1)")
        .bind(Uuid::now_v7())
        .execute(&mut *submitting)
        .await
        .unwrap();
    assert_eq!(try_detach(&world, month).await, DetachRound::Locked);
    submitting.rollback().await.unwrap();

    let sql =
        format!("update job set kind = 'DISTRIBUTE', created_at = '{}' where id = '{job}'", month.start());
    query(AssertSqlSafe(sql)).execute(world.pool()).await.unwrap();
    let row = "insert into distribution (job_id, business_id, pool_id, book_id) values ($1, $1, $1, $1)";
    query(row).bind(job.0).execute(world.pool()).await.unwrap();
    assert_eq!(obstacle(&world, month).await, Some(ArchiveObstacle::Distributions(vec![job])));
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    redeem_again(&world).await;
}

/// Calls continue beside a recorded archive.
async fn redeem_again(world: &World) {
    let codes = world.insert_codes_into(world.book, "R", 1).await;
    world.give(&codes[0], "ana").await;
    redeem(world, &codes[0]).await;
}
