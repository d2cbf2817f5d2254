//! The event log of an earlier version: its events are read with a cursor, and its partitions are all months.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cuponera_core::store::EventCursor;
use cuponera_testkit::{Dump, TestDatabase, eventually};
use sqlx::{query, query_scalar};
use uuid::Uuid;

/// Whether all indexes can be used, those of old partitions too.
const ALL_VALID: &str = "select not exists (select from pg_index where not indisvalid)";

async fn is(database: &TestDatabase, sql: &'static str) -> bool {
    query_scalar(sql).fetch_one(database.pool()).await.expect("no answer")
}

/// A clock that was wrong, or a server that nobody tended, left events in the default partition.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_the_default_partition_move_to_their_months() {
    for name in Dump::names() {
        let database = TestDatabase::from_dump(&Dump::read(&name)).await;
        query(
            "insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, actor)
             select gen_random_uuid(), now() + make_interval(months => months), gen_random_uuid(), gen_random_uuid(), 1, 1,
                    'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'late'
             from unnest(array[8, 8, 20]) months",
        )
        .execute(database.pool())
        .await
        .expect("inserting events failed");
        let count = async || {
            let count = query_scalar::<_, i64>("select count(*) from coupon_event");
            count.fetch_one(database.pool()).await.expect("no answer")
        };
        let before = count().await;
        database.store().migrate().await.expect("the migrations failed");
        assert_eq!(count().await, before);
        assert!(is(&database, "select to_regclass('coupon_event_rest') is null").await);
        let months = "select count(*) = 14 from pg_inherits where inhparent = 'coupon_event'::regclass
                        and substr(inhrelid::regclass::text, 14) >= to_char(now(), 'YYYY_MM')";
        assert!(is(&database, months).await, "{name}: there are not 13 months and the late one");
        // As a program of the version before does.
        query("select coupon_event_ensure_months(3)")
            .execute(database.pool())
            .await
            .expect("making months failed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_read_with_a_cursor_once_each() {
    for name in Dump::names() {
        let database = TestDatabase::from_dump(&Dump::read(&name)).await;
        database.store().migrate().await.expect("the migrations failed");
        database.store().open_event_log().await.expect("the event log cannot be opened");
        assert!(!is(&database, ALL_VALID).await, "the large indexes were built by the migrations");
        database.store().build_indexes().await.expect("the indexes cannot be built");
        assert!(is(&database, ALL_VALID).await);
        database.store().open_event_log().await.expect("the event log cannot be opened");
        let stored: Vec<Uuid> =
            query_scalar("select id from coupon_event").fetch_all(database.pool()).await.expect("no answer");
        let (mut cursor, mut read) = (EventCursor::default(), BTreeSet::new());
        // Until transactions of other databases of the server have ended, some events wait.
        eventually("the events to be read", async || {
            for event in database.store().events_after(cursor, 100).await.expect("reading failed") {
                assert!(event.cursor > cursor && read.insert(event.cursor.id), "{name}: {event:?}");
                cursor = event.cursor;
            }
            (read.len() >= stored.len()).then_some(())
        })
        .await;
        assert_eq!((read, cursor.epoch), (stored.into_iter().collect(), 1), "{name}");
    }
}

/// As beside a dump that reads the log for a long time: the migration waits for its end, and no call waits for the migration.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_waits_for_a_long_reader_makes_no_call_wait() {
    let database = TestDatabase::from_dump(&Dump::read("v0.1.0-0007")).await;
    let mut reader = database.pool().begin().await.expect("beginning failed");
    query("select count(*) from coupon_event").execute(&mut *reader).await.expect("reading failed");
    let beside = async {
        eventually("the migration to wait", async || {
            let waits = "select exists (select from pg_stat_activity
                           where datname = current_database() and wait_event in ('relation', 'PgSleep'))";
            is(&database, waits).await.then_some(())
        })
        .await;
        for _ in 0..25 {
            let begun = Instant::now();
            query(
                "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, actor)
                 values (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 1, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'x')",
            )
            .execute(database.pool())
            .await
            .expect("an event cannot be written");
            assert!(begun.elapsed() < Duration::from_secs(1), "an event took {:?}", begun.elapsed());
        }
        assert!(
            is(&database, "select to_regclass('event_epoch') is null").await,
            "the migration did not wait"
        );
        reader.rollback().await.expect("rolling back failed");
    };
    let (migrated, ()) = tokio::join!(database.store().migrate(), beside);
    migrated.expect("the migrations failed");
}
