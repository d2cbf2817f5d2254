//! Lists: the cost of a page does not depend on the filter, the number of rows or the statistics, and following the
//! cursors returns each row once.

mod admin_events;
mod books;
mod callers;
mod events;
mod filters;

use cuponera_domain::coupon::state::{Coupon, CouponStatus};
use cuponera_domain::id::JobId;
use cuponera_domain::job::{JobKind, JobStatus};
use cuponera_domain::page::Page;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{
    CodeFilter, Error, HeldFilter, JobFilter, MAX_FREE_POSITIONS_EXAMINED, MAX_JOBS_EXAMINED,
    MAX_NEIGHBORS_EXAMINED, MAX_SCATTERED_EXAMINED, Result,
};
use cuponera_testkit::{World, rules};
use sqlx::{AssertSqlSafe, query};

/// Codes of the book: four times as many as a page may examine.
const CODES: i32 = 40_000;
/// The holder `shop` has this many of them, from the first on.
const HELD: i32 = 30_000;
/// Statuses that only one code has, with the position of that code. `shop` holds it.
const RARE: [(CouponStatus, i32); 3] =
    [(CouponStatus::Locked, HELD - 3), (CouponStatus::Void, HELD - 2), (CouponStatus::Redeemed, HELD - 1)];
const LIMIT: u32 = 10;
/// Maximum blocks, index included, of a page that examines 10,000 codes by position. All 40,000 have four times as
/// many.
const MAX_NEIGHBORS_BLOCKS: i64 = 1_000;
/// Maximum blocks, index included, of a page that examines 2,000 codes by code or holder. In this table they are
/// adjacent too.
const MAX_SCATTERED_BLOCKS: i64 = 300;

const COUPON_BLOCKS: &str = "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                             from pg_statio_user_tables where relname = 'coupon'";
const JOB_BLOCKS: &str = "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                          from pg_statio_user_tables where relname = 'job'";

/// A world whose statistics contain only the rows that `before` inserts.
async fn world_with_old_statistics(before: impl AsyncFnOnce(&World)) -> World {
    let world = World::new().await;
    for table in ["coupon", "job", "coupon_book", "book_delta"] {
        let off = format!("alter table {table} set (autovacuum_enabled = off)");
        query(AssertSqlSafe(off)).execute(world.pool()).await.unwrap();
    }
    before(&world).await;
    query("analyze").execute(world.pool()).await.unwrap();
    world
}

/// A world whose book has [`CODES`] codes, of which `shop` holds the first [`HELD`]. The statistics contain only
/// another book, in which each code has a different holder.
async fn world_of_many_codes() -> World {
    let world = world_with_old_statistics(async |world| {
        let old = world.another_book(&rules()).await;
        world.insert_codes_into(old, "OLD", CODES / 20).await;
        let give = "update coupon set status = 'ASSIGNED', holder = 'u' || position, assignment_id = gen_random_uuid(),
                                      assigned_at = now()";
        query(give).execute(world.pool()).await.unwrap();
    })
    .await;
    world.insert_codes(CODES).await;
    query(
        "update coupon set status = 'ASSIGNED', holder = 'shop', assignment_id = gen_random_uuid(),
                           assigned_at = now() + position * interval '1 ms' where book_id = $1 and position < $2",
    )
    .bind(world.book.0)
    .bind(HELD)
    .execute(world.pool())
    .await
    .unwrap();
    query("insert into book_delta (book_id, available, assigned) values ($1, -$2, $2)")
        .bind(world.book.0)
        .bind(HELD)
        .execute(world.pool())
        .await
        .unwrap();
    for (status, position) in RARE {
        turn(&world, position, status).await;
    }
    // Without the vacuum the indexes also contain the old row versions, which are in other blocks than the new ones.
    query("vacuum coupon").execute(world.pool()).await.unwrap();
    world
}

/// Changes the status of a code of `shop` with plain SQL.
async fn turn(world: &World, position: i32, status: CouponStatus) {
    query(
        "with turned as (
           update coupon set status = $3::coupon_status, redeem_count = ($3 = 'REDEEMED')::int,
                             lock_id = case when $3 = 'LOCKED' then gen_random_uuid() end,
                             locked_at = case when $3 = 'LOCKED' then now() end,
                             locked_until = case when $3 = 'LOCKED' then now() + interval '1 day' end
           where book_id = $1 and position = $2 returning book_id)
         insert into book_delta (book_id, assigned, locked, redeemed, void)
         select book_id, -1, ($3 = 'LOCKED')::int, ($3 = 'REDEEMED')::int, ($3 = 'VOID')::int from turned",
    )
    .bind(world.book.0)
    .bind(position)
    .bind(status.as_str())
    .execute(world.pool())
    .await
    .unwrap();
}

/// The blocks that a call reads, counted by the statement `blocks`.
async fn touched(world: &mut World, blocks: &'static str, ask: impl AsyncFnOnce(&World)) -> i64 {
    world.database.count_anew().await;
    ask(world).await;
    world.database.close_and_ask(blocks).await
}

/// Follows the cursors; returns all items and the number of pages. `between` runs before each page except the first.
async fn follow<T>(
    mut page_after: impl AsyncFnMut(Option<String>) -> Result<Page<T>>,
    mut between: impl AsyncFnMut(&str),
) -> (Vec<T>, usize) {
    let (mut items, mut pages) = (Vec::new(), 0);
    let mut cursor = None;
    loop {
        let page = page_after(cursor.take()).await.unwrap();
        assert!(page.items.len() <= LIMIT as usize);
        items.extend(page.items);
        pages += 1;
        match page.next_cursor {
            None => return (items, pages),
            Some(next) => {
                between(&next).await;
                cursor = Some(next);
            }
        }
    }
}

async fn codes(world: &World, filter: CodeFilter) -> Result<Page<Coupon>> {
    let book = world.store().get_book(world.business, world.book).await?;
    world.store().list_codes(&book, &filter, LIMIT).await
}

/// All pairs of a status and a prefix.
fn filters() -> impl Iterator<Item = (Option<CouponStatus>, Option<String>)> {
    let statuses = CouponStatus::ALL.into_iter().rev().map(Some).chain([None]);
    statuses.flat_map(|status| [None, Some("C0".to_owned())].map(|prefix| (status, prefix)))
}

fn held_after(cursor: Option<String>) -> Option<(chrono::DateTime<chrono::Utc>, String)> {
    let cursor = cursor?;
    let (micros, code) = cursor.split_once('.').unwrap();
    Some((chrono::DateTime::from_timestamp_micros(micros.parse().unwrap()).unwrap(), code.to_owned()))
}

/// Invariant I-15.
#[tokio::test]
async fn a_page_of_codes_touches_few_blocks_whatever_the_filter() {
    let mut world = world_of_many_codes().await;
    for (status, prefix) in filters() {
        let filter = CodeFilter { status, prefix, ..CodeFilter::default() };
        let blocks = touched(&mut world, COUPON_BLOCKS, async |world| {
            codes(world, filter.clone()).await.unwrap();
        })
        .await;
        let bound = if filter.prefix.is_some() { MAX_SCATTERED_BLOCKS } else { MAX_NEIGHBORS_BLOCKS };
        assert!(blocks < bound, "{filter:?} read {blocks} blocks");
    }
}

#[tokio::test]
async fn a_page_of_a_users_coupons_touches_few_blocks_whatever_the_filter() {
    let mut world = world_of_many_codes().await;
    let empty = world.another_book(&rules()).await;
    for status in [None].into_iter().chain(CouponStatus::ALL.map(Some)) {
        for book in [None, Some(world.book), Some(empty)] {
            let filter = HeldFilter { book, status, after: None };
            let blocks = touched(&mut world, COUPON_BLOCKS, async |world| {
                world.store().list_held(world.business, "shop", &filter, LIMIT).await.unwrap();
            })
            .await;
            assert!(blocks < MAX_SCATTERED_BLOCKS, "{filter:?} read {blocks} blocks");
        }
    }
}

/// The code at each cursor changes its status before the next page is read.
#[tokio::test]
async fn cursors_lead_to_each_code_once_while_codes_change() {
    let world = world_of_many_codes().await;
    for (status, position) in RARE {
        for prefix in [None, Some("C0".to_owned())] {
            let bound = if prefix.is_some() { MAX_SCATTERED_EXAMINED } else { MAX_NEIGHBORS_EXAMINED };
            let page_after = async |after: Option<String>| {
                codes(
                    &world,
                    CodeFilter {
                        status: Some(status),
                        prefix: prefix.clone(),
                        after,
                        ..CodeFilter::default()
                    },
                )
                .await
            };
            let (found, pages) = follow(page_after, async |cursor| take_back(&world, cursor).await).await;
            let found: Vec<_> = found.into_iter().map(|coupon| (coupon.code, coupon.status)).collect();
            assert_eq!(found, [(format!("C{position:06}"), status)], "{prefix:?}");
            let least = usize::try_from(i64::from(HELD) / bound).unwrap();
            assert!(pages > least, "{pages} pages examined {CODES} codes");
        }
    }
}

/// Frees a code with plain SQL.
async fn take_back(world: &World, code: &str) {
    query(
        "update coupon set status = 'AVAILABLE', holder = null, assignment_id = null, assigned_at = null
         where code = $1 and status = 'ASSIGNED'",
    )
    .bind(code)
    .execute(world.pool())
    .await
    .unwrap();
}

#[tokio::test]
async fn cursors_of_all_codes_and_of_free_codes_lead_to_each_once_and_in_order() {
    let world = World::new().await;
    let planted = world.insert_codes(25).await;
    world.give("C000003", "ana").await;
    let listed = async |status, prefix: Option<&str>| {
        let prefix = prefix.map(str::to_owned);
        let page_after = async |after| {
            codes(&world, CodeFilter { status, prefix: prefix.clone(), after, ..CodeFilter::default() }).await
        };
        let (items, _) = follow(page_after, async |_| {}).await;
        items.into_iter().map(|coupon| coupon.code).collect::<Vec<_>>()
    };
    let free: Vec<_> = planted.iter().filter(|code| *code != "C000003").cloned().collect();
    for prefix in [None, Some("C")] {
        assert_eq!(listed(None, prefix).await, planted);
        assert_eq!(listed(Some(CouponStatus::Available), prefix).await, free);
    }
    assert_eq!(listed(None, Some("C00001")).await, planted[10..20]);
}

/// Its position in the list is unknown.
#[tokio::test]
async fn a_cursor_whose_code_the_book_does_not_have_is_rejected() {
    let world = World::new().await;
    world.insert_codes(3).await;
    let other = world.another_book(&rules()).await;
    world.insert_codes_into(other, "OTHER", 1).await;
    world.give("C000002", "ana").await;
    for status in [None, Some(CouponStatus::Available), Some(CouponStatus::Assigned)] {
        let after = async |code: &str| {
            codes(&world, CodeFilter { status, after: Some(code.to_owned()), ..CodeFilter::default() }).await
        };
        for code in ["NONE", "OTHER000000"] {
            let rejected = after(code).await.unwrap_err();
            assert!(
                matches!(&rejected, Error::Rejected(Rejection::Invalid { faults }) if faults[0].field == "cursor"),
                "{status:?}: {rejected:?}"
            );
        }
        assert_eq!(after("C000002").await.unwrap().items, [], "the end of the list");
    }
}

#[tokio::test]
async fn free_codes_are_found_span_by_span_where_many_were_given_out() {
    let world = World::new().await;
    world.insert_codes(6).await;
    // The first three codes are assigned. Free: the last code of a span, the first of the next span, and one after a
    // gap.
    let past = MAX_FREE_POSITIONS_EXAMINED;
    for (number, position) in [0, 1, 2, past - 1, past, 5 * past].into_iter().enumerate() {
        query("update coupon set position = $2 where code = $1")
            .bind(format!("C{number:06}"))
            .bind(position)
            .execute(world.pool())
            .await
            .unwrap();
    }
    for code in ["C000000", "C000001", "C000002"] {
        world.give(code, "ana").await;
    }
    let page_after = async |after| {
        codes(&world, CodeFilter { status: Some(CouponStatus::Available), after, ..CodeFilter::default() })
            .await
    };
    let (found, pages) = follow(page_after, async |_| {}).await;
    let found: Vec<_> = found.into_iter().map(|coupon| coupon.code).collect();
    assert_eq!((found, pages), (["C000003", "C000004", "C000005"].map(str::to_owned).to_vec(), 3));
}

#[tokio::test]
async fn cursors_lead_to_each_coupon_of_a_user_once_while_coupons_change() {
    let world = world_of_many_codes().await;
    let empty = world.another_book(&rules()).await;
    for (status, position) in RARE {
        for (book, expected) in
            [(None, Some(position)), (Some(world.book), Some(position)), (Some(empty), None)]
        {
            let page_after = async |cursor| {
                let filter = HeldFilter { book, status: Some(status), after: held_after(cursor) };
                let page = world.store().list_held(world.business, "shop", &filter, LIMIT).await;
                page.map(|page| page.map(|of_user| of_user.coupon))
            };
            let at_cursor = async |cursor: &str| take_back(&world, cursor.split_once('.').unwrap().1).await;
            let (found, pages) = follow(page_after, at_cursor).await;
            let found: Vec<_> = found.into_iter().map(|coupon| coupon.code).collect();
            assert_eq!(found, Vec::from_iter(expected.map(|position| format!("C{position:06}"))));
            assert!(pages > 10, "{pages} pages examined {HELD} coupons");
        }
    }
}

#[tokio::test]
async fn a_state_that_no_code_has_is_an_empty_list_that_reads_no_code() {
    let mut world = World::new().await;
    world.insert_codes(CODES).await;
    for status in CouponStatus::ALL.into_iter().filter(|status| *status != CouponStatus::Available) {
        for prefix in [None, Some("C".to_owned())] {
            let blocks = touched(&mut world, COUPON_BLOCKS, async |world| {
                let page = codes(
                    world,
                    CodeFilter { status: Some(status), prefix: prefix.clone(), ..CodeFilter::default() },
                )
                .await
                .unwrap();
                assert_eq!((page.items.len(), page.next_cursor), (0, None));
            })
            .await;
            assert_eq!(blocks, 0, "{status:?}");
        }
    }
}

/// Until its `EXPIRE` event is recorded, the counts include it as a locked code.
#[tokio::test]
async fn a_code_whose_lock_has_lapsed_is_listed_as_assigned() {
    let world = World::new().await;
    world.insert_codes(3).await;
    world.give("C000001", "ana").await;
    world.locked("C000001", "ana").await;
    world.expire_all_locks().await;
    assert_eq!((world.counts().await.assigned, world.counts().await.locked), (0, 1));
    let listed =
        async |status| codes(&world, CodeFilter { status: Some(status), ..CodeFilter::default() }).await;
    assert_eq!(listed(CouponStatus::Assigned).await.unwrap().items[0].code, "C000001");
    assert_eq!(listed(CouponStatus::Locked).await.unwrap().items, []);
}

/// Inserts jobs with plain SQL.
async fn plant_jobs(world: &World, business: cuponera_domain::id::BusinessId, status: JobStatus, count: i32) {
    query(
        "insert into job (id, business_id, kind, status, created_by, work, chunks_total, finished_at)
         select ('00000000-0000-7000-8000-' || lpad(to_hex(n + (select count(*) from job)), 12, '0'))::uuid,
                $1, 'IMPORT_CODES', $2, 'test', '{}', 1,
                case when $2 in ('SUCCEEDED', 'FAILED', 'CANCELLED') then now() end
         from generate_series(1, $3) n",
    )
    .bind(business.0)
    .bind(status.as_str())
    .bind(count)
    .execute(world.pool())
    .await
    .unwrap();
}

/// A world with one job of each other status, followed by 20,000 succeeded jobs.
async fn world_of_many_jobs() -> World {
    let world = world_with_old_statistics(async |_| {}).await;
    for status in [JobStatus::Queued, JobStatus::Running, JobStatus::Failed, JobStatus::Cancelled] {
        plant_jobs(&world, world.business, status, 1).await;
    }
    plant_jobs(&world, world.business, JobStatus::Succeeded, 20_000).await;
    world
}

const JOB_STATUSES: [Option<JobStatus>; 6] = [
    None,
    Some(JobStatus::Queued),
    Some(JobStatus::Running),
    Some(JobStatus::Succeeded),
    Some(JobStatus::Failed),
    Some(JobStatus::Cancelled),
];

/// 20,000 jobs have about 500 blocks, without their indexes.
/// Invariant I-15.
#[tokio::test]
async fn a_page_of_jobs_touches_few_blocks_whatever_the_filter() {
    let mut world = world_of_many_jobs().await;
    let another = world.another_business().await;
    for round in ["alone", "beside many open jobs of another business"] {
        for status in JOB_STATUSES {
            for kind in [None, Some(JobKind::ImportCodes), Some(JobKind::GenerateCodes)] {
                let filter = JobFilter { status, kind, after: None };
                let blocks = touched(&mut world, JOB_BLOCKS, async |world| {
                    world.store().list_jobs(world.business, &filter, LIMIT).await.unwrap();
                })
                .await;
                assert!(blocks < 250, "{filter:?} {round} read {blocks} blocks");
            }
        }
        world.database.count_anew().await;
        plant_jobs(&world, another, JobStatus::Running, 20_000).await;
    }
}

#[tokio::test]
async fn cursors_lead_to_each_job_once_also_beside_many_open_jobs_of_others() {
    let world = world_of_many_jobs().await;
    let another = world.another_business().await;
    for others in [0, 2 * i32::try_from(MAX_JOBS_EXAMINED).unwrap()] {
        plant_jobs(&world, another, JobStatus::Running, others).await;
        for status in [JobStatus::Queued, JobStatus::Running, JobStatus::Failed, JobStatus::Cancelled] {
            let page_after = async |cursor: Option<String>| {
                let after = cursor.map(|id| id.parse::<JobId>().unwrap());
                let filter = JobFilter { status: Some(status), kind: None, after };
                world.store().list_jobs(world.business, &filter, LIMIT).await
            };
            let own = async |cursor: &str| {
                let id: JobId = cursor.parse().unwrap();
                world
                    .store()
                    .get_job(world.business, id)
                    .await
                    .expect("a cursor names another business's job");
            };
            let (found, pages) = follow(page_after, own).await;
            assert_eq!(found.iter().map(|job| job.status).collect::<Vec<_>>(), [status]);
            let by_index = others == 0 && matches!(status, JobStatus::Queued | JobStatus::Running);
            assert_eq!(pages == 1, by_index, "{status:?} took {pages} pages");
        }
    }
}
