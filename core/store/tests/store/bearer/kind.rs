//! The kind of a book's codes: fixed once codes were added, or are to be added.

use cuponera_domain::book::{BookPatch, Change};
use cuponera_domain::coupon::pattern::Pattern;
use cuponera_testkit::waits_for;

use super::*;

fn becomes(kind: CodeKind) -> BookPatch {
    BookPatch { code_kind: Change::Set(kind), ..BookPatch::default() }
}

async fn change(world: &World, kind: CodeKind) -> Result<CodeKind, Rejection> {
    let changed = world.store().update_book(None, world.business, world.book, becomes(kind)).await;
    changed.unwrap().outcome.map(|book| book.rules.code_kind)
}

#[tokio::test]
async fn the_kind_changes_until_a_job_adds_codes() {
    let world = World::new().await;
    for kind in [CodeKind::Bearer, CodeKind::Unique, CodeKind::Bearer] {
        assert_eq!(change(&world, kind).await, Ok(kind));
    }
    let shared = change(&world, CodeKind::Shared).await.unwrap_err();
    assert!(shared.to_string().contains("SHARED is not supported yet"), "{shared}");
    let pattern = Pattern::parse("K-{XXXXXXXX}").unwrap();
    let submitted =
        world.store().submit_generation(None, world.business, "test", world.book, &pattern, 3).await;
    submitted.unwrap().outcome.unwrap();
    assert_eq!(change(&world, CodeKind::Unique).await, Err(Rejection::CodeKindFixed));
    assert_eq!(change(&world, CodeKind::Bearer).await, Ok(CodeKind::Bearer), "it has this kind");
    let clone = world.store().clone_book(None, world.business, world.book, None).await.unwrap();
    assert_eq!(clone.outcome.unwrap().rules.code_kind, CodeKind::Bearer);
    let rules = BookRules { code_kind: CodeKind::Shared, ..rules() };
    let created = world.store().create_book(None, world.business, &rules).await.unwrap().outcome;
    assert!(matches!(created, Err(Rejection::Invalid { .. })), "{created:?}");
}

/// Invariant I-80.
#[tokio::test]
async fn a_change_of_the_kind_waits_for_a_job_that_adds_codes() {
    let world = World::new().await;
    let mut adding = world.pool().begin().await.unwrap();
    query("update coupon_book set next_position = next_position + 1").execute(&mut *adding).await.unwrap();
    let changed = waits_for(world.pool(), 1, adding.commit(), change(&world, CodeKind::Bearer)).await;
    assert_eq!(changed, Err(Rejection::CodeKindFixed));
    let stored: String =
        query_scalar("select code_kind from coupon_book").fetch_one(world.pool()).await.unwrap();
    assert_eq!(stored, "UNIQUE");
}

/// As an earlier program writes a book.
#[tokio::test]
async fn a_book_of_an_earlier_program_is_unique_and_its_stored_answer_is_read() {
    let world = World::new().await;
    let book = world.store().get_book(world.business, world.book).await.unwrap();
    let mut stored = serde_json::to_value(&book).unwrap();
    stored["rules"].as_object_mut().unwrap().remove("code_kind").unwrap();
    assert_eq!(serde_json::from_value::<cuponera_domain::book::Book>(stored).unwrap(), book);
    query("insert into coupon_book (id, business_id, name) values (gen_random_uuid(), $1, 'Another')")
        .bind(world.business.0)
        .execute(world.pool())
        .await
        .unwrap();
    let listed = world.store().list_books(world.business, None, Some("Another"), None, 10).await.unwrap();
    assert_eq!(listed.items[0].rules.code_kind, CodeKind::Unique);
}
