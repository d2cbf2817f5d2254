//! Archives of months of coupon events: an archived event is proved by its file and its record, at each step, and calls continue.

mod chain;
mod neighbors;
mod steps;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cuponera_domain::audit::Month;
use cuponera_domain::principal::AuditContext;
use cuponera_store::{
    ArchiveContent, ArchiveLock, DetachRound, OpenArchive, Redeemed, Result, ScannedMonth, Store,
    Verification, VerifyOptions,
};
use cuponera_testkit::{World, eventually};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use sqlx::{AssertSqlSafe, query, query_scalar};

use crate::audit_chain::{key, seal_to_end, texts, wait_until_sealable};

/// A file store: the files by their names.
#[derive(Debug, Clone, Default)]
struct Folder(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

/// Size of the pieces of a file that are read: smaller than a line.
const PIECE: usize = 100;

impl Folder {
    fn open(&self, name: &str) -> Option<ArchiveContent> {
        let content = self.0.lock().unwrap().get(name).cloned()?;
        let pieces: Vec<Result<Vec<u8>>> = content.chunks(PIECE).map(|piece| Ok(piece.to_vec())).collect();
        Some(stream::iter(pieces).boxed())
    }

    /// The function that opens its files.
    fn opener(&self) -> impl Fn(String) -> BoxFuture<'static, Result<Option<ArchiveContent>>> + Send + Sync {
        let folder = self.clone();
        move |name: String| {
            let opened = folder.open(&name);
            async move { Ok(opened) }.boxed()
        }
    }

    /// The lines of a file.
    fn lines(&self, name: &str) -> Vec<String> {
        let files = self.0.lock().unwrap();
        String::from_utf8(files[name].clone()).unwrap().lines().map(str::to_owned).collect()
    }

    /// Replaces the content of a file.
    fn put(&self, name: &str, lines: &[String]) {
        let content = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
        self.0.lock().unwrap().insert(name.to_owned(), content.into_bytes());
    }
}

/// The month that began this many months before the current one.
async fn month(world: &World, ago: u32) -> Month {
    let current = world.store().current_month().await.unwrap();
    (0..ago).fold(current, |month, _| month.previous())
}

/// A world with codes of which `ana` has used four in the third month before this one, four in the second and four in this one: eight events
/// in each. A seal has seven events, so two seals have events of two months.
async fn aged_world() -> (World, Vec<String>) {
    let world = World::new().await;
    let codes = world.insert_codes(16).await;
    for (part, ago) in [(0..4, 3), (4..8, 2), (8..12, 0)] {
        for code in &codes[part] {
            world.give(code, "ana").await;
            redeem(&world, code).await;
        }
        if ago > 0 {
            age(&world, ago).await;
        }
    }
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    (world, codes)
}

async fn redeem(world: &World, code: &str) -> Redeemed {
    world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap()
}

/// Moves what happened today to an earlier month, before it is sealed.
async fn age(world: &World, months: i32) {
    let day = format!(
        "((date_trunc('month', now() at time zone 'UTC') - make_interval(months => {months}) + interval '10 days') at time zone 'UTC')"
    );
    let by = format!("(date_trunc('hour', now()) - {day})");
    let today = "now() - interval '1 day'";
    for sql in [
        format!("select coupon_event_make_month({day})"),
        format!("update coupon_event set at = at - {by} where at > {today}"),
        format!("update stat_delta set bucket_at = bucket_at - {by} where bucket_at > {today}"),
        format!("update redeem_time_delta set bucket_at = bucket_at - {by} where bucket_at > {today}"),
        format!("update redemption set at = at - {by} where at > {today}"),
        format!(
            "update coupon set created_at = created_at - {by}, assigned_at = assigned_at - {by}, redeemed_at = redeemed_at - {by}
             where assigned_at > {today}"
        ),
    ] {
        query(AssertSqlSafe(sql)).execute(world.pool()).await.unwrap();
    }
}

/// The store as the command uses it.
fn acting(world: &World) -> Store {
    world.store().clone().acting_as(AuditContext::of_program("cli"))
}

/// Scans a month and writes its file.
async fn write_file(world: &World, folder: &Folder, month: Month) -> ScannedMonth {
    let mut content = Vec::new();
    let scanned = world
        .store()
        .scan_month(month, &key(), async |mut piece| {
            content.append(&mut piece);
            Ok(())
        })
        .await
        .unwrap()
        .expect("the month has events");
    assert_eq!(usize::try_from(scanned.bytes).unwrap(), content.len());
    folder.0.lock().unwrap().insert(scanned.file_name(), content);
    scanned
}

/// Runs a step with the lock.
async fn locked<T>(world: &World, step: impl AsyncFnOnce(&Store, &mut ArchiveLock) -> T) -> T {
    let store = acting(world);
    let mut lock = store.lock_archives().await.unwrap().expect("no erasure and no verification is running");
    let done = step(&store, &mut lock).await;
    lock.release().await.unwrap();
    done
}

async fn record(world: &World, scanned: &ScannedMonth) {
    locked(world, async |store, lock| store.record_archive(lock, scanned, &key()).await.unwrap()).await;
}

/// One attempt to detach a month.
async fn try_detach(world: &World, month: Month) -> DetachRound {
    locked(world, async |store, lock| store.detach_month(lock, month).await.unwrap()).await
}

/// Seals the record and detaches the month. Transactions in other databases of the server delay the seal.
async fn detach(world: &World, month: Month) {
    eventually("the month to be detached", async || {
        world.store().seal_archive(&key()).await.unwrap();
        (try_detach(world, month).await == DetachRound::Detached).then_some(())
    })
    .await;
}

async fn complete(world: &World, month: Month) {
    assert!(locked(world, async |store, lock| store.complete_archive(lock, month).await.unwrap()).await);
}

/// Archives a month as the command does: continues what was interrupted. Returns the name of the file.
async fn archive(world: &World, folder: &Folder, month: Month) -> String {
    let open = world.store().find_open_archive().await.unwrap();
    let open = if let Some(open) = open {
        open
    } else {
        assert_eq!(world.store().archive_obstacle(month).await.unwrap(), None);
        let scanned = write_file(world, folder, month).await;
        record(world, &scanned).await;
        world.store().find_open_archive().await.unwrap().unwrap()
    };
    assert_eq!(open.month, month);
    if !open.is_detached {
        detach(world, month).await;
    }
    complete(world, month).await;
    open.file
}

/// Verifies the chain with the files.
async fn verify_files(world: &World, folder: &Folder) -> Verification {
    let (key, opener) = (key(), folder.opener());
    let open_archive: OpenArchive<'_> = &opener;
    let options =
        VerifyOptions { key: Some(&key), open_archive: Some(open_archive), ..VerifyOptions::default() };
    world.store().verify_audit(options).await.unwrap()
}

/// Asserts that a verification with the files finds nothing, and returns the number of archived events.
async fn archived(world: &World, folder: &Folder) -> i64 {
    let verification = verify_files(world, folder).await;
    assert_eq!(texts(&verification), Vec::<String>::new());
    verification.archived
}

async fn count(world: &World, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(world.pool()).await.unwrap()
}
