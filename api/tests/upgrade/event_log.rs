//! The event log of an earlier version: its events are read with a cursor, and each partition is a month.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cuponera_store::EventCursor;
use cuponera_testkit::{Dump, TestDatabase, eventually};
use sqlx::{query, query_scalar};
use uuid::Uuid;

/// Whether all indexes are valid, those of old partitions included.
const ALL_VALID: &str = "select not exists (select from pg_index where not indisvalid)";

async fn is(database: &TestDatabase, sql: &'static str) -> bool {
    query_scalar(sql).fetch_one(database.pool()).await.expect("the query failed")
}

/// A wrong clock, or a server without maintenance, left events in the default partition.
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
            count.fetch_one(database.pool()).await.expect("the query failed")
        };
        let before = count().await;
        database.store().migrate().await.expect("a migration failed");
        assert_eq!(count().await, before);
        assert!(is(&database, "select to_regclass('coupon_event_rest') is null").await);
        let months = "select count(*) = 14 from pg_inherits where inhparent = 'coupon_event'::regclass
                        and substr(inhrelid::regclass::text, 14) >= to_char(now(), 'YYYY_MM')";
        assert!(is(&database, months).await, "{name}: the partitions are not 13 months and the late one");
        // The previous version calls this.
        query("select coupon_event_ensure_months(3)")
            .execute(database.pool())
            .await
            .expect("cannot create months");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_read_with_a_cursor_once_each() {
    for name in Dump::names() {
        let database = TestDatabase::from_dump(&Dump::read(&name)).await;
        database.store().migrate().await.expect("a migration failed");
        database.store().open_event_log().await.expect("cannot open the event log");
        assert!(!is(&database, ALL_VALID).await, "the migrations built the large indexes");
        database.store().build_indexes().await.expect("cannot build the indexes");
        assert!(is(&database, ALL_VALID).await);
        database.store().open_event_log().await.expect("cannot open the event log");
        let stored: Vec<Uuid> = query_scalar("select id from coupon_event")
            .fetch_all(database.pool())
            .await
            .expect("the query failed");
        let (mut cursor, mut read) = (EventCursor::default(), BTreeSet::new());
        // Events wait until older transactions in other databases of the server have ended.
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

/// The reader is like a long dump of the log: the migration waits for it, and no call waits for the migration.
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
            .expect("cannot write an event");
            assert!(begun.elapsed() < Duration::from_secs(1), "an event took {:?}", begun.elapsed());
        }
        assert!(
            is(&database, "select to_regclass('event_epoch') is null").await,
            "the migration did not wait"
        );
        reader.rollback().await.expect("rolling back failed");
    };
    let (migrated, ()) = tokio::join!(database.store().migrate(), beside);
    migrated.expect("a migration failed");
}
