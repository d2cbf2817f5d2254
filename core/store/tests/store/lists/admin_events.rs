//! Lists of admin events, newest first: the filters against a plain query, and their cost in a long log.

use chrono::{DateTime, TimeDelta, Utc};
use cuponera_domain::page::Page;
use cuponera_domain::time_range::TimeRange;
use cuponera_store::{AdminEvent, AdminEventFilter, EventCursor, MAX_ADMIN_EVENTS_EXAMINED, Result};
use cuponera_testkit::World;
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::{LIMIT, follow, touched, world_with_old_statistics};

/// Maximum blocks of a page: those of 2,000 events in different blocks, their index, and the search for a time.
const MAX_BLOCKS: i64 = 2_600;
const EVENT_BLOCKS: &str = "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                            from pg_statio_user_tables where relname = 'admin_event'";

async fn page(world: &World, filter: &AdminEventFilter, cursor: Option<String>) -> Result<Page<AdminEvent>> {
    let before = cursor.map(|cursor| cursor.parse::<EventCursor>().unwrap());
    let filter = AdminEventFilter { before, ..filter.clone() };
    world.store().list_admin_events(world.business, &filter, LIMIT).await
}

async fn listed(world: &World, filter: &AdminEventFilter) -> (Vec<Uuid>, usize) {
    let (events, pages) = follow(async |cursor| page(world, filter, cursor).await, async |_| {}).await;
    (events.into_iter().map(|event| event.cursor.id).collect(), pages)
}

/// Plants events of ten transactions, ten seconds apart, up to now. Of 30 events one belongs to the business; the first one of it is by
/// `rare`. Returns the time of the first and of the last.
async fn plant(world: &World, count: i64) -> (DateTime<Utc>, DateTime<Utc>) {
    query("delete from admin_event").execute(world.pool()).await.unwrap();
    query(
        "insert into admin_event (at, business_id, subject, subject_id, action, actor, tx)
         select now() - ($3 - n) * interval '10 s', case n % 30 when 0 then $1 else $2 end, 'BOOK', n, 'UPDATE',
                case when n = 0 then 'rare' else 'often' end, (3 + n * 600 / $3)::text::xid8
         from generate_series(0, $3 - 1) n",
    )
    .bind(world.business.0)
    .bind(world.another_business().await.0)
    .bind(count)
    .execute(world.pool())
    .await
    .unwrap();
    query("update event_epoch set ordered_from = '1'").execute(world.pool()).await.unwrap();
    query("vacuum admin_event").execute(world.pool()).await.unwrap();
    query_as("select min(at), max(at) from admin_event").fetch_one(world.pool()).await.unwrap()
}

#[tokio::test]
async fn each_filter_of_admin_events_lists_what_a_plain_query_finds() {
    let world = World::new().await;
    for end in ["", " and n > 100"] {
        let (first, last) = plant(&world, 600).await;
        query(sqlx::AssertSqlSafe(format!("update admin_event set actor = 'other' from generate_series(0, 600) n where subject_id = n::text and n % 60 = 0{end}")))
            .execute(world.pool())
            .await
            .unwrap();
        query("update admin_event set subject = 'JOB', action = 'FAIL' from generate_series(0, 600) n where subject_id = n::text and n % 90 = 0")
            .execute(world.pool())
            .await
            .unwrap();
        let middle = first + (last - first) / 2;
        let of = |subject: Option<&str>, id: Option<&str>, action: Option<&str>| AdminEventFilter {
            subject: subject.map(str::to_owned),
            subject_id: id.map(str::to_owned),
            action: action.map(str::to_owned),
            ..AdminEventFilter::default()
        };
        for filter in [
            of(Some("JOB"), None, None),
            of(None, Some("90"), None),
            of(None, None, Some("UPDATE")),
            of(Some("BOOK"), Some("60"), Some("UPDATE")),
            of(Some("JOB"), None, Some("UPDATE")),
        ] {
            let expected: Vec<Uuid> = query_scalar(
                "select id from admin_event where business_id = $1 and subject = coalesce($2, subject)
                   and subject_id = coalesce($3, subject_id) and action = coalesce($4, action) order by epoch desc, tx desc, id desc",
            )
            .bind(world.business.0)
            .bind(&filter.subject)
            .bind(&filter.subject_id)
            .bind(&filter.action)
            .fetch_all(world.pool())
            .await
            .unwrap();
            assert_eq!(listed(&world, &filter).await.0, expected, "{filter:?}");
        }
        for actor in [None, Some("often"), Some("other"), Some("nobody")] {
            for (from, to) in [
                (None, None),
                (Some(middle), None),
                (None, Some(middle)),
                (Some(first), Some(middle)),
                (Some(last), Some(last)),
            ] {
                let (actor, range) = (actor.map(str::to_owned), TimeRange { from, to });
                let filter = AdminEventFilter { actor: actor.clone(), range, ..AdminEventFilter::default() };
                let rows: Vec<(Uuid, String, DateTime<Utc>)> = query_as(
                    "select id, actor, at from admin_event where business_id = $1 order by epoch desc, tx desc, id desc",
                )
                .bind(world.business.0)
                .fetch_all(world.pool())
                .await
                .unwrap();
                let is_found = |(_, by, at): &&(Uuid, String, DateTime<Utc>)| {
                    actor.as_ref().is_none_or(|actor| actor == by) && range.contains(Some(*at))
                };
                let expected: Vec<Uuid> = rows.iter().filter(is_found).map(|row| row.0).collect();
                assert_eq!(listed(&world, &filter).await.0, expected, "{filter:?}");
            }
        }
    }
}

/// Invariant I-60.
#[tokio::test]
async fn a_page_of_admin_events_reads_few_blocks_whatever_the_filter() {
    let mut world = world_with_old_statistics(async |world| {
        let off = "alter table admin_event set (autovacuum_enabled = off)";
        query(off).execute(world.pool()).await.unwrap();
    })
    .await;
    let count = MAX_ADMIN_EVENTS_EXAMINED * 30 * 3;
    let (first, last) = plant(&world, count).await;
    let by = |actor: &str| AdminEventFilter { actor: Some(actor.to_owned()), ..AdminEventFilter::default() };
    let within = |from, to| AdminEventFilter { range: TimeRange { from, to }, ..AdminEventFilter::default() };
    for filter in [
        AdminEventFilter::default(),
        by("rare"),
        by("nobody"),
        within(Some(last + TimeDelta::days(1)), None),
        within(None, Some(first + (last - first) / 10)),
        within(None, Some(first - TimeDelta::days(1))),
    ] {
        let blocks = touched(&mut world, EVENT_BLOCKS, async |world| {
            page(world, &filter, None).await.unwrap();
        })
        .await;
        assert!(blocks < MAX_BLOCKS, "{filter:?} of {count} events read {blocks} blocks");
    }
    world.database.count_anew().await;
    let (found, pages) = listed(&world, &by("rare")).await;
    assert_eq!((found.len(), pages), (1, 4));
}

/// An event has the time of the beginning of its transaction, and in the log the place of its first write.
#[tokio::test]
async fn an_admin_event_that_was_written_minutes_after_its_time_is_listed_at_its_time_and_hides_no_other() {
    let world = World::new().await;
    let count = MAX_ADMIN_EVENTS_EXAMINED * 30 * 3 / 2;
    let (begin, _) = plant(&world, count).await;
    // In an hour, so that ten minutes are more transactions than those to which a search is exact.
    query("update admin_event set at = $1 + subject_id::int * interval '1 hour' / $2")
        .bind(begin)
        .bind(count)
        .execute(world.pool())
        .await
        .unwrap();
    let own = "select id, at from admin_event where business_id = $1 order by epoch desc, tx desc, id desc";
    let newest_first: Vec<(Uuid, DateTime<Utc>)> =
        query_as(own).bind(world.business.0).fetch_all(world.pool()).await.unwrap();
    // The last event that a page examines, and the one after it.
    let last = usize::try_from(MAX_ADMIN_EVENTS_EXAMINED).unwrap() - 1;
    let ((late, written), (next, next_at)) = (newest_first[last], newest_first[last + 1]);
    let began = written - TimeDelta::seconds(590);
    query("update admin_event set at = case id when $1 then $3 else at end, actor = 'late' where id in ($1, $2)")
        .bind(late)
        .bind(next)
        .bind(began)
        .execute(world.pool())
        .await
        .unwrap();
    let of = |from, to| AdminEventFilter {
        actor: Some("late".to_owned()),
        range: TimeRange { from: Some(from), to },
        ..AdminEventFilter::default()
    };
    let to_the_second = of(began, Some(began + TimeDelta::seconds(1)));
    assert_eq!(listed(&world, &to_the_second).await.0, [late]);
    assert_eq!(listed(&world, &of(next_at.min(written) - TimeDelta::seconds(1), None)).await.0, [next]);
}
