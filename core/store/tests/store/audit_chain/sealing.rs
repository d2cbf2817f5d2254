//! Sealing: races with writers and with other sealers, keys, restored databases, and the state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cuponera_domain::audit::{AuditKey, Log};
use cuponera_store::SealRound;
use cuponera_testkit::{TestDatabase, World, eventually, waits_for};
use futures::future::join_all;
use sqlx::{query, query_scalar};

use super::{PAGE, key, seal, seal_to_end, sealed_world, verify, wait_until_sealable, work};

async fn count(world: &World, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(world.pool()).await.unwrap()
}

const EVENTS: &str = "select (select count(*) from coupon_event) + (select count(*) from admin_event)";

/// Invariant I-68.
#[tokio::test]
async fn an_event_that_is_committed_after_a_later_one_is_sealed() {
    let world = World::new().await;
    let codes = world.insert_codes(2).await;
    seal_to_end(&world).await;
    let mut late = world.pool().begin().await.unwrap();
    // Its transaction is older than that of the assignment, and its event is committed after it.
    query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         select gen_random_uuid(), business_id, book_id, position, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'late'
         from coupon where code = $1",
    )
    .bind(&codes[1])
    .execute(&mut *late)
    .await
    .unwrap();
    world.give(&codes[0], "ana").await;
    for _ in 0..3 {
        assert_eq!(seal(world.store()).await, 0, "an event after a running transaction was sealed");
    }
    assert_eq!(verify(&world).await.unsealed, 1);
    late.commit().await.unwrap();
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    assert_eq!(verification.findings, []);
    assert_eq!(verification.events, count(&world, EVENTS).await);
}

/// Invariant I-68.
#[tokio::test]
async fn an_admin_event_that_is_committed_after_a_later_one_is_sealed() {
    let world = World::new().await;
    seal_to_end(&world).await;
    let mut late = world.pool().begin().await.unwrap();
    query("insert into admin_event (business_id, subject, subject_id, action, actor) values ($1, 'BOOK', 'x', 'UPDATE', 'late')")
        .bind(world.business.0)
        .execute(&mut *late)
        .await
        .unwrap();
    world.another_book(&cuponera_testkit::rules()).await;
    for _ in 0..3 {
        assert_eq!(seal(world.store()).await, 0, "an event after a running transaction was sealed");
    }
    late.commit().await.unwrap();
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    assert_eq!(verification.findings, []);
    assert_eq!(verification.events, count(&world, EVENTS).await);
}

/// Invariant I-70.
#[tokio::test]
async fn of_several_sealers_at_once_one_appends_a_seal() {
    let world = World::new().await;
    let codes = world.insert_codes(12).await;
    for code in &codes {
        work(&world, code).await;
    }
    wait_until_sealable(&world).await;
    // All of them have read the same last seal, and wait for the same number.
    let mut holding = world.pool().begin().await.unwrap();
    query(
        "insert into audit_seal (number, form, log, from_epoch, from_tx, from_id, through_epoch, through_tx, through_id, through_at,
                                 count, ids, leaves, root, previous, hmac, key, created_at)
         select 1, 1, 'COUPON', 0, '0', x.id, 0, '0', x.id, now(), 1, uuid_send(x.id), x.hash, x.hash, x.hash, x.hash,
                uuid_send(x.id), now()
         from (select gen_random_uuid() as id, sha256('') as hash) x",
    )
    .execute(&mut *holding)
    .await
    .unwrap();
    let sealers = join_all((0..4).map(|_| {
        let (store, key) = (world.store(), key());
        async move { store.seal_events(&key, Log::Coupon, PAGE).await.unwrap() }
    }));
    let rounds = waits_for(world.pool(), 4, holding.rollback(), sealers).await;
    let sealed = rounds.iter().filter(|round| **round == SealRound::Sealed(7)).count();
    let raced = rounds.iter().filter(|round| **round == SealRound::Raced).count();
    assert_eq!((sealed, raced), (1, 3), "{rounds:?}");
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    assert_eq!(verification.findings, []);
    assert_eq!(verification.events, count(&world, EVENTS).await);
}

/// Invariants I-68, I-70.
#[tokio::test(flavor = "multi_thread")]
async fn several_sealers_beside_writers_make_one_chain() {
    let world = World::new().await;
    let codes = world.insert_codes(60).await;
    let is_over = AtomicBool::new(false);
    let writers = async {
        join_all(codes.iter().map(async |code| work(&world, code).await)).await;
        is_over.store(true, Ordering::Relaxed);
    };
    let sealer = async || {
        while !is_over.load(Ordering::Relaxed) {
            for log in Log::ALL {
                world.store().seal_events(&key(), log, PAGE).await.unwrap();
            }
        }
    };
    tokio::join!(writers, sealer(), sealer(), sealer());
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    assert_eq!(verification.findings, []);
    assert_eq!(verification.events, count(&world, EVENTS).await);
    assert_eq!(verification.last_seal, verification.seals);
    assert_eq!(count(&world, "select count(*) from audit_salt").await, verification.seals);
    world.assert_invariants().await;
}

/// Invariant I-70.
#[tokio::test]
async fn another_key_than_that_of_the_chain_seals_nothing() {
    let world = sealed_world().await;
    let seals = verify(&world).await.seals;
    let another = world.another_business().await;
    world.store().create_book(None, another, &cuponera_testkit::rules()).await.unwrap();
    let other: AuditKey = "07".repeat(32).parse().unwrap();
    for log in Log::ALL {
        let round = world.store().seal_events(&other, log, PAGE).await.unwrap();
        assert_eq!(round, SealRound::OtherKey);
    }
    assert_eq!(verify(&world).await.seals, seals);
    seal_to_end(&world).await;
    assert!(verify(&world).await.seals > seals);
}

/// A seal and its salts are written by one statement.
#[tokio::test]
async fn a_seal_that_fails_changes_nothing_and_is_made_later() {
    let world = World::new().await;
    query("alter table audit_salt rename to hidden").execute(world.pool()).await.unwrap();
    eventually("the sealer to fail", async || {
        world.store().seal_events(&key(), Log::Admin, PAGE).await.is_err().then_some(())
    })
    .await;
    assert_eq!(count(&world, "select count(*) from audit_seal").await, 0);
    query("alter table hidden rename to audit_salt").execute(world.pool()).await.unwrap();
    seal_to_end(&world).await;
    assert_eq!(verify(&world).await.findings, []);
}

/// A restored database numbers its transactions from the start.
#[tokio::test]
async fn after_a_restore_the_chain_continues_with_the_new_epoch() {
    let world = World::new().await;
    let codes = world.insert_codes(20).await;
    for code in &codes[..10] {
        work(&world, code).await;
    }
    // As if this were a dump of a database with more transactions.
    for table in ["coupon_event", "admin_event", "event_epoch"] {
        let later = format!("update {table} set tx = (tx::text::bigint + 1000000)::text::xid8");
        query(sqlx::AssertSqlSafe(later)).execute(world.pool()).await.unwrap();
    }
    world.store().open_event_log().await.unwrap();
    seal_to_end(&world).await;
    for code in &codes[10..] {
        work(&world, code).await;
    }
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    assert_eq!(verification.findings, []);
    assert_eq!(verification.events, count(&world, EVENTS).await);
    assert_eq!(
        count(&world, "select count(distinct through_epoch) from audit_seal where log = 'COUPON'").await,
        2
    );
}

/// Invariant I-67. A new column needs a place in the canonical form, and then a new form: see `cuponera_domain::audit::FORM`.
#[tokio::test]
async fn each_column_of_an_event_is_in_its_canonical_form() {
    let database = TestDatabase::create().await;
    for (table, expected) in [
        (
            "coupon_event",
            "id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, redeem_count, reason, actor, \
             ip, user_agent, request_id, epoch, tx",
        ),
        (
            "admin_event",
            "id, epoch, tx, at, business_id, subject, subject_id, action, before, after, actor, ip, user_agent, request_id",
        ),
    ] {
        let columns: String = query_scalar(
            "select string_agg(attname, ', ' order by attnum) from pg_attribute
             where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
        )
        .bind(table)
        .fetch_one(database.pool())
        .await
        .unwrap();
        assert_eq!(columns, expected);
    }
}

#[tokio::test]
async fn the_state_shows_the_lag_and_the_last_verification() {
    let world = World::new().await;
    let before = world.store().audit_status().await.unwrap();
    assert_eq!((before.seals, before.sealed_through, before.verification), (0, None, None));
    eventually("the events to be older than all transactions", async || {
        (world.store().audit_status().await.unwrap().lag > Duration::ZERO).then_some(())
    })
    .await;
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    world.store().record_verification(&verification).await.unwrap();
    let after = world.store().audit_status().await.unwrap();
    assert_eq!((after.seals, after.lag), (verification.seals, Duration::ZERO));
    assert!(after.sealed_through.is_some());
    assert_eq!(after.verification.map(|last| last.findings), Some(0));
    let mut writer = world.pool().begin().await.unwrap();
    query("select pg_current_xact_id()").execute(&mut *writer).await.unwrap();
    assert!(world.store().sealing_lag().await.unwrap().oldest_writer > Duration::ZERO);
    writer.rollback().await.unwrap();
}
