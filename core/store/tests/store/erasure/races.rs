//! Erasures while the user's codes change, and erasures that are interrupted.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use cuponera_domain::book::BookRules;
use cuponera_store::{ErasureStart, Pools, Revoke};
use cuponera_testkit::{World, eventually, race, rules};
use futures::FutureExt;
use futures::future::{self, join};
use sqlx::{query, query_scalar};

use super::{begin, execute, tables_with};
use crate::audit_chain::{key, seal_to_end, texts, verify};

/// Calls for the user in one lane: a code is assigned, locked, redeemed, or revoked.
async fn calls(world: &World, user: &str) {
    let Ok(assigned) = world.run_batch(world.random(user)).await.outcome else { return };
    // The erasure may have erased the holder meanwhile: then the calls are rejected.
    let _ = world.run_batch(world.lock(&assigned.code, user)).await;
    if assigned.code.ends_with(['1', '4', '7']) {
        let _ = world.run_batch(world.unlock(&assigned.code, user)).await;
        let revoke = Revoke {
            code: assigned.code,
            user: Some(user.to_owned()),
            assignment: None,
            reason: "a test".to_owned(),
        };
        let _ = world.run_batch(world.call(revoke)).await;
    } else {
        let _ = world.run_batch(world.redeem(&assigned.code, user)).await;
    }
}

/// Invariant I-71.
#[tokio::test]
async fn calls_of_the_user_during_an_erasure_are_erased_or_are_of_a_new_user() {
    let pools = Pools { hot: 6, solo: 2, rest: 4, ..Pools::MIN };
    let world = World::with_pools(BookRules { max_redeems_per_user: 2, ..rules() }, pools).await;
    world.insert_codes(900).await;
    race(6, 0..30, |_| calls(&world, "ana")).await;
    seal_to_end(&world).await;
    let store = world.store();
    let is_over = AtomicBool::new(false);
    let last_pass = std::sync::Mutex::new((0, DateTime::<Utc>::MIN_UTC));
    let erasing = async {
        let erasure = begin(store, &world, "ana").await;
        let report = |progress: cuponera_store::ErasureProgress| {
            let mut last = last_pass.lock().unwrap();
            if progress.is_waiting && progress.pass > last.0 {
                *last = (progress.pass, Utc::now());
            }
            if progress.pass >= 4 {
                is_over.store(true, Ordering::Relaxed);
            }
        };
        store.erase_rows(&erasure, Some(&key()), report).await.unwrap();
        store.finish_erasure(*erasure).await.unwrap()
    };
    let calling = race(6, 0..200, |_| async {
        if !is_over.load(Ordering::Relaxed) {
            calls(&world, "ana").await;
        }
    });
    let (erased, _) = join(erasing, calling).await;
    let last_pass = last_pass.into_inner().unwrap().1;
    let late: i64 = query_scalar("select count(*) from coupon_event where user_id = 'ana' and at < $1")
        .bind(last_pass)
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert_eq!(late, 0, "events of calls that began before the last pass have the id");
    assert!(erased.events > 0);
    world.assert_invariants().await;
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    world.assert_invariants().await;
}

/// Invariant I-71.
#[tokio::test]
async fn a_transaction_that_commits_after_the_first_pass_is_erased() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "ana-needle").await;
    let mut late = world.pool().begin().await.unwrap();
    query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
         select gen_random_uuid(), business_id, book_id, position, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'ana-needle', 'late'
         from coupon where code = $1",
    )
    .bind(&codes[1])
    .execute(&mut *late)
    .await
    .unwrap();
    let is_over = AtomicBool::new(false);
    let erasing = async {
        let erasure = begin(world.store(), &world, "ana-needle").await;
        world.store().erase_rows(&erasure, Some(&key()), |_| {}).await.unwrap();
        world.store().finish_erasure(*erasure).await.unwrap();
        is_over.store(true, Ordering::Relaxed);
    };
    let committing = async {
        // The last statement of a connection of the erasure.
        let waiting = "select exists (select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
                         and query like 'select pg_snapshot_xmin(pg_current_snapshot()) >= $1%')";
        eventually("the erasure to wait", async || {
            let is_waiting: bool = query_scalar(waiting).fetch_one(world.pool()).await.unwrap();
            (is_waiting || is_over.load(Ordering::Relaxed)).then_some(())
        })
        .await;
        late.commit().await.unwrap();
    };
    join(erasing, committing).await;
    assert_eq!(tables_with(&world, "ana-needle").await, Vec::<String>::new());
}

/// Invariant I-71.
#[tokio::test]
async fn an_interrupted_erasure_continues_with_the_same_pseudonym() {
    let world = World::new().await;
    for code in world.insert_codes(12).await {
        world.give(&code, "ana-needle").await;
    }
    seal_to_end(&world).await;
    let mut pseudonyms = Vec::new();
    for batches in 0.. {
        let store = world.database.another_store(Pools { rest: 2, ..Pools::MIN }).await;
        // The lock of the interrupted run ends with its connection.
        let erasure = eventually("the erasure to begin", async || {
            match store.begin_erasure(world.business, "ana-needle", false).await.unwrap() {
                ErasureStart::Begun(erasure) => Some(erasure),
                ErasureStart::Locked => None,
                other => panic!("{other:?}"),
            }
        })
        .await;
        assert_eq!(erasure.is_continued(), batches > 0);
        pseudonyms.push(erasure.pseudonym().to_owned());
        let done = AtomicUsize::new(0);
        let key = key();
        let erasing = store.erase_rows(&erasure, Some(&key), |_| {
            done.fetch_add(1, Ordering::Relaxed);
        });
        let stopped = future::poll_fn(|_| {
            if done.load(Ordering::Relaxed) >= batches {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        });
        let is_complete = futures::select_biased! {
            () = stopped.fuse() => false,
            erased = Box::pin(erasing).fuse() => { erased.unwrap(); true }
        };
        world.assert_invariants().await;
        if is_complete {
            store.finish_erasure(*erasure).await.unwrap();
            break;
        }
        drop(erasure);
        store.close().await;
    }
    assert!(pseudonyms.len() > 10, "{}", pseudonyms.len());
    pseudonyms.dedup();
    assert_eq!(pseudonyms.len(), 1);
    assert_eq!(tables_with(&world, "ana-needle").await, Vec::<String>::new());
    assert_eq!(execute(&world, "delete from erasure").await, 0);
    let records: i64 =
        query_scalar("select count(*) from admin_event where action = 'ERASE' and after ? 'events'")
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!(records, 1);
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    world.assert_invariants().await;
}

/// A job may have read the id, and writes it after the pass has searched the codes.
/// Invariant I-71.
#[tokio::test]
async fn an_erasure_passes_again_while_a_job_that_may_write_the_id_is_open() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    world.give(&codes[0], "ana-needle").await;
    let erasure = begin(world.store(), &world, "ana-needle").await;
    query(
        "insert into job (id, business_id, kind, created_by, work, chunks_total)
         values (gen_random_uuid(), $1, 'IMPORT_CODES', 'service:test', '{}', 1)",
    )
    .bind(world.business.0)
    .execute(world.pool())
    .await
    .unwrap();
    let has_waited = AtomicBool::new(false);
    let report = |progress: cuponera_store::ErasureProgress| {
        has_waited.fetch_or(progress.is_waiting && progress.pass >= 3, Ordering::Relaxed);
    };
    let key = key();
    let erasing = world.store().erase_rows(&erasure, Some(&key), report);
    let working = async {
        eventually("the third pass", async || has_waited.load(Ordering::Relaxed).then_some(())).await;
        world.give(&codes[1], "ana-needle").await;
        execute(&world, "update job set status = 'SUCCEEDED', finished_at = now(), chunks_done = 1").await;
    };
    let (progress, ()) = join(erasing, working).await;
    assert!(progress.unwrap().pass > 3);
    world.store().finish_erasure(*erasure).await.unwrap();
    assert_eq!(tables_with(&world, "ana-needle").await, Vec::<String>::new());
}
