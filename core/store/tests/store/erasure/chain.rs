//! Invariants I-72 and I-73: the audit chain and erased events.

use cuponera_domain::audit::{AuditKey, Log};
use cuponera_store::{ErasureStart, SealRound, VerifyOptions};
use cuponera_testkit::{World, waits_for};
use sqlx::{query, query_scalar};
use uuid::Uuid;

use super::{begin, erase};
use crate::audit_chain::{findings_after, key, seal_to_end, texts, verify, wait_until_sealable};

/// A world with sealed events of two users: `ana` holds codes that `eva` has assigned.
async fn sealed_world() -> World {
    let world = World::new().await;
    let codes = world.insert_codes(6).await;
    for code in &codes {
        let mut call = world.named(code, "ana");
        "user:eva".clone_into(&mut call.audit.actor);
        world.run_batch(call).await.outcome.unwrap();
    }
    world.give(&world.insert_codes_into(world.book, "D", 1).await[0], "eva").await;
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    world
}

async fn count(world: &World, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(world.pool()).await.unwrap()
}

/// The number of deleted salts of seals, and of earlier erasures.
async fn deleted_salts(world: &World) -> (usize, usize) {
    let zeros = |salts: Vec<Vec<u8>>| {
        salts.concat().as_chunks::<16>().0.iter().filter(|salt| **salt == [0; 16]).count()
    };
    let sealed = query_scalar("select salts from audit_salt").fetch_all(world.pool()).await.unwrap();
    let erased = query_scalar("select salts from audit_erasure").fetch_all(world.pool()).await.unwrap();
    (zeros(sealed), zeros(erased))
}

/// Invariant I-72.
#[tokio::test]
async fn erased_events_are_still_proved_and_their_salts_are_gone() {
    let world = sealed_world().await;
    let ana = erase(&world, "ana").await;
    assert_eq!(ana.events, 6);
    assert_eq!(deleted_salts(&world).await, (6, 0));
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    // The same events again, by their actor: the salts of the first erasure are deleted too.
    let eva = erase(&world, "eva").await;
    assert_eq!(eva.events, 7);
    assert_eq!(deleted_salts(&world).await, (7, 6));
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    seal_to_end(&world).await;
    let verification = verify(&world).await;
    assert_eq!(texts(&verification), Vec::<String>::new());
    assert_eq!(
        verification.events,
        count(&world, "select (select count(*) from coupon_event) + (select count(*) from admin_event)")
            .await
    );
    world.assert_invariants().await;
}

/// Invariant I-72.
#[tokio::test]
async fn a_salt_that_was_removed_by_hand_and_a_changed_record_of_an_erasure_are_found() {
    let world = sealed_world().await;
    let pseudonym = erase(&world, "ana").await.pseudonym;
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    let erased: Vec<Uuid> =
        query_scalar("select id from coupon_event where user_id = $1 order by epoch, tx, id")
            .bind(&pseudonym)
            .fetch_all(world.pool())
            .await
            .unwrap();
    let other: Uuid = query_scalar("select id from coupon_event where user_id = 'eva'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    let record: Uuid =
        query_scalar("select event_id from audit_erasure").fetch_one(world.pool()).await.unwrap();
    let seal: i64 = query_scalar("select seal from audit_erasure").fetch_one(world.pool()).await.unwrap();
    let broken = format!("erasure of {pseudonym} in {seal}");
    let without_salt: Vec<String> = erased.iter().map(|id| format!("no salt {id}")).collect();
    let with = |more: &[String]| [more, &without_salt[..]].concat();
    for (name, statement, mut expected) in [
        (
            "a salt of another event",
            "update audit_salt s set salts = overlay(salts placing decode(repeat('00', 16), 'hex') from octet_length(salts) - 15)
             from audit_seal a where a.number = s.seal and a.log = 'COUPON'"
                .to_owned(),
            vec![format!("no salt {other}")],
        ),
        ("the stored hashes", "delete from audit_erasure".to_owned(), without_salt.clone()),
        (
            "the record",
            format!("delete from admin_event where id = '{record}'"),
            with(&[broken.clone(), format!("missing {record}")]),
        ),
        (
            "the root in the record",
            format!("update admin_event set after = '{{}}' where id = '{record}'"),
            with(&[broken.clone(), format!("changed {record}")]),
        ),
        (
            "the HMAC of the hashes",
            "update audit_erasure set hmac = sha256('')".to_owned(),
            with(std::slice::from_ref(&broken)),
        ),
        (
            "a hash",
            "update audit_erasure set leaves = set_byte(leaves, 0, 255 - get_byte(leaves, 0))".to_owned(),
            with(std::slice::from_ref(&broken)),
        ),
        (
            "an erased event",
            format!("update coupon_event set user_id = 'bob' where id = '{}'", erased[0]),
            vec![format!("changed {}", erased[0])],
        ),
        (
            "the salt of an erased event",
            "update audit_erasure set salts = overlay(salts placing decode(repeat('00', 16), 'hex') from 1)".to_owned(),
            vec![format!("no salt {}", erased[0])],
        ),
    ] {
        let mut found = findings_after(&world, &[statement]).await;
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{name}");
    }
}

/// A forged erasure is complete, with its admin event, but has not the key of the seals.
/// Invariant I-72.
#[tokio::test]
async fn an_erasure_that_was_recorded_with_another_key_is_found() {
    let world = sealed_world().await;
    let other: AuditKey = "07".repeat(32).parse().unwrap();
    let erasure = begin(world.store(), &world, "ana").await;
    let pseudonym = erasure.pseudonym().to_owned();
    world.store().erase_rows(&erasure, Some(&other), |_| {}).await.unwrap();
    world.store().finish_erasure(*erasure).await.unwrap();
    seal_to_end(&world).await;
    let mut expected: Vec<String> =
        query_scalar("select 'no salt ' || id from coupon_event where user_id = $1")
            .bind(&pseudonym)
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(expected.len(), 6);
    let seal: i64 = query_scalar("select seal from audit_erasure").fetch_one(world.pool()).await.unwrap();
    expected.push(format!("erasure of {pseudonym} in {seal}"));
    expected.sort();
    let mut found = texts(&verify(&world).await);
    found.sort();
    assert_eq!(found, expected);
}

/// Invariant I-73.
#[tokio::test]
async fn a_sealer_that_has_read_an_event_before_its_erasure_appends_no_seal() {
    let world = World::new().await;
    let code = world.insert_codes(1).await.remove(0);
    seal_to_end(&world).await;
    world.give(&code, "ana").await;
    wait_until_sealable(&world).await;
    let mut erasing = world.pool().begin().await.unwrap();
    query("update audit_guard set erasures = erasures + 1").execute(&mut *erasing).await.unwrap();
    query("update coupon_event set user_id = 'erased-1' where user_id = 'ana'")
        .execute(&mut *erasing)
        .await
        .unwrap();
    let (store, key) = (world.store(), key());
    let sealing = async { store.seal_events(&key, Log::Coupon, 10).await.unwrap() };
    assert_eq!(waits_for(world.pool(), 1, erasing.commit(), sealing).await, SealRound::Raced);
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
}

/// Invariants I-72 and I-73.
#[tokio::test]
async fn an_erasure_waits_for_a_seal_that_is_being_appended() {
    let world = World::new().await;
    let code = world.insert_codes(1).await.remove(0);
    seal_to_end(&world).await;
    let seals = count(&world, "select count(*) from audit_seal").await;
    world.give(&code, "ana").await;
    wait_until_sealable(&world).await;
    // Holds the number of the next seal, so that the sealer has read the event and waits.
    let mut holding = world.pool().begin().await.unwrap();
    query(
        "insert into audit_seal select (jsonb_populate_record(s, jsonb_build_object('number', $1::bigint + 1))).*
         from audit_seal s where number = $1",
    )
    .bind(seals)
    .execute(&mut *holding)
    .await
    .unwrap();
    let (store, key) = (world.store(), key());
    let sealing = async { store.seal_events(&key, Log::Coupon, 10).await.unwrap() };
    let erasing = async {
        cuponera_testkit::eventually("the sealer to wait", async || {
            let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            (count(&world, waiting).await > 0).then_some(())
        })
        .await;
        erase(&world, "ana").await
    };
    let both = async { tokio::join!(sealing, erasing) };
    let (round, erased) = Box::pin(waits_for(world.pool(), 2, holding.rollback(), both)).await;
    assert_eq!((round, erased.events), (SealRound::Sealed(1), 1));
    assert_eq!(deleted_salts(&world).await, (1, 0));
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
}

#[tokio::test]
async fn an_erasure_excludes_another_one_and_a_verification() {
    let world = sealed_world().await;
    let erasure = begin(world.store(), &world, "ana").await;
    let second = world.store().begin_erasure(world.business, "eva", false).await.unwrap();
    assert!(matches!(second, ErasureStart::Locked), "{second:?}");
    let ending = async {
        world.store().finish_erasure(*erasure).await.unwrap();
        Ok::<(), sqlx::Error>(())
    };
    let verifying = world.store().verify_audit(VerifyOptions::default());
    Box::pin(waits_for(world.pool(), 1, ending, verifying)).await.unwrap();
}

/// A pseudonym holds codes like any other user.
/// Invariant I-72.
#[tokio::test]
async fn the_erasure_of_a_pseudonym_leaves_the_chain_valid() {
    let world = sealed_world().await;
    let ana = erase(&world, "ana").await;
    seal_to_end(&world).await;
    assert_eq!(erase(&world, &ana.pseudonym).await.events, 6);
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    seal_to_end(&world).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
}

/// A sealer appends nothing if the row has changed since it read the events.
/// Invariant I-73.
#[tokio::test]
async fn a_batch_that_changes_no_event_delays_no_sealer() {
    let world = sealed_world().await;
    let guard = "select erasures from audit_guard";
    let before = count(&world, guard).await;
    let ErasureStart::Begun(erasure) =
        world.store().begin_erasure(world.business, "leo", true).await.unwrap()
    else {
        panic!("the erasure has not begun")
    };
    world.store().erase_rows(&erasure, Some(&key()), |_| {}).await.unwrap();
    world.store().finish_erasure(*erasure).await.unwrap();
    assert_eq!(count(&world, guard).await, before);
    erase(&world, "ana").await;
    assert_eq!(count(&world, guard).await, before + 1);
}
