//! Lists of events, newest first: the filters against a plain query, and their cost in a long log.

use chrono::{DateTime, TimeDelta, Utc};
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::page::Page;
use cuponera_domain::time_range::TimeRange;
use cuponera_store::{EventCursor, EventFilter, LoggedEvent, MAX_EVENTS_EXAMINED, Result};
use cuponera_testkit::{World, is_soak, rules};
use sqlx::{query, query_as, query_scalar};
use uuid::Uuid;

use super::{LIMIT, follow, touched, world_with_old_statistics};

/// Maximum blocks of a page: those of 10,000 events, their index, and the search for a time in 13 partitions.
const MAX_BLOCKS: i64 = 3_000;
const EVENT_BLOCKS: &str = "select sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                            from pg_statio_user_tables where relname like 'coupon_event_2%'";

/// A row of the plain query.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    id: Uuid,
    business_id: Uuid,
    book_id: Uuid,
    user_id: Option<String>,
    action: String,
    actor: String,
    at: DateTime<Utc>,
}

/// All events, newest first.
async fn rows(world: &World) -> Vec<Row> {
    let all = "select id, business_id, book_id, user_id, action, actor, at from coupon_event order by epoch desc, tx desc, id desc";
    query_as(all).fetch_all(world.pool()).await.unwrap()
}

fn expected(rows: &[Row], business: BusinessId, filter: &EventFilter) -> Vec<Uuid> {
    let is_found = |row: &&Row| {
        row.business_id == business.0
            && filter.books.as_ref().is_none_or(|books| books.contains(&BookId(row.book_id)))
            && (filter.user.is_none() || filter.user == row.user_id)
            && filter.action.as_ref().is_none_or(|action| *action == row.action)
            && filter.actor.as_ref().is_none_or(|actor| *actor == row.actor)
            && filter.range.contains(Some(row.at))
    };
    rows.iter().filter(is_found).map(|row| row.id).collect()
}

async fn page(world: &World, filter: &EventFilter, cursor: Option<String>) -> Result<Page<LoggedEvent>> {
    let before = cursor.map(|cursor| cursor.parse::<EventCursor>().unwrap());
    world.store().list_events(world.business, &EventFilter { before, ..filter.clone() }, LIMIT).await
}

async fn listed(world: &World, filter: &EventFilter) -> (Vec<LoggedEvent>, usize) {
    follow(async |cursor| page(world, filter, cursor).await, async |_| {}).await
}

#[tokio::test]
async fn each_filter_of_events_lists_what_a_plain_query_finds() {
    let world = World::new().await;
    let other = world.another_book(&rules()).await;
    for (book, prefix) in [(world.book, "C"), (other, "D")] {
        for (number, code) in world.insert_codes_into(book, prefix, 40).await.iter().enumerate() {
            let user = format!("user-{}", number % 5);
            world.give(code, &user).await;
            world.locked(code, &user).await;
            if number % 2 == 0 {
                world.run_batch(world.redeem(code, &user)).await.outcome.unwrap();
            }
        }
    }
    let elsewhere = world.another_business().await;
    query("update coupon_event set business_id = $1 where id in (select id from coupon_event order by id limit 20)")
        .bind(elsewhere.0)
        .execute(world.pool())
        .await
        .unwrap();
    let all = rows(&world).await;
    let middle = Some(all[all.len() / 2].at);
    let range = |from, to| TimeRange { from, to };
    let text = |text: &str| Some(text.to_owned());
    let ranges = [range(None, None), range(middle, None), range(None, middle), range(middle, middle)];
    for range in ranges {
        for books in [None, Some(vec![world.book]), Some(vec![world.book, other]), Some(vec![])] {
            for (user, action) in [
                (None, None),
                (text("user-3"), None),
                (None, text("REDEEM")),
                (text("user-2"), text("LOCK")),
                (text("nobody"), None),
            ] {
                for actor in [None, text("service:test"), text("sweep")] {
                    let (user, action, books) = (user.clone(), action.clone(), books.clone());
                    let filter = EventFilter { books, user, action, actor, range, before: None };
                    let (events, _) = listed(&world, &filter).await;
                    let ids: Vec<Uuid> = events.iter().map(|event| event.event.id.0).collect();
                    assert_eq!(ids, expected(&all, world.business, &filter), "{filter:?}");
                    assert!(events.iter().all(|event| filter.matches(event)), "{filter:?}");
                }
            }
        }
    }
    let (events, _) = listed(&world, &EventFilter::default()).await;
    assert!(events.iter().all(|event| event.code.is_some()), "an event has no code");
}

/// Plants events, from now on, at most 300 seconds in each transaction. Only the first one is by `rare`. Returns the time of the
/// first and of the last.
async fn plant(world: &World, count: i64) -> (DateTime<Utc>, DateTime<Utc>) {
    let end: i64 = query_scalar("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 10")
        .fetch_one(world.pool())
        .await
        .unwrap();
    let (in_each, now) = (count / end + 1, Utc::now());
    for start in (0..count).step_by(1_000_000) {
        query(
            "insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, actor, tx)
             select gen_random_uuid(), $7 + n * make_interval(secs => least(300.0 / $4, 20, 25000000.0 / $3)), $1, $2, n::int, 1,
                    'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'ana', case when n = 0 then 'rare' else 'often' end, (3 + n / $4)::text::xid8
             from generate_series($5, $6 - 1) n",
        )
        .bind(world.business.0)
        .bind(world.book.0)
        .bind(count)
        .bind(in_each)
        .bind(start)
        .bind(count.min(start + 1_000_000))
        .bind(now)
        .execute(world.pool())
        .await
        .unwrap();
    }
    query("update event_epoch set ordered_from = '1'").execute(world.pool()).await.unwrap();
    query("vacuum coupon_event").execute(world.pool()).await.unwrap();
    query_as("select min(at), max(at) from coupon_event").fetch_one(world.pool()).await.unwrap()
}

/// Invariant I-60.
#[tokio::test]
async fn a_page_of_events_reads_few_blocks_whatever_the_filter() {
    let large = if is_soak() { 10_000_000 } else { 200_000 };
    for count in [10_000, large] {
        let mut world = world_with_old_statistics(async |_| {}).await;
        let (first, last) = plant(&world, count).await;
        let range = |from, to| TimeRange { from, to };
        let empty = world.another_book(&rules()).await;
        let by = |actor: &str| EventFilter { actor: Some(actor.to_owned()), ..EventFilter::default() };
        let within = |range| EventFilter { range, ..EventFilter::default() };
        let early = first + (last - first) / 10;
        for filter in [
            EventFilter::default(),
            by("rare"),
            by("nobody"),
            EventFilter { user: Some("nobody".to_owned()), ..EventFilter::default() },
            EventFilter { books: Some(vec![empty]), ..EventFilter::default() },
            within(range(Some(last + TimeDelta::days(1)), None)),
            within(range(None, Some(early))),
            within(range(None, Some(first - TimeDelta::days(1)))),
            EventFilter { range: range(Some(early), Some(early + TimeDelta::seconds(1))), ..by("nobody") },
        ] {
            let blocks = touched(&mut world, EVENT_BLOCKS, async |world| {
                page(world, &filter, None).await.unwrap();
            })
            .await;
            assert!(blocks < MAX_BLOCKS, "{filter:?} of {count} events read {blocks} blocks");
        }
        if count > 1_000_000 {
            continue;
        }
        world.database.count_anew().await;
        let (found, pages) = listed(&world, &by("rare")).await;
        assert_eq!(found.len(), 1);
        assert!(
            i64::try_from(pages).unwrap() >= count / MAX_EVENTS_EXAMINED,
            "{pages} pages examined {count} events"
        );
    }
}

/// Of each 5,000 events one belongs to the business of the list.
#[tokio::test]
async fn no_cursor_names_an_event_of_another_business_and_each_own_event_is_listed_once() {
    let world = world_with_old_statistics(async |_| {}).await;
    plant(&world, 25_000).await;
    let another = world.another_business().await;
    query("update coupon_event set business_id = $1 where position % 5000 <> 7")
        .bind(another.0)
        .execute(world.pool())
        .await
        .unwrap();
    let own = async |cursor: &str| {
        let id = cursor.parse::<EventCursor>().unwrap().id;
        let foreign: i64 =
            query_scalar("select count(*) from coupon_event where id = $1 and business_id = $2")
                .bind(id)
                .bind(another.0)
                .fetch_one(world.pool())
                .await
                .unwrap();
        assert_eq!(foreign, 0, "a cursor names an event of another business");
    };
    let filter = EventFilter::default();
    let (events, pages) = follow(async |cursor| page(&world, &filter, cursor).await, own).await;
    let ids: Vec<Uuid> = events.iter().map(|event| event.event.id.0).collect();
    assert_eq!(ids, expected(&rows(&world).await, world.business, &filter));
    assert_eq!((ids.len(), pages > 1), (5, true));
    // All events of one transaction.
    query("update coupon_event set tx = '5'").execute(world.pool()).await.unwrap();
    let (events, _) = listed(&world, &filter).await;
    let ids: Vec<Uuid> = events.iter().map(|event| event.event.id.0).collect();
    assert_eq!(ids, expected(&rows(&world).await, world.business, &filter));
}

/// The start of the list is searched, and its end is known, so that few other events are examined.
#[tokio::test]
async fn a_short_range_in_a_long_log_is_listed_in_few_pages_and_whole() {
    let world = world_with_old_statistics(async |_| {}).await;
    let (first, last) = plant(&world, 100_000).await;
    let all = rows(&world).await;
    for part in [3, 10, 50, 97] {
        let from = first + (last - first) * part / 100;
        for length in [TimeDelta::seconds(1), (last - first) / 1_000] {
            let range = TimeRange { from: Some(from), to: Some(from + length) };
            let filter = EventFilter { range, ..EventFilter::default() };
            let (events, pages) = listed(&world, &filter).await;
            let ids: Vec<Uuid> = events.iter().map(|event| event.event.id.0).collect();
            assert_eq!(ids, expected(&all, world.business, &filter), "{range:?}");
            let most = ids.len() / LIMIT as usize + 4;
            assert!(pages <= most, "{pages} pages for {} of 100,000 events", ids.len());
        }
    }
}

/// An event has the time of the beginning of its transaction, and in the log the place of its first write.
#[tokio::test]
async fn an_event_that_was_written_minutes_after_its_time_is_listed_at_its_time_and_hides_no_other() {
    let world = world_with_old_statistics(async |_| {}).await;
    let (begin, _) = plant(&world, 25_000).await;
    // In twenty minutes, so that nine minutes are many more transactions than those to which a search is exact.
    query("update coupon_event set at = $1 + position * interval '50 ms'")
        .bind(begin)
        .execute(world.pool())
        .await
        .unwrap();
    let newest_first = rows(&world).await;
    // The last event that a page examines, and the one after it.
    let last = usize::try_from(MAX_EVENTS_EXAMINED).unwrap() - 1;
    let (late, next) = (newest_first[last].clone(), newest_first[last + 1].clone());
    let (written, began) = (late.at, late.at - TimeDelta::minutes(9));
    query("update coupon_event set at = case id when $1 then $3 else at end, actor = 'rare' where id in ($1, $2)")
        .bind(late.id)
        .bind(next.id)
        .bind(began)
        .execute(world.pool())
        .await
        .unwrap();
    let all = rows(&world).await;
    let second = TimeDelta::seconds(1);
    for (range, actor, found) in [
        (TimeRange { from: Some(began), to: Some(began + second) }, None, late.id),
        (TimeRange { from: Some(next.at.min(written) - second), to: None }, Some("rare".to_owned()), next.id),
    ] {
        let filter = EventFilter { range, actor, ..EventFilter::default() };
        let ids: Vec<Uuid> = listed(&world, &filter).await.0.iter().map(|event| event.event.id.0).collect();
        assert!(ids.contains(&found), "{filter:?}");
        assert_eq!(ids, expected(&all, world.business, &filter), "{filter:?}");
    }
}

#[tokio::test]
async fn without_its_index_a_list_of_events_is_unavailable_and_reads_nothing() {
    let world = World::new().await;
    query("update pg_index set indisvalid = false where indexrelid = 'coupon_event_cursor'::regclass")
        .execute(world.pool())
        .await
        .unwrap();
    let refused = page(&world, &EventFilter::default(), None).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused:?}");
}
