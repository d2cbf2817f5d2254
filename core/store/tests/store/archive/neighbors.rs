//! What reads events, after their months are archived: books, calls, statistics, erasures, lists and streams.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use cuponera_domain::audit::Month;
use cuponera_domain::book::BookStatus;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::time_range::TimeRange;
use cuponera_store::{Error, EventCursor, EventFilter, Revoke, Rollback};
use cuponera_testkit::{World, rules};
use sqlx::{query, query_scalar};

use super::{
    Folder, age, aged_world, archive, archived, complete, detach, key, month, record, redeem, write_file,
};
use crate::audit_chain::{seal_to_end, texts, verify, wait_until_sealable};

/// The smallest book that a job deletes.
const LARGE: i32 = 10_001;

/// Archives the two old months.
async fn archive_all(world: &World, folder: &Folder) {
    for ago in [3, 2] {
        archive(world, folder, month(world, ago).await).await;
    }
}

/// Invariant I-79.
#[tokio::test]
async fn a_coupon_whose_first_events_are_archived_is_used_rolled_back_and_reconciled() {
    let world = World::new().await;
    let codes = world.insert_codes(3).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    let old = redeem(&world, &codes[0]).await;
    age(&world, 2).await;
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    let folder = Folder::default();
    archive(&world, &folder, month(&world, 2).await).await;
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
    world.assert_invariants().await;

    let reason = "goods returned".to_owned();
    let undo = Rollback { redemption: old.redemption, code: codes[0].clone(), user: None, reason };
    world.run_batch(world.call(undo)).await.outcome.unwrap();
    redeem(&world, &codes[1]).await;
    world.locked(&codes[2], "ana").await;
    assert_eq!(world.actions(&codes[0]).await, ["ROLLBACK"]);
    assert_eq!(world.actions(&codes[1]).await, ["REDEEM"]);
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
    assert_eq!(world.store().reconcile(Some(world.book)).await.unwrap(), []);
    world.store().roll_up_statistics().await.unwrap();
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
    world.assert_invariants().await;
    seal_to_end(&world).await;
    assert_eq!(archived(&world, &folder).await, 4);
}

/// Invariant I-79.
#[tokio::test]
async fn a_book_whose_events_are_all_archived_is_not_deleted() {
    let world = World::new().await;
    let [small, large, unused] = [
        world.another_book(&rules()).await,
        world.another_book(&rules()).await,
        world.another_book(&rules()).await,
    ];
    let codes = [
        world.insert_codes_into(small, "S", 1).await.remove(0),
        world.insert_codes_into(large, "L", LARGE).await.remove(0),
    ];
    world.insert_codes_into(unused, "N", 1).await;
    for code in &codes {
        world.give(code, "ana").await;
        // No count of the book shows any more that the code was assigned.
        let revoke =
            Revoke { code: code.clone(), user: None, assignment: None, reason: "by mistake".to_owned() };
        world.run_batch(world.call(revoke)).await.outcome.unwrap();
    }
    age(&world, 2).await;
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    archive(&world, &Folder::default(), month(&world, 2).await).await;
    let delete = async |book| world.store().delete_book_if_unused(world.business, "service:test", book).await;
    for book in [small, large] {
        let kept = delete(book).await;
        assert!(matches!(kept, Err(Error::Rejected(Rejection::BookInUse))), "{kept:?}");
        let status = world.store().get_book(world.business, book).await.unwrap().status;
        assert_eq!(status, BookStatus::Active);
    }
    delete(unused).await.unwrap();
    // As a program of an earlier version does it.
    let deleted = query("delete from coupon_book where id = $1").bind(small.0).execute(world.pool()).await;
    assert!(deleted.unwrap_err().to_string().contains("are archived"));
}

/// Invariants I-71 and I-77.
#[tokio::test]
async fn a_user_is_erased_before_and_after_an_archive_and_the_chain_remains_valid() {
    let (world, _) = aged_world().await;
    let folder = Folder::default();
    let first = archive(&world, &folder, month(&world, 3).await).await;
    let ana = crate::erasure::erase(&world, "ana").await;
    assert_eq!(ana.events, 16);
    assert_eq!(archived(&world, &folder).await, 8);
    // The lines of erased events are those after the erasure.
    archive(&world, &folder, month(&world, 2).await).await;
    assert_eq!(archived(&world, &folder).await, 16);
    assert_eq!(texts(&verify(&world).await), Vec::<String>::new());
    seal_to_end(&world).await;
    world.assert_invariants().await;
    assert!(folder.lines(&first).iter().all(|line| !line.contains("ana")));
    let salts: Vec<Vec<u8>> =
        query_scalar("select salts from audit_erasure order by seal").fetch_all(world.pool()).await.unwrap();
    // Those of the eight events of the second month: the salts of the others are needed.
    let deleted = salts.concat().as_chunks::<16>().0.iter().filter(|salt| **salt == [0; 16]).count();
    assert_eq!(deleted, 8);
}

/// Invariant I-79.
#[tokio::test]
async fn lists_and_streams_of_events_begin_at_the_oldest_month_that_is_not_archived() {
    let (world, _) = aged_world().await;
    let kept: Vec<uuid::Uuid> = query_scalar(
        "select id from coupon_event where at > now() - interval '1 day' order by epoch, tx, id",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let before_all = EventCursor::default();
    assert_eq!(world.store().find_archive_after(before_all).await.unwrap(), None);
    archive_all(&world, &Folder::default()).await;
    // A follower would pass over their events.
    assert_eq!(world.store().find_archive_after(before_all).await.unwrap(), Some(month(&world, 2).await));
    let end = world.store().event_log_end().await.unwrap().last;
    assert_eq!(world.store().find_archive_after(end).await.unwrap(), None);
    let streamed = world.store().events_after(EventCursor::default(), 100).await.unwrap();
    assert_eq!(streamed.iter().map(|event| event.event.id.0).collect::<Vec<_>>(), kept);
    let list = async |filter: EventFilter| {
        let page = world.store().list_events(world.business, &filter, 100).await.unwrap();
        page.items.iter().map(|event| event.event.id.0).collect::<Vec<_>>()
    };
    let newest_first: Vec<_> = kept.iter().rev().copied().collect();
    assert_eq!(list(EventFilter::default()).await, newest_first);
    let range = TimeRange { from: None, to: Some(Utc::now() - TimeDelta::days(20)) };
    assert_eq!(list(EventFilter { range, ..EventFilter::default() }).await, Vec::<uuid::Uuid>::new());
}

/// Invariant I-79.
#[tokio::test]
async fn a_database_that_was_restored_from_a_dump_is_recognized_without_its_archived_events() {
    let world = World::new().await;
    let code = world.insert_codes(1).await.remove(0);
    world.give(&code, "ana").await;
    age(&world, 2).await;
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    let folder = Folder::default();
    archive(&world, &folder, month(&world, 2).await).await;
    let epochs = async || -> i64 {
        query_scalar("select count(*) from event_epoch").fetch_one(world.pool()).await.unwrap()
    };
    world.store().begin_epoch_if_restored().await.unwrap();
    assert_eq!(epochs().await, 1);
    // As in a restored database, only the log has transactions that are still to come: those of the events, and of the record after them.
    query("update admin_event set tx = '9000000000' where subject = 'EVENTS'")
        .execute(world.pool())
        .await
        .unwrap();
    world.store().begin_epoch_if_restored().await.unwrap();
    assert_eq!(epochs().await, 2);
}

/// Invariant I-77.
#[tokio::test]
async fn each_business_gets_an_admin_event_and_a_month_without_events_is_dropped() {
    let world = World::new().await;
    let other = world.another_business().await;
    let codes = world.insert_codes(2).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    query("update coupon_event set business_id = $1 where position = 0")
        .bind(other.0)
        .execute(world.pool())
        .await
        .unwrap();
    age(&world, 2).await;
    query("select coupon_event_make_month(now() - interval '4 months')").execute(world.pool()).await.unwrap();
    wait_until_sealable(&world).await;
    seal_to_end(&world).await;
    let (empty, used): (Month, Month) = (month(&world, 4).await, month(&world, 2).await);
    let months = world.store().event_months().await.unwrap();
    assert!(months.is_sorted() && months.contains(&empty) && months.contains(&used), "{months:?}");
    assert_eq!(world.store().archive_obstacle(empty).await.unwrap(), None);
    assert_eq!(world.store().scan_month(empty, &key(), async |_| Ok(())).await.unwrap(), None);
    assert!(world.store().drop_empty_month(empty).await.unwrap());
    assert!(world.store().drop_empty_month(used).await.is_err());
    assert_eq!(world.store().count_events_of(used).await.unwrap(), 2);

    let folder = Folder::default();
    let scanned = write_file(&world, &folder, used).await;
    record(&world, &scanned).await;
    detach(&world, used).await;
    complete(&world, used).await;
    let events: Vec<(uuid::Uuid, String, String, i64)> = sqlx::query_as(
        "select business_id, subject_id, actor, (after ->> 'events')::bigint from admin_event
         where subject = 'EVENTS' and action = 'ARCHIVE' order by business_id",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    let mut expected =
        [world.business.0, other.0].map(|business| (business, used.to_string(), "cli".to_owned(), 1));
    expected.sort();
    assert_eq!(events, expected);
    let lock = world.store().lock_archives().await.unwrap().unwrap();
    assert!(world.store().lock_archives().await.unwrap().is_none());
    // The server ends the session of a killed command a moment later: the next command waits for that.
    let ends = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        lock.release().await.unwrap();
    };
    let (next, ()) = tokio::join!(world.store().lock_archives(), ends);
    next.unwrap().expect("the lock").release().await.unwrap();
    assert_eq!(archived(&world, &folder).await, 2);
}
