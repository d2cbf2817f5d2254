//! Anchors: exports of seals that are kept elsewhere.

use std::io;

use cuponera_store::{Store, VerifyOptions};
use cuponera_testkit::eventually;
use sqlx::query;

use super::{key, seal, seal_to_end, sealed_world, texts, work};

async fn export(store: &Store) -> Vec<String> {
    store.export_seals(1).await.unwrap().into_iter().map(|(_, line)| line).collect()
}

/// The findings of a verification against an anchor.
async fn against(store: &Store, anchor: &[String]) -> Vec<String> {
    let key = key();
    let mut lines = anchor.iter().cloned().map(io::Result::Ok);
    let options = VerifyOptions { key: Some(&key), anchor: Some(&mut lines), ..VerifyOptions::default() };
    texts(&store.verify_audit(options).await.unwrap())
}

/// Invariant I-69. A chain whose last seals are missing is a valid chain, so only an anchor shows it.
#[tokio::test]
async fn a_database_restored_from_a_dump_that_lacks_an_event_does_not_agree_with_the_anchor() {
    let mut world = sealed_world().await;
    let copy = world.database.copy().await;
    let codes = world.insert_codes_into(world.book, "D", 2).await;
    work(&world, &codes[0]).await;
    seal_to_end(&world).await;
    let anchor = export(world.store()).await;
    assert_eq!(against(world.store(), &anchor).await, Vec::<String>::new());
    let first_new = export(copy.store()).await.len() + 1;
    let expected: Vec<String> =
        (first_new..=anchor.len()).map(|number| format!("anchored seal {number} missing")).collect();
    assert!(!expected.is_empty());
    assert_eq!(against(copy.store(), &anchor).await, expected);
    // The restored database continues, with other events.
    query("select admin_event_write(business_id, 'BOOK', id::text, 'DELETE', null, null) from coupon_book")
        .execute(copy.pool())
        .await
        .unwrap();
    eventually("the event to be sealed", async || (seal(copy.store()).await > 0).then_some(())).await;
    let found = against(copy.store(), &anchor).await;
    assert_eq!(found[0], format!("anchored seal {first_new} differs"));
}

#[tokio::test]
async fn an_anchor_of_earlier_seals_agrees_and_other_files_are_no_anchors() {
    let world = sealed_world().await;
    let mut anchor = export(world.store()).await;
    anchor.pop();
    assert_eq!(against(world.store(), &anchor).await, Vec::<String>::new());
    anchor[1] = anchor[1].replace("\"count\":7", "\"count\":8");
    assert_eq!(against(world.store(), &anchor).await, ["anchored seal 2 differs"]);
    let key = key();
    for lines in [vec!["{}".to_owned()], vec![anchor[1].clone(), anchor[0].clone()]] {
        let mut lines = lines.into_iter().map(io::Result::Ok);
        let options = VerifyOptions { key: Some(&key), anchor: Some(&mut lines), ..VerifyOptions::default() };
        let error = world.store().verify_audit(options).await.unwrap_err().chain();
        assert!(error.contains("the anchor is not an export of seals"), "{error}");
    }
}
