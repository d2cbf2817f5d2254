//! The event log: readers with a cursor miss no event, and partitions can be created during long reads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cuponera_store::{EventCursor, LoggedEvent};
use cuponera_testkit::{World, eventually, rules};
use futures::future::join_all;
use sqlx::{AssertSqlSafe, query, query_scalar};
use uuid::Uuid;

const PAGE: i64 = 7;

/// Follows the log from a position until this many events are read. Transactions in other databases of the server delay
/// a reader too.
async fn follow_to(world: &World, cursor: &mut EventCursor, count: usize) -> Vec<LoggedEvent> {
    let mut events = Vec::new();
    eventually("the events to be read", async || {
        events.extend(follow(world, cursor).await);
        (events.len() >= count).then_some(())
    })
    .await;
    events
}

/// Follows the log from a position to its current end.
async fn follow(world: &World, cursor: &mut EventCursor) -> Vec<LoggedEvent> {
    let mut events = Vec::new();
    loop {
        let page = world.store().events_after(*cursor, PAGE).await.unwrap();
        let Some(last) = page.last() else { return events };
        assert!(page[0].cursor > *cursor && page.is_sorted_by(|one, next| one.cursor < next.cursor));
        *cursor = last.cursor;
        events.extend(page);
    }
}

fn ids(events: &[LoggedEvent]) -> Vec<Uuid> {
    events.iter().map(|event| event.event.id.0).collect()
}

async fn stored(world: &World) -> BTreeSet<Uuid> {
    let ids: Vec<Uuid> = query_scalar("select id from coupon_event").fetch_all(world.pool()).await.unwrap();
    ids.into_iter().collect()
}

/// Invariant I-10.
#[tokio::test]
async fn an_event_that_commits_after_a_later_one_is_not_missed() {
    let world = World::new().await;
    let code = &world.insert_codes(1).await[0];
    let mut late = world.pool().begin().await.unwrap();
    // Its transaction is older than that of the assignment, and its event commits after it.
    query(
        "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
         values (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'late')",
    )
    .execute(&mut *late)
    .await
    .unwrap();
    world.give(code, "ana").await;
    let mut cursor = EventCursor::default();
    assert_eq!(follow(&world, &mut cursor).await, [], "events after a running transaction were read");
    late.commit().await.unwrap();
    let events = follow_to(&world, &mut cursor, 2).await;
    assert_eq!(events.iter().map(|event| event.event.version).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(follow(&world, &mut cursor).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_beside_writers_reads_each_event_once() {
    let world = World::with(rules()).await;
    let codes = world.insert_codes(120).await;
    let is_over = AtomicBool::new(false);
    let writers = async {
        join_all(codes.iter().map(async |code| {
            world.give(code, "ana").await;
            world.locked(code, "ana").await;
            world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap();
        }))
        .await;
        is_over.store(true, Ordering::Relaxed);
    };
    let mut cursor = EventCursor::default();
    let mut read = Vec::new();
    let reader = async {
        while !is_over.load(Ordering::Relaxed) {
            read.extend(ids(&follow(&world, &mut cursor).await));
        }
    };
    tokio::join!(writers, reader);
    let stored = stored(&world).await;
    let rest = stored.len().saturating_sub(read.len());
    read.extend(ids(&follow_to(&world, &mut cursor, rest).await));
    let once: BTreeSet<Uuid> = read.iter().copied().collect();
    assert_eq!(once.len(), read.len(), "an event was read twice");
    assert!(once == stored, "{} of {} events were read", once.len(), stored.len());
}

/// A restored database numbers its transactions from the start.
#[tokio::test]
async fn a_database_restored_from_a_dump_begins_a_new_epoch_and_no_event_is_missed_or_read_twice() {
    let world = World::new().await;
    let codes = world.insert_codes(30).await;
    for code in &codes[..10] {
        world.give(code, "ana").await;
    }
    query("update coupon_event set tx = (tx::text::bigint + 1000000)::text::xid8")
        .execute(world.pool())
        .await
        .unwrap();
    let mut cursor = EventCursor { tx: u64::from(u32::MAX), ..EventCursor::default() };
    let before: Vec<LoggedEvent> = world.store().events_after(EventCursor::default(), 100).await.unwrap();
    assert_eq!(before, [], "events of future transactions were read as committed");
    for _ in 0..2 {
        world.store().open_event_log().await.unwrap();
    }
    cursor = EventCursor { epoch: 0, ..cursor };
    assert_eq!(follow_to(&world, &mut cursor, 10).await.len(), 10);
    assert_eq!((cursor.epoch, cursor.tx > 1_000_000), (1, true));
    for code in &codes[10..] {
        world.give(code, "ana").await;
    }
    let after = follow_to(&world, &mut cursor, 20).await;
    assert_eq!((after.len(), cursor.epoch), (20, 2));
    let epochs: i64 = query_scalar("select count(*) from event_epoch").fetch_one(world.pool()).await.unwrap();
    assert_eq!(epochs, 2, "an unnecessary epoch was begun");
}

/// A long reader of the log: a dump, or an export.
#[tokio::test(flavor = "multi_thread")]
async fn a_month_is_made_beside_a_long_reader_and_no_assignment_waits() {
    let world = World::new().await;
    world.insert_codes(200).await;
    let mut reader = world.pool().begin().await.unwrap();
    query("select count(*) from coupon_event").execute(&mut *reader).await.unwrap();
    let months = async {
        for ahead in 13..19 {
            let month = query_scalar("select coupon_event_make_month(now() + make_interval(months => $1))");
            let is_new: bool = month.bind(ahead).fetch_one(world.pool()).await.unwrap();
            assert!(is_new);
        }
    };
    let assignments = join_all((0..200).map(async |user| {
        let begun = Instant::now();
        world.run_batch(world.random(&format!("user-{user}"))).await.outcome.unwrap();
        begun.elapsed()
    }));
    let ((), times) = tokio::join!(months, assignments);
    let slowest = times.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(2), "an assignment took {slowest:?}");
    reader.rollback().await.unwrap();
    world.assert_invariants().await;
}

/// Invariant I-9.
#[tokio::test]
async fn a_month_that_cannot_be_made_now_stops_no_start_and_is_made_later() {
    let world = World::new().await;
    let months = "select count(*) from pg_inherits where inhparent = 'coupon_event'::regclass";
    let count = async || query_scalar::<_, i64>(months).fetch_one(world.pool()).await.unwrap();
    assert_eq!(count().await, 13);
    let last: String =
        query_scalar("select 'coupon_event_' || to_char(now() + interval '12 months', 'YYYY_MM')")
            .fetch_one(world.pool())
            .await
            .unwrap();
    query(AssertSqlSafe(format!("drop table {last}"))).execute(world.pool()).await.unwrap();
    let mut vacuum = world.pool().begin().await.unwrap();
    query("lock table coupon_event in share update exclusive mode").execute(&mut *vacuum).await.unwrap();
    world.store().open_event_log().await.unwrap();
    assert_eq!(count().await, 12);
    vacuum.rollback().await.unwrap();
    world.store().ensure_event_months().await.unwrap();
    assert_eq!(count().await, 13);
}
