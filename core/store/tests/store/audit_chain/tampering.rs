//! Changes by hand, and what a verification finds.

use cuponera_domain::id::BookId;
use cuponera_store::{GenerateId, VerifyOptions};
use cuponera_testkit::World;
use sqlx::{query_as, query_scalar};
use uuid::Uuid;

use super::{findings_after, key, sealed_world, texts, verify};

/// The ids of the events of a log, in its order.
async fn ids(world: &World, sql: &'static str) -> Vec<Uuid> {
    query_scalar(sql).fetch_all(world.pool()).await.unwrap()
}

const COUPON_EVENTS: &str = "select id from coupon_event order by epoch, tx, id";
const ADMIN_EVENTS: &str = "select id from admin_event order by epoch, tx, id";

/// A copy of a row with other values.
fn copied(table: &str, id: Uuid, changes: &str) -> String {
    format!(
        "insert into {table} select r.* from {table} e,
         lateral jsonb_populate_record(e, jsonb_build_object({changes})) r where e.id = '{id}'"
    )
}

fn swapped(column: &str, one: Uuid, two: Uuid) -> String {
    format!(
        "update coupon_event e set {column} = o.{column} from coupon_event o
         where e.id in ('{one}', '{two}') and o.id in ('{one}', '{two}') and e.id <> o.id"
    )
}

/// Fails if a case has other findings than these, in any order.
async fn assert_found(
    world: &World,
    cases: impl IntoIterator<Item = (&'static str, Vec<String>, Vec<String>)>,
) {
    let mut wrong = Vec::new();
    for (name, statements, mut expected) in cases {
        let mut found = findings_after(world, &statements).await;
        found.sort();
        expected.sort();
        if found != expected {
            wrong.push(format!("{name}: {found:?} instead of {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Invariant I-69.
#[tokio::test]
async fn a_verification_names_the_event_of_a_coupon_that_was_changed() {
    let world = sealed_world().await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    let ids = ids(&world, COUPON_EVENTS).await;
    let new = Uuid::from_u128(1);
    // The second event of the third coupon, in the second seal; its neighbor there; an event of a later seal.
    let (id, neighbor, far) = (ids[7], ids[8], ids[18]);
    let at: (i32, i32) = query_as("select position, version from coupon_event where id = $1")
        .bind(id)
        .fetch_one(world.pool())
        .await
        .unwrap();
    let (place, version) = at;
    let set = |values: &str| format!("update coupon_event set {values} where id = '{id}'");
    let lacks = format!("coupon {place} lacks {version}-{version}");
    let cases: Vec<(&'static str, String, Vec<String>)> = vec![
        ("holder", set("user_id = 'eva'"), vec![format!("changed {id}")]),
        ("actor", set("actor = 'admin'"), vec![format!("changed {id}")]),
        ("no address", set("ip = null"), vec![format!("changed {id}")]),
        ("user agent", set("user_agent = 'x'"), vec![format!("changed {id}")]),
        ("time", set("at = at + interval '1 microsecond'"), vec![format!("changed {id}")]),
        ("status", set("to_status = 'VOID'"), vec![format!("changed {id}")]),
        (
            "removed",
            format!("delete from coupon_event where id = '{id}'"),
            vec![format!("missing {id}"), lacks.clone()],
        ),
        (
            "inserted",
            copied("coupon_event", id, &format!("'id', '{new}'")),
            vec![format!("inserted {new}"), format!("coupon {place} repeats {version}")],
        ),
        (
            "repeated",
            copied("coupon_event", id, "'id', e.id"),
            vec![format!("repeated {id}"), format!("coupon {place} repeats {version}")],
        ),
        (
            "another id",
            set(&format!("id = '{new}'")),
            vec![format!("inserted {new}"), format!("missing {id}")],
        ),
        (
            "ids swapped",
            swapped("id", id, neighbor),
            vec![format!("changed {id}"), format!("changed {neighbor}")],
        ),
        (
            "order in a seal",
            swapped("tx", id, neighbor),
            vec![format!("changed {neighbor}"), format!("changed {id}")],
        ),
        (
            "order of seals",
            swapped("tx", id, far),
            vec![
                format!("inserted {far}"),
                format!("missing {id}"),
                format!("inserted {id}"),
                format!("missing {far}"),
            ],
        ),
        ("moved to the end", set("tx = '999999999999'"), vec![format!("missing {id}")]),
    ];
    assert_found(&world, cases.into_iter().map(|(name, sql, found)| (name, vec![sql], found))).await;
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new(), "the cases were not rolled back");
}

/// Invariant I-69.
#[tokio::test]
async fn a_verification_names_the_admin_event_that_was_changed() {
    let world = sealed_world().await;
    let ids = ids(&world, ADMIN_EVENTS).await;
    let (id, new) = (ids[1], Uuid::from_u128(1));
    let set = |values: &str| format!("update admin_event set {values} where id = '{id}'");
    let changed = vec![format!("changed {id}")];
    let cases: Vec<(&'static str, String, Vec<String>)> = vec![
        ("actor", set("actor = 'x'"), changed.clone()),
        ("values before", set("before = '{\"status\": \"CLOSED\"}'"), changed.clone()),
        ("values after", set("after = '{}'"), changed.clone()),
        ("business", set("business_id = gen_random_uuid()"), changed.clone()),
        ("subject", set("subject_id = 'x'"), changed),
        ("removed", format!("delete from admin_event where id = '{id}'"), vec![format!("missing {id}")]),
        ("inserted", copied("admin_event", id, &format!("'id', '{new}'")), vec![format!("inserted {new}")]),
    ];
    assert_found(&world, cases.into_iter().map(|(name, sql, found)| (name, vec![sql], found))).await;
}

/// Invariant I-69.
#[tokio::test]
async fn a_verification_names_the_seal_that_was_changed() {
    let world = sealed_world().await;
    let id = ids(&world, COUPON_EVENTS).await[0];
    let last = verify(&world).await.last_seal;
    let flipped = |column: &str| {
        format!(
            "update audit_seal set {column} = set_byte({column}, 0, get_byte({column}, 0) # 1) where number = 2"
        )
    };
    let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let cases: Vec<(&'static str, Vec<String>, Vec<String>)> = vec![
        ("HMAC", vec![flipped("hmac")], text(&["seal 2 Hmac"])),
        ("root", vec![flipped("root")], text(&["seal 2 Root", "seal 2 Hmac", "seal 3 Previous"])),
        ("previous", vec![flipped("previous")], text(&["seal 2 Previous", "seal 2 Hmac", "seal 3 Previous"])),
        ("key", vec![flipped("key")], text(&["seal 2 Key", "seal 3 Previous"])),
        (
            "time",
            vec!["update audit_seal set created_at = created_at + interval '1 s' where number = 2".to_owned()],
            text(&["seal 2 Hmac", "seal 3 Previous"]),
        ),
        (
            "removed",
            vec!["delete from audit_seal where number = 2".to_owned()],
            text(&["seals 2-2 missing", "seal 3 Range"]),
        ),
        (
            "form",
            vec![format!("update audit_seal set form = 2 where number = {last}")],
            vec![format!("seal {last} Form"), format!("seal {last} Hmac")],
        ),
        // An event and its leaf are changed together, without the key.
        (
            "leaf",
            vec![
                format!("update coupon_event set actor = 'x' where id = '{id}'"),
                "update audit_seal set leaves = set_byte(leaves, 0, get_byte(leaves, 0) # 1) where number = 1".to_owned(),
                "update audit_seal set root = sha256(leaves) where number = 1".to_owned(),
            ],
            vec![
                "seal 1 Hmac".to_owned(),
                format!("changed {id}"),
                "seal 2 Previous".to_owned(),
            ],
        ),
    ];
    assert_found(&world, cases).await;
}

/// Invariant I-69.
#[tokio::test]
async fn a_salt_that_was_removed_or_changed_is_found() {
    let world = sealed_world().await;
    let ids = ids(&world, COUPON_EVENTS).await;
    let put = |bytes: &str| {
        format!(
            "update audit_salt set salts = overlay(salts placing '\\x{bytes}'::bytea from 17) where seal = 1"
        )
    };
    let without = |ids: &[Uuid]| ids.iter().map(|id| format!("no salt {id}")).collect::<Vec<_>>();
    assert_eq!(findings_after(&world, &[put(&"00".repeat(16))]).await, without(&ids[1..2]));
    assert_eq!(findings_after(&world, &[put(&"01".repeat(16))]).await, [format!("changed {}", ids[1])]);
    let removed = "delete from audit_salt where seal = 1".to_owned();
    assert_eq!(findings_after(&world, &[removed]).await, without(&ids[..7]));
}

#[tokio::test]
async fn a_verification_of_a_part_reports_what_concerns_it() {
    let world = sealed_world().await;
    let ids = ids(&world, COUPON_EVENTS).await;
    for (id, expected) in [(ids[0], false), (ids[15], true)] {
        let mut transaction = world.pool().begin().await.unwrap();
        let change = format!("update coupon_event set actor = 'x' where id = '{id}'");
        sqlx::query(sqlx::AssertSqlSafe(change)).execute(&mut *transaction).await.unwrap();
        let key = key();
        let options =
            |from, book| VerifyOptions { key: Some(&key), from, book, anchor: None, open_archive: None };
        let from = cuponera_store::verify_chain(&mut transaction, options(Some(3), None)).await.unwrap();
        assert_eq!((from.found > 0, from.seals > 0), (expected, true), "from the third seal");
        for (book, is_found) in [(world.book, true), (BookId::generate(), false)] {
            let of_book =
                cuponera_store::verify_chain(&mut transaction, options(None, Some(book))).await.unwrap();
            assert_eq!(of_book.found > 0, is_found, "of {book}");
        }
        transaction.rollback().await.unwrap();
    }
}
