//! The quota of uploads and rejected rows: exact for concurrent uploads, and checked for the rows that a chunk rejects.

use std::time::Duration;

use chrono::Utc;
use cuponera_domain::export::{ExportKind, Filter, Format};
use cuponera_domain::id::JobId;
use cuponera_domain::job::export::Place;
use cuponera_domain::job::import;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Error;
use cuponera_store::GenerateId;
use cuponera_store::{
    ClaimState, ExportPart, ImportPart, NewExport, NewImport, RejectedRow, RejectedRowCursor, Store,
};
use cuponera_testkit::{World, no_lines, race};
use sqlx::{query, query_as, query_scalar};

use crate::setup::{import_of, next};

const PART: u64 = 1_000;

fn with_quota(world: &World, bytes: u64) -> Store {
    world.store().clone().with_storage_quota(bytes)
}

async fn submit(world: &World) -> JobId {
    let part = import::Chunk::at_line("part".to_owned(), 1);
    let import = NewImport { rows: 10, last_place: 10, ..import_of(world, vec![part]) };
    let job = world.store().submit_import(None, world.business, "test", import).await.unwrap();
    job.outcome.unwrap().id
}

/// This number of rejected rows, each of this number of bytes.
fn rejecting(rows: u64, bytes: usize) -> ImportPart {
    let rejection = |line| RejectedRow {
        line,
        code: "no".to_owned(),
        reason: "too_short".into(),
        detail: "the code is too short".into(),
        row: "x".repeat(bytes),
    };
    ImportPart { rejections: (1..=rows).map(rejection).collect(), ..ImportPart::default() }
}

/// The stored bytes of the business: uploads, and rejected rows.
async fn stored(world: &World) -> (i64, i64) {
    query_as(
        "select coalesce(sum(upload_bytes), 0)::bigint, coalesce(sum(rejection_bytes), 0)::bigint from job_storage
         where business_id = $1",
    )
    .bind(world.business.0)
    .fetch_one(world.pool())
    .await
    .unwrap()
}

/// An export that failed after its first part.
async fn failed_export(world: &World) -> JobId {
    let export = NewExport {
        kind: ExportKind::Codes,
        book: Some(world.book),
        filter: Filter::default(),
        format: Format::default(),
    };
    let job = world.store().submit_export(None, world.business, "test", export).await.unwrap();
    let now = Utc::now();
    let place = Some(Place::Book { ordinal: 1 });
    let part = ExportPart { rows: 1, bytes: PART, amounts: None, read_from: now, read_to: now, next: place };
    let store = world.store();
    let first = next(world).await;
    assert_eq!(store.finish_exported_part(&first, &part).await.unwrap(), ClaimState::Held);
    let second = next(world).await;
    let full = Rejection::StorageQuotaExceeded { used_bytes: 0, allowed_bytes: PART };
    assert_eq!(store.stop_job_if_held(&second, &full).await.unwrap(), ClaimState::Held);
    job.outcome.unwrap().id
}

async fn end_days_ago(world: &World, job: JobId, days: i32) {
    query("update job set finished_at = now() - make_interval(days => $2) where id = $1")
        .bind(job.0)
        .bind(days)
        .execute(world.pool())
        .await
        .unwrap();
}

async fn stored_of_exports(world: &World) -> i64 {
    query_scalar("select coalesce(sum(export_bytes), 0)::bigint from job_storage")
        .fetch_one(world.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn a_failed_export_can_be_retried_for_seven_days_and_then_frees_its_bytes() {
    let world = World::new().await;
    let (store, job) = (world.store(), failed_export(&world).await);
    end_days_ago(&world, job, 6).await;
    store.mark_failed_exports().await.unwrap();
    assert_eq!(store.find_unneeded_exports().await.unwrap(), []);
    assert_eq!(stored_of_exports(&world).await, i64::try_from(PART).unwrap());
    end_days_ago(&world, job, 8).await;
    store.mark_failed_exports().await.unwrap();
    let retried = store.retry_job_if_failed(None, world.business, job).await.unwrap().outcome;
    assert_eq!(retried.unwrap_err(), Rejection::JobDiscarded);
    assert_eq!(store.find_unneeded_exports().await.unwrap(), [job]);
    store.forget_export(job).await.unwrap();
    assert_eq!(stored_of_exports(&world).await, 0);
    // Its chunks are kept as long as those of other jobs.
    let retention = Duration::from_hours(90 * 24);
    assert_eq!(store.mark_jobs_to_discard(retention).await.unwrap(), []);
    end_days_ago(&world, job, 91).await;
    assert_eq!(store.mark_jobs_to_discard(retention).await.unwrap(), [job]);
    store.discard_job(job).await.unwrap();
    assert_eq!(store.mark_jobs_to_discard(retention).await.unwrap(), []);
    world.assert_invariants().await;
}

#[tokio::test]
async fn a_failed_export_whose_details_are_deleted_frees_its_bytes() {
    let world = World::new().await;
    let (store, job) = (world.store(), failed_export(&world).await);
    let retention = Duration::from_hours(24);
    assert_eq!(store.mark_jobs_to_discard(retention).await.unwrap(), []);
    end_days_ago(&world, job, 2).await;
    assert_eq!(store.mark_jobs_to_discard(retention).await.unwrap(), [job]);
    store.discard_job(job).await.unwrap();
    assert_eq!((stored_of_exports(&world).await, store.find_unneeded_exports().await.unwrap()), (0, vec![]));
    world.assert_invariants().await;
}

/// Twelve uploads of three parts each; the quota allows twenty parts.
/// Invariant I-49.
#[tokio::test]
async fn uploads_that_race_fill_the_quota_and_exceed_it_by_nothing() {
    let world = World::new().await;
    let store = with_quota(&world, 20 * PART);
    let uploads: Vec<JobId> = (0..12).map(|_| JobId::generate()).collect();
    let reserved = race(12, &uploads, async |upload| {
        let mut reserved = 0;
        for _ in 0..3 {
            match store.reserve_upload_if_room(world.business, *upload, PART).await {
                Ok(()) => reserved += 1,
                Err(Error::Rejected(Rejection::StorageQuotaExceeded { used_bytes, allowed_bytes })) => {
                    assert!(used_bytes <= allowed_bytes && allowed_bytes == 20 * PART);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        reserved
    })
    .await;
    assert_eq!(reserved.into_iter().sum::<u64>(), 20);
    assert_eq!(stored(&world).await, (20_000, 0));
    let full = store.reserve_upload_if_room(world.business, uploads[0], 1).await;
    assert!(matches!(full, Err(Error::Rejected(Rejection::StorageQuotaExceeded { .. }))), "{full:?}");
    for upload in uploads {
        store.free_upload(upload).await.unwrap();
    }
    assert_eq!(stored(&world).await, (0, 0));
    store.reserve_upload_if_room(world.business, JobId::generate(), 20 * PART).await.unwrap();
}

#[tokio::test]
async fn one_business_takes_no_room_from_another() {
    let world = World::new().await;
    let other = world.another_business().await;
    let store = with_quota(&world, PART);
    store.reserve_upload_if_room(world.business, JobId::generate(), PART).await.unwrap();
    store.reserve_upload_if_room(other, JobId::generate(), PART).await.unwrap();
}

#[tokio::test]
async fn rejected_rows_count_and_a_job_fails_whose_rows_do_not_fit() {
    let world = World::new().await;
    let store = with_quota(&world, 4_000);
    let first = submit(&world).await;
    assert_eq!(
        store.finish_imported(&next(&world).await, &rejecting(10, 10), 0, &no_lines).await.unwrap(),
        ClaimState::Held
    );
    let (_, bytes) = stored(&world).await;
    let written: (i64,) = query_as(
        "select sum(octet_length(code) + octet_length(reason) + octet_length(detail) \
                                                + octet_length(row) + 100)::bigint from import_rejection",
    )
    .fetch_one(world.pool())
    .await
    .unwrap();
    assert_eq!(bytes, written.0);
    submit(&world).await;
    let late = next(&world).await;
    let rejected = store.finish_imported(&late, &rejecting(40, 10), 0, &no_lines).await;
    let Err(Error::Rejected(Rejection::StorageQuotaExceeded { used_bytes, allowed_bytes: 4_000 })) = rejected
    else {
        panic!("{rejected:?}")
    };
    assert_eq!(i64::try_from(used_bytes).unwrap(), bytes);
    assert_eq!(stored(&world).await, (0, bytes), "a rejected upload was stored");
    query("update job set finished_at = now() - interval '2 days' where id = $1")
        .bind(first.0)
        .execute(world.pool())
        .await
        .unwrap();
    assert_eq!(store.mark_jobs_to_discard(Duration::from_hours(24)).await.unwrap(), [first]);
    store.discard_job(first).await.unwrap();
    assert_eq!(stored(&world).await, (0, 0));
}

#[tokio::test]
async fn of_a_rejected_row_the_first_kibibyte_is_kept() {
    let world = World::new().await;
    let job = submit(&world).await;
    let mut part = rejecting(1, 0);
    part.rejections[0].row = "é".repeat(40_000);
    part.rejections[0].code = "c".repeat(40_000);
    world.store().finish_imported(&next(&world).await, &part, 0, &no_lines).await.unwrap();
    let page = world.store().list_rejected_rows(job, RejectedRowCursor::default()).await.unwrap();
    assert_eq!(
        (page.rejections[0].row.as_str(), page.rejections[0].code.len()),
        ("é".repeat(512).as_str(), 1_024)
    );
}

#[tokio::test]
async fn uploads_of_jobs_that_are_over_and_of_none_are_not_needed() {
    let world = World::new().await;
    let store = world.store();
    let (done, open) = (submit(&world).await, submit(&world).await);
    let [lost, coming] = [JobId::generate(), JobId::generate()];
    for job in [done, open, lost, coming] {
        store.reserve_upload_if_room(world.business, job, PART).await.unwrap();
    }
    store.finish_imported(&next(&world).await, &rejecting(1, 10), 0, &no_lines).await.unwrap();
    query("update job_storage set reserved_at = now() - interval '2 days' where job_id = $1")
        .bind(lost.0)
        .execute(world.pool())
        .await
        .unwrap();
    let mut unneeded = store.find_unneeded_uploads().await.unwrap();
    unneeded.sort_unstable_by_key(|job| job.0);
    assert_eq!(unneeded, [done, lost]);
    for job in unneeded {
        store.free_upload(job).await.unwrap();
    }
    assert_eq!(store.find_unneeded_uploads().await.unwrap(), []);
    assert_eq!(stored(&world).await.0, 2 * 1_000);
    assert!(stored(&world).await.1 > 0, "the rejected rows were deleted");
}
