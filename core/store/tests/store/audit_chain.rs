//! The chain of seals: each committed event is sealed once, and a verification names what was changed by hand.

mod anchors;
mod sealing;
mod tampering;

use cuponera_domain::audit::{AuditKey, EventName, Finding, Log};
use cuponera_store::{SealRound, Store, Verification, VerifyOptions, verify_chain};
use cuponera_testkit::{World, eventually};
use sqlx::{PgConnection, query};

/// Small, so that a workload has several seals.
const PAGE: i64 = 7;

pub(crate) fn key() -> AuditKey {
    "5e".repeat(32).parse().unwrap()
}

/// A world with sealed events: 36 coupon events in the seals 1 to 6, then admin events.
async fn sealed_world() -> World {
    let world = World::new().await;
    let codes = world.insert_codes(12).await;
    for code in &codes {
        work(&world, code).await;
    }
    // So that each seal but the last of a log has the maximum number of events.
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    world
}

/// Waits until all events are older than all transactions. Transactions in other databases of the server count too.
pub(crate) async fn wait_until_sealable(world: &World) {
    let end = world.store().event_log_end().await.unwrap().last;
    // The log has no end after `end` until another transaction has one.
    query("select pg_current_xact_id()").execute(world.pool()).await.unwrap();
    eventually("all events to be older than all transactions", async || {
        (world.store().event_log_end().await.unwrap().committed > end).then_some(())
    })
    .await;
}

/// Three events of a coupon.
async fn work(world: &World, code: &str) {
    world.give(code, "ana").await;
    world.locked(code, "ana").await;
    world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap();
}

/// Seals what can be sealed now; returns the number of events.
pub(crate) async fn seal(store: &Store) -> i32 {
    let mut events = 0;
    for log in Log::ALL {
        loop {
            match store.seal_events(&key(), log, PAGE).await.unwrap() {
                SealRound::Sealed(count) => events += count,
                SealRound::Raced => {}
                SealRound::UpToDate => break,
                SealRound::OtherKey => panic!("the chain has another key"),
            }
        }
    }
    events
}

/// Seals all events that are committed now. Transactions in other databases of the server delay a sealer too.
pub(crate) async fn seal_to_end(world: &World) {
    eventually("all events to be sealed", async || {
        seal(world.store()).await;
        (verify(world).await.unsealed == 0).then_some(())
    })
    .await;
}

pub(crate) async fn verify(world: &World) -> Verification {
    let key = key();
    let options = VerifyOptions { key: Some(&key), ..VerifyOptions::default() };
    world.store().verify_audit(options).await.unwrap()
}

/// The findings after these statements, which are rolled back.
pub(crate) async fn findings_after(world: &World, statements: &[String]) -> Vec<String> {
    let mut transaction = world.pool().begin().await.unwrap();
    for sql in statements {
        let done = query(sqlx::AssertSqlSafe(sql.clone())).execute(&mut *transaction).await;
        let done = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
        assert!(done.rows_affected() > 0, "{sql}: no row was changed");
    }
    let verification = verify_on(&mut transaction).await;
    transaction.rollback().await.unwrap();
    texts(&verification)
}

async fn verify_on(connection: &mut PgConnection) -> Verification {
    let key = key();
    verify_chain(connection, VerifyOptions { key: Some(&key), ..VerifyOptions::default() }).await.unwrap()
}

/// The findings as short texts, in their order.
pub(crate) fn texts(verification: &Verification) -> Vec<String> {
    assert_eq!(i64::try_from(verification.findings.len()).unwrap(), verification.found);
    verification.findings.iter().map(text).collect()
}

fn text(finding: &Finding) -> String {
    let of = |event: &EventName| match event {
        EventName::Coupon { id, .. } | EventName::Admin { id, .. } => *id,
    };
    match finding {
        Finding::EventChanged { event, .. } => format!("changed {}", of(event)),
        Finding::EventMissing { id, .. } => format!("missing {id}"),
        Finding::EventInserted { event, .. } => format!("inserted {}", of(event)),
        Finding::EventRepeated { event, .. } => format!("repeated {}", of(event)),
        Finding::EventWithoutSalt { event, .. } => format!("no salt {}", of(event)),
        Finding::ErasureBroken { seal, pseudonym } => format!("erasure of {pseudonym} in {seal}"),
        Finding::ArchiveBroken { month } => format!("archive of {month}"),
        Finding::ArchiveFileChanged { month, .. } => format!("file of {month}"),
        Finding::ArchiveFileAbsent { month, .. } => format!("no file of {month}"),
        Finding::ArchivedEventChanged { id, .. } => format!("archived and changed {id}"),
        Finding::ArchivedEventMissing { id, .. } => format!("archived and missing {id}"),
        Finding::VersionsMissing { place, first, last, .. } => format!("coupon {place} lacks {first}-{last}"),
        Finding::VersionRepeated { place, version, .. } => format!("coupon {place} repeats {version}"),
        Finding::SealBroken { seal, fault } => format!("seal {seal} {fault:?}"),
        Finding::SealsMissing { first, last } => format!("seals {first}-{last} missing"),
        Finding::AnchoredSealMissing { seal } => format!("anchored seal {seal} missing"),
        Finding::AnchoredSealDiffers { seal } => format!("anchored seal {seal} differs"),
    }
}
