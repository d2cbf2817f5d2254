//! Invariants I-76 and I-77: the audit chain and archived events.

use cuponera_domain::audit::Month;
use cuponera_store::{OpenArchive, VerifyOptions, verify_chain};
use cuponera_testkit::World;
use serde_json::Value;
use sqlx::{AssertSqlSafe, query, query_scalar};

use super::{Folder, aged_world, archive, archived, count, month, verify_files};
use crate::audit_chain::{key, seal_to_end, texts, verify};

/// Invariants I-76 and I-77.
#[tokio::test]
async fn archived_months_are_proved_by_their_files_and_without_them_by_their_records() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let months = [month(&world, 3).await, month(&world, 2).await];
    let first = archive(&world, &folder, months[0]).await;
    assert_eq!(archived(&world, &folder).await, 8);
    let second = archive(&world, &folder, months[1]).await;
    assert_eq!(archived(&world, &folder).await, 16);
    assert_eq!(verify(&world).await.archived, 16);
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    assert_eq!(count(&world, "select count(*) from coupon_event").await, 8);
    for (name, month) in [(&first, months[0]), (&second, months[1])] {
        let lines = folder.lines(name);
        assert_eq!(lines.len(), 8);
        for line in lines {
            let line: Value = serde_json::from_str(&line).unwrap();
            assert!(line["at"].as_str().unwrap().starts_with(&month.to_string()), "{line}");
            assert_eq!(line["holder"].as_str().unwrap().len(), 64, "{line}");
        }
    }
    seal_to_end(&world).await;
    let from = |from| {
        let (key, opener, store) = (key(), folder.opener(), world.store().clone());
        async move {
            let open_archive: OpenArchive<'_> = &opener;
            let options = VerifyOptions {
                key: Some(&key),
                from: Some(from),
                open_archive: Some(open_archive),
                ..VerifyOptions::default()
            };
            store.verify_audit(options).await.unwrap()
        }
    };
    // Of the second seal on, whose first event is of the first month.
    let verification = from(2).await;
    assert_eq!((texts(&verification), verification.archived), (Vec::<String>::new(), 9));
    world.assert_invariants().await;
}

/// Invariant I-77.
#[tokio::test]
async fn the_salts_of_archived_events_are_deleted_and_those_of_others_are_kept() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    for ago in [3, 2] {
        archive(&world, &folder, month(&world, ago).await).await;
    }
    let salts: Vec<Vec<u8>> = query_scalar(
        "select salts from audit_salt join audit_seal on number = seal where log = 'COUPON' order by number",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let kept = salts.concat().as_chunks::<16>().0.iter().filter(|salt| **salt != [0; 16]).count();
    assert_eq!(kept, 8);
    // Those of the first seal, whose events are of one archive, are gone with their row.
    assert_eq!(salts.len(), 3);
}

/// The findings after this statement, which is rolled back, with the files of the folder.
async fn findings_after(world: &World, folder: &Folder, sql: &str) -> Vec<String> {
    let mut transaction = world.pool().begin().await.unwrap();
    let done = query(AssertSqlSafe(sql.to_owned())).execute(&mut *transaction).await;
    let done = done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert!(done.rows_affected() > 0, "{sql}: no row was changed");
    let (key, opener) = (key(), folder.opener());
    let open_archive: OpenArchive<'_> = &opener;
    let options =
        VerifyOptions { key: Some(&key), open_archive: Some(open_archive), ..VerifyOptions::default() };
    let verification = verify_chain(&mut transaction, options).await.unwrap();
    transaction.rollback().await.unwrap();
    let mut found = texts(&verification);
    found.sort();
    found
}

/// The ids of the events of a file.
fn ids(lines: &[String]) -> Vec<String> {
    let id = |line: &String| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["position"].as_str().unwrap().rsplit('.').next().unwrap().to_owned()
    };
    lines.iter().map(id).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Invariant I-76.
#[tokio::test]
async fn a_changed_record_of_an_archive_proves_nothing_and_an_event_that_was_removed_by_hand_is_found() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let months = [month(&world, 3).await, month(&world, 2).await];
    let file = archive(&world, &folder, months[0]).await;
    archive(&world, &folder, months[1]).await;
    seal_to_end(&world).await;
    let missing: Vec<String> = ids(&folder.lines(&file)).iter().map(|id| format!("missing {id}")).collect();
    let broken = format!("archive of {}", months[0]);
    let with = |more: &[String]| sorted([more, &missing[..]].concat());
    let unproved = with(std::slice::from_ref(&broken));
    let record: uuid::Uuid = query_scalar("select event_id from audit_archive order by month limit 1")
        .fetch_one(world.pool())
        .await
        .unwrap();
    let of = format!("where month = '{}'", months[0].first_day());
    let (kept, place): (uuid::Uuid, i32) =
        sqlx::query_as("select id, position from coupon_event order by epoch desc, tx desc, id desc limit 1")
            .fetch_one(world.pool())
            .await
            .unwrap();
    for (name, sql, expected) in [
        (
            "the number of events",
            format!("update audit_archive set events = events + 1 {of}"),
            unproved.clone(),
        ),
        ("the file", format!("update audit_archive set file = 'another' {of}"), unproved.clone()),
        (
            "the hash of the file",
            format!("update audit_archive set sha256 = sha256('') {of}"),
            unproved.clone(),
        ),
        ("the root", format!("update audit_archive set root = sha256('') {of}"), unproved.clone()),
        ("the HMAC", format!("update audit_archive set hmac = sha256('') {of}"), unproved.clone()),
        (
            "a bit",
            format!("update audit_archived set events = set_bit(events, 7, 0) {of} and seal = 1"),
            unproved.clone(),
        ),
        ("the events of a seal", format!("delete from audit_archived {of} and seal = 1"), unproved.clone()),
        (
            "the step",
            format!("update audit_archive set detached_at = null, completed_at = null {of}"),
            with(&[]),
        ),
        (
            "the admin event",
            format!("delete from admin_event where id = '{record}'"),
            with(&[broken.clone(), format!("missing {record}")]),
        ),
        (
            "the admin event's root",
            format!("update admin_event set after = after - 'root' where id = '{record}'"),
            with(&[broken.clone(), format!("changed {record}")]),
        ),
        (
            "a seal",
            "delete from audit_seal where number = 1".to_owned(),
            sorted(vec!["seals 1-1 missing".to_owned(), "seal 2 Range".to_owned()]),
        ),
        (
            "another event",
            format!("delete from coupon_event where id = '{kept}'"),
            sorted(vec![format!("missing {kept}"), format!("coupon {place} lacks 2-2")]),
        ),
    ] {
        assert_eq!(findings_after(&world, &folder, &sql).await, expected, "{name}");
    }
}

/// The findings with other lines in a file, which is put back.
async fn findings_with(world: &World, folder: &Folder, name: &str, lines: &[String]) -> Vec<String> {
    let original = folder.lines(name);
    folder.put(name, lines);
    let found = texts(&verify_files(world, folder).await);
    folder.put(name, &original);
    sorted(found)
}

/// Invariant I-77.
#[tokio::test]
async fn a_changed_file_and_an_absent_one_are_found() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let month: Month = month(&world, 3).await;
    let name = archive(&world, &folder, month).await;
    let lines = folder.lines(&name);
    let ids = ids(&lines);
    let file = format!("file of {month}");
    let changed = {
        let mut changed = lines.clone();
        changed[2] =
            changed[2].replace("\"version\":1", "\"version\":3").replace("\"version\":2", "\"version\":4");
        changed
    };
    let missing =
        |ids: &[String]| ids.iter().map(|id| format!("archived and missing {id}")).collect::<Vec<_>>();
    let with_file = |found: Vec<String>| sorted([found, vec![file.clone()]].concat());
    for (case, lines, expected) in [
        ("a changed line", changed, vec![format!("archived and changed {}", ids[2])]),
        ("a removed line", [&lines[..3], &lines[4..]].concat(), missing(&ids[3..4])),
        ("no end", lines[..6].to_vec(), missing(&ids[6..])),
        ("nothing", vec![], missing(&ids)),
        ("a line twice", [&lines[..3], &lines[2..]].concat(), vec![]),
        ("no JSON", [&["{".to_owned()][..], &lines[..]].concat(), vec![]),
        ("a line after the end", [&lines[..], &["x".to_owned()][..]].concat(), vec![]),
        ("another order", [&lines[1..2], &lines[..1], &lines[2..]].concat(), vec![]),
        ("a long line", [&["x".repeat(2_000_000)][..], &lines[..]].concat(), missing(&ids)),
    ] {
        assert_eq!(findings_with(&world, &folder, &name, &lines).await, with_file(expected), "{case}");
    }
    assert_eq!(archived(&world, &folder).await, 8);
    folder.0.lock().unwrap().clear();
    let verification = verify_files(&world, &folder).await;
    assert_eq!((texts(&verification), verification.archived), (vec![format!("no file of {month}")], 8));
}
