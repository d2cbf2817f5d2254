//! Exports beside writers, by workers that are lost in the middle: each code once, and redemptions and events as of the plan.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuponera_domain::export::{ExportKind, Filter, Format};
use cuponera_domain::id::JobId;
use cuponera_domain::job::{JobStatus, Task};
use cuponera_platform::files::Files;
use cuponera_store::{Claim, NewExport, Rollback};
use cuponera_testkit::{World, claim, eventually, is_soak};
use cuponera_worker::handlers;
use cuponera_worker::runtime::ChunkOutcome;
use futures::TryStreamExt;
use rand::RngExt;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};
use tempfile::TempDir;

/// A world with files.
struct Rig {
    world: World,
    files: Files,
    _folder: TempDir,
}

impl Rig {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let files = Files::in_folder(folder.path()).unwrap();
        Self { world: World::new().await, files, _folder: folder }
    }

    async fn submit(&self, kind: ExportKind) -> JobId {
        let export = NewExport {
            kind,
            book: Some(self.world.book),
            filter: Filter::default(),
            format: Format::default(),
        };
        let job = self.world.store().submit_export(None, self.world.business, "test", export).await;
        job.unwrap().outcome.unwrap().id
    }

    /// Works on a claimed chunk.
    async fn work(&self, claim: &Claim) -> ChunkOutcome {
        handlers::handle(self.world.store(), &self.files, claim).await.unwrap()
    }

    /// The chunks that run are runnable again, as after the lease of a lost worker.
    async fn end_leases(&self) {
        query("update job_chunk set lease_until = now() where status = 'RUNNING'")
            .execute(self.world.pool())
            .await
            .unwrap();
    }

    /// Works until no chunk is left. The first claim of each chunk is lost after a random time, unless it has ended before. Returns the
    /// number of lost claims.
    async fn work_with_losses(&self) -> u32 {
        let mut lost = 0;
        while let Some(claim) = claim(self.world.store(), "worker").await {
            let patience = Duration::from_millis(rand::rng().random_range(0..100));
            let work = handlers::handle(self.world.store(), &self.files, &claim);
            if claim.epoch == 1 && tokio::time::timeout(patience, work).await.is_err() {
                lost += 1;
                self.end_leases().await;
            } else if claim_is_held(&self.world, &claim).await {
                self.work(&claim).await;
            }
        }
        lost
    }

    /// The rows of the file of a job, by their first column, which must be distinct.
    async fn rows(&self, job: JobId) -> BTreeMap<String, Vec<String>> {
        let done = self.world.store().get_job(self.world.business, job).await.unwrap();
        assert_eq!(done.status, JobStatus::Succeeded, "{done:?}");
        let file = self.world.store().get_export_file(self.world.business, job).await.unwrap();
        let pieces = self.files.stream_range(&file.name, 0..file.bytes).await.unwrap().unwrap();
        let bytes: Vec<u8> = pieces.try_collect::<Vec<_>>().await.unwrap().concat();
        assert_eq!(bytes.len() as u64, file.bytes);
        let mut rows = BTreeMap::new();
        let text = std::str::from_utf8(&bytes).unwrap();
        for line in text.split_terminator("\r\n").skip(1) {
            // No cell of these tests has a comma.
            let row: Vec<String> = line.split(',').map(str::to_owned).collect();
            assert!(rows.insert(row[0].clone(), row).is_none(), "a row occurs twice: {line}");
        }
        assert_eq!(done.result["rowCount"], rows.len());
        let count = i64::try_from(rows.len()).unwrap();
        assert_eq!((done.succeeded, done.total), (count, Some(count)));
        rows
    }
}

/// Whether the chunk still runs under this claim.
async fn claim_is_held(world: &World, claim: &Claim) -> bool {
    query_scalar(
        "select exists (select from job_chunk where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING')",
    )
    .bind(claim.job.0)
    .bind(claim.number)
    .bind(claim.epoch)
    .fetch_one(world.pool())
    .await
    .unwrap()
}

/// The number of rows of a test: a million with `CUPONERA_SOAK=1`.
fn rows_of_test() -> i32 {
    if is_soak() { 1_000_000 } else { 120_000 }
}

/// Assigns, redeems and rolls back codes until `stop`; each code is `W-…` and is used by one writer.
async fn write_until(world: &World, writer: usize, stop: &AtomicBool) -> u32 {
    let mut written = 0;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return written;
        }
        let code = format!("W{:06}", number * 4 + writer);
        world.give(&code, "ana").await;
        let redeemed = world.run_batch(world.redeem(&code, "ana")).await.outcome.unwrap();
        if number % 3 == 0 {
            let ask = Rollback {
                redemption: redeemed.redemption,
                code: code.clone(),
                user: None,
                reason: "a test".into(),
            };
            world.run_batch(world.call(ask)).await.outcome.unwrap();
        }
        written += 1;
    }
    written
}

/// Redemptions and events of planted codes, by plain SQL.
async fn plant_history(world: &World, count: i32) {
    for sql in [
        "insert into redemption (id, business_id, book_id, code, use_number, user_id)
         select gen_random_uuid(), $1, $2, 'C' || lpad(n::text, 6, '0'), 1, 'ana' from generate_series($3, $4 - 1) n",
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         select gen_random_uuid(), $1, $2, n, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'test' from generate_series($3, $4 - 1) n",
    ] {
        // Within the timeout of a statement.
        for first in (0..count).step_by(100_000) {
            let last = count.min(first + 100_000);
            let planted = query(sql).bind(world.business.0).bind(world.book.0).bind(first).bind(last);
            planted.execute(world.pool()).await.unwrap();
        }
    }
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages: u64 =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Invariant I-58. A million rows with `CUPONERA_SOAK=1`.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redemptions_and_events_are_those_of_the_plan_beside_writers_and_lost_workers() {
    let rig = Rig::new().await;
    let world = &rig.world;
    world.insert_codes(rows_of_test()).await;
    world.insert_codes_into(world.book, "W", if is_soak() { 400_000 } else { 60_000 }).await;
    plant_history(world, rows_of_test()).await;
    let stop = AtomicBool::new(false);
    let export = async {
        eventually("a writer to redeem a code", async || {
            let sql = "select exists (select from redemption where code like 'W%')";
            query_scalar::<_, bool>(sql).fetch_one(world.pool()).await.unwrap().then_some(())
        })
        .await;
        let mut reader = world.pool().begin().await.unwrap();
        query("set transaction isolation level repeatable read").execute(&mut *reader).await.unwrap();
        let snapshot: String =
            query_scalar("select pg_current_snapshot()::text").fetch_one(&mut *reader).await.unwrap();
        let mut dumps = Vec::new();
        for (kind, sql) in [
            (ExportKind::Redemptions, "select id::text, code from redemption"),
            (
                ExportKind::Events,
                "select e.id::text, c.code from coupon_event e join coupon c on c.book_id = e.book_id and c.position = e.position",
            ),
        ] {
            let job = rig.submit(kind).await;
            // The plan has the snapshot of the dump, which is the same moment.
            query("update job set work = jsonb_set(work, '{snapshot,transactions}', to_jsonb($2::text)) where id = $1")
                .bind(job.0)
                .bind(&snapshot)
                .execute(world.pool())
                .await
                .unwrap();
            let dump: Vec<(String, String)> =
                query_as(AssertSqlSafe(sql)).fetch_all(&mut *reader).await.unwrap();
            dumps.push((job, dump));
        }
        reader.rollback().await.unwrap();
        let before = resident();
        let lost = rig.work_with_losses().await;
        println!("{lost} lost claims; resident memory {} MiB, then {} MiB", before >> 20, resident() >> 20);
        assert!(resident() < before + (256 << 20), "memory has grown from {before} to {}", resident());
        stop.store(true, Ordering::Relaxed);
        (dumps, lost)
    };
    let writers = futures::future::join_all((0..4).map(|writer| write_until(world, writer, &stop)));
    let ((dumps, lost), written) = tokio::join!(export, writers);
    assert!(lost > 2 && written.iter().sum::<u32>() > 20, "{lost} losses, {written:?} codes written");
    for (job, dump) in dumps {
        let rows = rig.rows(job).await;
        let dump: BTreeMap<String, String> = dump.into_iter().collect();
        let found: BTreeMap<String, String> =
            rows.into_iter().map(|(id, row)| (id, row[1].clone())).collect();
        assert!(dump.len() >= usize::try_from(rows_of_test()).unwrap());
        assert!(found == dump, "{} rows, and {} in the dump", found.len(), dump.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_code_is_exported_once_beside_writers_and_lost_workers() {
    let rig = Rig::new().await;
    let world = &rig.world;
    world.insert_codes(rows_of_test()).await;
    world.insert_codes_into(world.book, "W", 60_000).await;
    let stop = AtomicBool::new(false);
    let export = async {
        let job = rig.submit(ExportKind::Codes).await;
        let before = resident();
        let lost = rig.work_with_losses().await;
        assert!(resident() < before + (256 << 20), "memory has grown from {before} to {}", resident());
        stop.store(true, Ordering::Relaxed);
        (job, lost)
    };
    let writers = futures::future::join_all((0..4).map(|writer| write_until(world, writer, &stop)));
    let ((job, lost), _) = tokio::join!(export, writers);
    assert!(lost > 1, "{lost} losses");
    let rows = rig.rows(job).await;
    let codes: Vec<String> =
        query_scalar("select code from coupon order by code").fetch_all(world.pool()).await.unwrap();
    assert!(rows.into_keys().eq(codes));
    world.assert_invariants().await;
}

/// Invariant I-86.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_an_earlier_version_has_begun_has_its_columns_in_each_row() {
    let rig = Rig::new().await;
    let world = &rig.world;
    plant_history(world, 60_000).await;
    query("update redemption set amount = 4990, discount = 499, total = 4491, currency = 'EUR'")
        .execute(world.pool())
        .await
        .unwrap();
    for begun_by_earlier_version in [false, true] {
        let job = rig.submit(ExportKind::Redemptions).await;
        let first = claim(world.store(), "worker").await.unwrap();
        assert_eq!(rig.work(&first).await, ChunkOutcome::Done);
        let next = "select work -> 'from' from job_chunk where job_id = $1 and number = 1";
        let next: Value = query_scalar(next).bind(job.0).fetch_one(world.pool()).await.unwrap();
        let after = next["redemptions_with_amounts"]["after"].clone();
        assert!(after.is_array(), "a program of the earlier version does not read this place: {next}");
        if begun_by_earlier_version {
            let earlier = json!({"redemptions": {"after": after}});
            query(
                "update job_chunk set work = jsonb_set(work, '{from}', $2) where job_id = $1 and number = 1",
            )
            .bind(job.0)
            .bind(earlier)
            .execute(world.pool())
            .await
            .unwrap();
        }
        while let Some(claim) = claim(world.store(), "worker").await {
            assert_eq!(rig.work(&claim).await, ChunkOutcome::Done);
        }
        let rows = rig.rows(job).await;
        let with_amounts = rows.values().filter(|row| row[8..] == ["49.90", "4.99", "44.91", "EUR"]).count();
        let without = rows.values().filter(|row| row.len() == 8).count();
        let amounts =
            world.store().get_job(world.business, job).await.unwrap().result.get("amounts").cloned();
        if begun_by_earlier_version {
            // The first part of this test is of this version.
            assert!(without > 0 && with_amounts + without == 60_000, "{with_amounts} and {without}");
            assert_eq!(amounts, None);
        } else {
            assert_eq!((with_amounts, without), (60_000, 0));
            let sums = json!({"redemptions": 60_000, "amount": "2994000.00", "discount": "299400.00", "total": "2694600.00"});
            assert_eq!(amounts.unwrap()[0]["redeemed"], sums);
        }
    }
}

/// A worker that lost its claim writes its part after its successor has finished the chunk.
#[tokio::test(flavor = "multi_thread")]
async fn the_part_of_a_lost_claim_is_not_in_the_file() {
    let rig = Rig::new().await;
    rig.world.insert_codes(60_000).await;
    let job = rig.submit(ExportKind::Codes).await;
    let late = claim(rig.world.store(), "late").await.unwrap();
    rig.end_leases().await;
    let first = claim(rig.world.store(), "next").await.unwrap();
    assert_eq!((late.number, first.number), (0, 0));
    assert_eq!(rig.work(&first).await, ChunkOutcome::Done);
    query("update coupon set metadata = '{\"late\": true}'").execute(rig.world.pool()).await.unwrap();
    assert_eq!(rig.work(&late).await, ChunkOutcome::Lost);
    let mut joining = None;
    while let Some(claim) = claim(rig.world.store(), "next").await {
        let is_join = matches!(&claim.task, Task::Export(_, chunk) if *chunk == cuponera_domain::job::export::Chunk::Join);
        if is_join && joining.is_none() {
            // The first worker that joins is lost too.
            joining = Some(claim);
            rig.end_leases().await;
            continue;
        }
        assert_eq!(rig.work(&claim).await, ChunkOutcome::Done);
    }
    assert_eq!(
        rig.work(&joining.unwrap()).await,
        ChunkOutcome::Lost,
        "its parts are deleted, or it is fenced"
    );
    let rows = rig.rows(job).await;
    assert_eq!(rows.len(), 60_000);
    assert!(rows["C000000"].iter().all(|cell| !cell.contains("late")), "the part of the lost claim is used");
    assert!(rows["C059999"].iter().any(|cell| cell.contains("late")), "the second part was read later");
}

/// Without its parts a lost claim fails instead of writing a short file.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_and_a_failed_export_leave_no_file() {
    let rig = Rig::new().await;
    rig.world.insert_codes(3_000).await;
    let store = rig.world.store().clone().with_storage_quota(1_000);
    let job = rig.submit(ExportKind::Codes).await;
    let first = claim(&store, "worker").await.unwrap();
    let refused = handlers::handle(&store, &rig.files, &first).await.unwrap_err();
    assert!(matches!(refused, cuponera_store::Error::Rejected(_)), "{refused:?}");
    let rejection =
        cuponera_domain::rejection::Rejection::StorageQuotaExceeded { used_bytes: 0, allowed_bytes: 1_000 };
    store.stop_job_if_held(&first, &rejection).await.unwrap();
    let failed = store.get_job(rig.world.business, job).await.unwrap();
    assert_eq!(
        (failed.status, failed.error.unwrap().code),
        (JobStatus::Failed, "storage_quota_exceeded".to_owned())
    );
    let retried = rig.world.store().retry_job_if_failed(None, rig.world.business, job).await.unwrap();
    assert!(retried.outcome.is_ok());
    while let Some(claim) = claim(rig.world.store(), "worker").await {
        assert_eq!(rig.work(&claim).await, ChunkOutcome::Done);
    }
    assert_eq!(rig.rows(job).await.len(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_expires_after_seven_days_or_with_the_details_of_its_job() {
    let rig = Rig::new().await;
    let store = rig.world.store();
    let day = Duration::from_hours(24);
    for (retention, days) in [(None, 7), (Some(90 * day), 7), (Some(2 * day), 2)] {
        let store = match retention {
            Some(retention) => store.clone().with_job_retention(retention),
            None => store.clone(),
        };
        let job = rig.submit(ExportKind::Codes).await;
        while let Some(claim) = claim(&store, "worker").await {
            handlers::handle(&store, &rig.files, &claim).await.unwrap();
        }
        let done = store.get_job(rig.world.business, job).await.unwrap();
        let expires_at: chrono::DateTime<chrono::Utc> =
            done.result["expiresAt"].as_str().unwrap().parse().unwrap();
        let left = expires_at - done.finished_at.unwrap();
        assert!((left.num_minutes() - days * 24 * 60).abs() <= 1, "{retention:?}: {left}");
    }
}

/// An import that is not finished moves a code from a later line to an earlier one between two pages. It was in the book when the export
/// was planned, so it is exported, once.
#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_an_import_moves_is_exported_once() {
    // Read after the move, read before it, and both on the second part.
    for (from, to) in [(55_000, 7), (7_000, 52_000), (58_000, 52_000)] {
        let rig = Rig::new().await;
        let world = &rig.world;
        world.insert_codes(60_000).await;
        // The positions to which the import moves codes are empty.
        query("delete from coupon where position in (7, 52000)").execute(world.pool()).await.unwrap();
        let import = query_scalar(
            "insert into job (id, business_id, kind, status, book_id, created_by, work, chunks_total)
             values (gen_random_uuid(), $1, 'IMPORT_CODES', 'RUNNING', $2, 'test', '{}', 1) returning id",
        )
        .bind(world.business.0)
        .bind(world.book.0)
        .fetch_one(world.pool())
        .await
        .map(JobId)
        .unwrap();
        query("update coupon set job_id = $1 where position % 1000 < 10")
            .bind(import.0)
            .execute(world.pool())
            .await
            .unwrap();
        let before: Vec<String> =
            query_scalar("select code from coupon order by code").fetch_all(world.pool()).await.unwrap();
        let job = rig.submit(ExportKind::Codes).await;
        let first = claim(world.store(), "worker").await.unwrap();
        assert_eq!(rig.work(&first).await, ChunkOutcome::Done);
        query("update coupon set position = $2 where position = $1")
            .bind(from)
            .bind(to)
            .execute(world.pool())
            .await
            .unwrap();
        rig.work_with_losses().await;
        assert!(rig.rows(job).await.into_keys().eq(before), "{from} to {to}");
    }
}

/// A database that was restored from a dump numbers its transactions anew. The rows of the dump are older than each new export; an export
/// that was planned before the dump leaves out the rows that were written after the restore.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_after_a_restore_has_the_rows_of_the_dump() {
    let rig = Rig::new().await;
    let world = &rig.world;
    for code in world.insert_codes(3).await {
        world.give(&code, "ana").await;
    }
    world.run_batch(world.redeem("C000000", "ana")).await.outcome.unwrap();
    let before = [rig.submit(ExportKind::Redemptions).await, rig.submit(ExportKind::Events).await];
    // What the restore of a dump does to the rows, seen from the transactions that follow.
    for sql in [
        "update redemption set tx = (tx::text::bigint + 1000000000)::text::xid8",
        "update coupon_event set tx = (tx::text::bigint + 1000000000)::text::xid8",
        "update event_epoch set tx = (tx::text::bigint + 1000000000)::text::xid8",
        // The snapshot of the plan is of the transactions before.
        "update job set work = jsonb_set(work, '{snapshot,transactions}', '\"2000000000:2000000000:\"')",
    ] {
        query(sql).execute(world.pool()).await.unwrap();
    }
    world.store().begin_epoch_if_restored().await.unwrap();
    world.run_batch(world.redeem("C000001", "ana")).await.outcome.unwrap();
    let after = [rig.submit(ExportKind::Redemptions).await, rig.submit(ExportKind::Events).await];
    while let Some(claim) = claim(world.store(), "worker").await {
        assert_eq!(rig.work(&claim).await, ChunkOutcome::Done);
    }
    for (jobs, rows) in [(before, [1, 4]), (after, [2, 5])] {
        assert_eq!([rig.rows(jobs[0]).await.len(), rig.rows(jobs[1]).await.len()], rows);
    }
}
