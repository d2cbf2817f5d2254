//! The filters of lists of codes, alone and combined, against a plain query, beside writers, and in large books.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use cuponera_domain::coupon::state::{Coupon, CouponStatus};
use cuponera_domain::export::{ExportKind, Filter, Format};
use cuponera_domain::id::{BookId, JobId};
use cuponera_domain::page::Page;
use cuponera_domain::rejection::Rejection;
use cuponera_domain::time_range::TimeRange;
use cuponera_store::{CodeFilter, Error, MAX_NEIGHBORS_EXAMINED, MAX_SCATTERED_EXAMINED, NewExport, Result};
use cuponera_testkit::{World, generate, is_soak, rules};
use futures::future::join_all;
use sqlx::{query, query_as};
use uuid::Uuid;

use super::{COUPON_BLOCKS, LIMIT, follow, touched, world_with_old_statistics};

/// Maximum blocks of a page, index included: those of 10,000 codes by position, with a margin.
const MAX_POSITION_BLOCKS: i64 = 1_000;
/// Maximum blocks of a page of 2,000 codes by code or holder, which may all be in different blocks.
const MAX_CODE_BLOCKS: i64 = 2_500;
/// The number of random filters that are compared.
const FILTERS: usize = 150;

/// A sequence of numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_of<T: Clone>(&mut self, items: &[T]) -> T {
        items[usize::try_from(self.below(items.len() as u64)).unwrap()].clone()
    }
}

/// A row of the plain query.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Row {
    code: String,
    status: String,
    holder: Option<String>,
    job_id: Uuid,
    assigned_at: Option<DateTime<Utc>>,
    redeemed_at: Option<DateTime<Utc>>,
}

/// All codes of a book by position, with their effective status.
async fn rows(world: &World, book: BookId) -> Vec<Row> {
    query_as(
        "select code, case when status = 'LOCKED' and locked_until <= now() then 'ASSIGNED' else status::text end as status,
                holder, job_id, assigned_at, redeemed_at
         from coupon where book_id = $1 order by position",
    )
    .bind(book.0)
    .fetch_all(world.pool())
    .await
    .unwrap()
}

/// The codes of a list, by the definition of the filters.
fn expected(rows: &[Row], filter: &CodeFilter) -> Vec<String> {
    let is_found = |row: &&Row| {
        filter.status.is_none_or(|status| status.as_str() == row.status)
            && filter.prefix.as_ref().is_none_or(|prefix| row.code.starts_with(prefix))
            && (filter.user.is_none() || filter.user == row.holder)
            && filter.job.is_none_or(|job| job.0 == row.job_id)
            && filter.assigned.contains(row.assigned_at)
            && filter.redeemed.contains(row.redeemed_at)
    };
    let mut found: Vec<&Row> = rows.iter().filter(is_found).collect();
    if filter.user.is_some() {
        found.sort_by(|one, next| (one.assigned_at, &one.code).cmp(&(next.assigned_at, &next.code)));
    } else if filter.prefix.is_some() {
        found.sort_by(|one, next| one.code.cmp(&next.code));
    }
    found.into_iter().map(|row| row.code.clone()).collect()
}

/// A page of the list, after the cursor of an earlier one.
async fn page(
    world: &World,
    book: BookId,
    filter: &CodeFilter,
    cursor: Option<String>,
) -> Result<Page<Coupon>> {
    let book = world.store().get_book(world.business, book).await?;
    let mut filter = filter.clone();
    filter.after = cursor;
    if filter.user.is_some()
        && let Some((micros, code)) = filter.after.as_ref().and_then(|after| after.split_once('.'))
    {
        filter.after_assigned_at = DateTime::from_timestamp_micros(micros.parse().unwrap());
        filter.after = Some(code.to_owned());
    }
    world.store().list_codes(&book, &filter, LIMIT).await
}

/// The codes of a whole list, and the number of pages.
async fn listed(world: &World, book: BookId, filter: &CodeFilter) -> (Vec<String>, usize) {
    let (items, pages) = follow(async |cursor| page(world, book, filter, cursor).await, async |_| {}).await;
    (items.into_iter().map(|coupon| coupon.code).collect(), pages)
}

/// Makes the counts of a book those of its codes.
async fn count_anew(world: &World, book: BookId) {
    for sql in [
        "delete from book_delta where book_id = $1",
        "delete from book_count where book_id = $1",
        "insert into book_count (book_id, generated, available, assigned, locked, redeemed, void)
         select book_id, count(*), count(*) filter (where status = 'AVAILABLE'), count(*) filter (where status = 'ASSIGNED'),
                count(*) filter (where status = 'LOCKED'), count(*) filter (where status = 'REDEEMED'), count(*) filter (where status = 'VOID')
         from coupon where book_id = $1 group by book_id",
    ] {
        query(sql).bind(book.0).execute(world.pool()).await.unwrap();
    }
}

/// Gives the codes of all books random states: a third is free, the others belong to seven users, at times of the last 30 days.
async fn randomize(world: &World) {
    let mut connection = world.pool().acquire().await.unwrap();
    query("select setseed(0.25)").execute(&mut *connection).await.unwrap();
    query(
        "with roll as materialized (
           select code, floor(random() * 12)::int as n, floor(random() * 7)::int as u, now() - random() * interval '30 days' as at from coupon),
         state as (
           select *, case when n < 4 then 'AVAILABLE' when n < 6 then 'ASSIGNED' when n < 8 then 'LOCKED' when n < 11 then 'REDEEMED'
                     else 'VOID' end::coupon_status as s from roll)
         update coupon c set status = s, holder = case when n >= 4 then 'user-' || u end,
           assignment_id = case when n >= 4 then gen_random_uuid() end, assigned_at = case when n >= 4 then at end,
           lock_id = case when s = 'LOCKED' then gen_random_uuid() end, locked_at = case when s = 'LOCKED' then at end,
           locked_until = case when s = 'LOCKED' then now() + (u - 3) * interval '1 hour' end,
           redeem_count = (s = 'REDEEMED')::int, redeemed_at = case when s = 'REDEEMED' then at + interval '1 day' end
         from state where state.code = c.code",
    )
    .execute(&mut *connection)
    .await
    .unwrap();
}

/// A world with two books. The codes of the first one come from three jobs. Returns the books and the jobs.
async fn world_of_random_codes() -> (World, [BookId; 2], Vec<JobId>) {
    let world = World::new().await;
    let other = world.another_book(&rules()).await;
    let mut jobs = Vec::new();
    for (book, pattern, codes) in [
        (world.book, "A{XXXXXX}", 300),
        (other, "A{XXXXXX}", 200),
        (world.book, "B{999999}", 400),
        (world.book, "AB{XXXXX}", 250),
    ] {
        jobs.push(generate(world.store(), world.business, book, pattern, codes).await.id);
    }
    randomize(&world).await;
    for book in [world.book, other] {
        count_anew(&world, book).await;
    }
    let books = [world.book, other];
    (world, books, jobs)
}

fn random_range(dice: &mut Dice) -> TimeRange {
    let now = Utc::now();
    let mut bound =
        || (dice.below(2) == 0).then(|| now - TimeDelta::hours(i64::try_from(dice.below(720)).unwrap()));
    let (one, other) = (bound(), bound());
    match (one, other) {
        (Some(one), Some(other)) => TimeRange { from: Some(one.min(other)), to: Some(one.max(other)) },
        (from, to) => TimeRange { from, to },
    }
}

fn random_filter(dice: &mut Dice, jobs: &[JobId]) -> CodeFilter {
    let mut wants = || dice.below(2) == 0;
    let [status, prefix, user, job, assigned, redeemed] = std::array::from_fn(|_| wants());
    CodeFilter {
        status: status.then(|| dice.one_of(&CouponStatus::ALL)),
        prefix: prefix.then(|| dice.one_of(&["A", "AB", "B1", "B", "C"]).to_owned()),
        user: user.then(|| format!("user-{}", dice.below(8))),
        job: job.then(|| dice.one_of(jobs)),
        assigned: if assigned { random_range(dice) } else { TimeRange::default() },
        redeemed: if redeemed { random_range(dice) } else { TimeRange::default() },
        ..CodeFilter::default()
    }
}

#[tokio::test]
async fn each_filter_and_each_combination_lists_what_a_plain_query_finds() {
    let (world, books, jobs) = world_of_random_codes().await;
    let all = [rows(&world, books[0]).await, rows(&world, books[1]).await];
    let mut dice = Dice(42);
    let mut found = 0;
    // The second job is of the other book.
    let jobs = [vec![jobs[0], jobs[2], jobs[3]], vec![jobs[1]]];
    for _ in 0..FILTERS {
        let place = usize::try_from(dice.below(2)).unwrap();
        let filter = random_filter(&mut dice, &jobs[place]);
        let (listed, _) = listed(&world, books[place], &filter).await;
        assert_eq!(listed, expected(&all[place], &filter), "{filter:?}");
        found += usize::from(!listed.is_empty());
    }
    assert!(found > FILTERS / 4, "only {found} of {FILTERS} filters found a code");
    // A large book reads the codes with a prefix of all books.
    query("update book_count set available = available + 20000").execute(world.pool()).await.unwrap();
    for _ in 0..FILTERS / 3 {
        let filter = CodeFilter { prefix: Some("A".to_owned()), ..random_filter(&mut dice, &jobs[0]) };
        let (listed, _) = listed(&world, world.book, &filter).await;
        assert_eq!(listed, expected(&all[0], &filter), "{filter:?}");
    }
}

/// A caller with access to one book learns nothing about the jobs of the others.
#[tokio::test]
async fn a_job_of_another_book_or_business_is_rejected_like_one_that_does_not_exist() {
    let (world, books, jobs) = world_of_random_codes().await;
    let of = |job| CodeFilter { job: Some(job), ..CodeFilter::default() };
    assert_eq!(listed(&world, books[1], &of(jobs[1])).await.0.len(), 200);
    let elsewhere = world.another_business().await;
    query("update job set business_id = $1 where id = $2")
        .bind(elsewhere.0)
        .bind(jobs[0].0)
        .execute(world.pool())
        .await
        .unwrap();
    // A job of the other book that creates no codes.
    let order = NewExport {
        kind: ExportKind::Codes,
        book: Some(books[1]),
        filter: Filter::default(),
        format: Format::default(),
    };
    let export = world.store().submit_export(None, world.business, "test", order).await.unwrap();
    let export = export.outcome.unwrap().id;
    for job in [JobId(Uuid::now_v7()), jobs[0], jobs[1], export] {
        let rejected = page(&world, books[0], &of(job), None).await.unwrap_err();
        assert!(
            matches!(&rejected, Error::Rejected(rejection) if *rejection == Rejection::not_found("job")),
            "{rejected:?}"
        );
    }
    let rejected = page(&world, books[1], &of(export), None).await.unwrap_err();
    assert!(matches!(&rejected, Error::Rejected(Rejection::Invalid { .. })), "{rejected:?}");
}

/// The user `stable` holds the codes with even numbers from the start. Meanwhile writers assign, lock and redeem the others.
#[tokio::test(flavor = "multi_thread")]
async fn beside_writers_no_code_is_listed_twice_and_no_stable_one_is_missed() {
    let world = World::new().await;
    let codes = world.insert_codes(400).await;
    let stable: Vec<&String> = codes.iter().step_by(2).collect();
    for code in &stable {
        world.give(code, "stable").await;
    }
    let since = Utc::now() - TimeDelta::days(1);
    let assigned = TimeRange { from: Some(since), to: None };
    let filters = [
        CodeFilter::default(),
        CodeFilter { user: Some("stable".to_owned()), ..CodeFilter::default() },
        CodeFilter { assigned, ..CodeFilter::default() },
        CodeFilter { status: Some(CouponStatus::Assigned), ..CodeFilter::default() },
        CodeFilter { prefix: Some("C0".to_owned()), assigned, ..CodeFilter::default() },
        CodeFilter {
            user: Some("stable".to_owned()),
            assigned,
            prefix: Some("C".to_owned()),
            ..CodeFilter::default()
        },
    ];
    let is_over = AtomicBool::new(false);
    let writers = async {
        join_all(codes.iter().skip(1).step_by(2).map(async |code| {
            world.give(code, "stable").await;
            world.locked(code, "stable").await;
            world.run_batch(world.redeem(code, "stable")).await.outcome.unwrap();
        }))
        .await;
        is_over.store(true, Ordering::Relaxed);
    };
    let reader = async {
        let mut rounds = 0;
        while rounds == 0 || !is_over.load(Ordering::Relaxed) {
            for filter in &filters {
                let (listed, _) = listed(&world, world.book, filter).await;
                let once: BTreeSet<&String> = listed.iter().collect();
                assert_eq!(once.len(), listed.len(), "a code was listed twice: {filter:?}");
                assert!(
                    stable.iter().all(|code| once.contains(*code)),
                    "a stable code was missed: {filter:?}"
                );
            }
            rounds += 1;
        }
    };
    tokio::join!(writers, reader);
    world.assert_invariants().await;
}

/// A book in which only the last code is assigned and redeemed, by `eva`.
async fn world_of_one_use(codes: i32) -> World {
    let world = world_with_old_statistics(async |_| {}).await;
    for first in (0..codes).step_by(500_000) {
        query(
            "insert into coupon (business_id, book_id, job_id, position, code)
             select $1, $2, '00000000-0000-7000-8000-000000000000', n, 'C' || lpad(n::text, 8, '0') from generate_series($3, $4 - 1) n",
        )
        .bind(world.business.0)
        .bind(world.book.0)
        .bind(first)
        .bind(codes.min(first + 500_000))
        .execute(world.pool())
        .await
        .unwrap();
    }
    query(
        "update coupon set status = 'REDEEMED', holder = 'eva', assignment_id = gen_random_uuid(), assigned_at = now(),
                           redeem_count = 1, redeemed_at = now() where book_id = $1 and position = $2 - 1",
    )
    .bind(world.book.0)
    .bind(codes)
    .execute(world.pool())
    .await
    .unwrap();
    query("update coupon_book set next_position = $2 where id = $1")
        .bind(world.book.0)
        .bind(codes)
        .execute(world.pool())
        .await
        .unwrap();
    count_anew(&world, world.book).await;
    query("vacuum coupon").execute(world.pool()).await.unwrap();
    world
}

/// Filters that only the last code matches, and filters that none does; each with the maximum number of codes that a page examines.
fn rare_filters() -> Vec<(CodeFilter, usize, i64)> {
    let (hour, none) = (TimeDelta::hours(1), CodeFilter::default());
    let recent = TimeRange { from: Some(Utc::now() - hour), to: None };
    let future = TimeRange { from: Some(Utc::now() + hour), to: None };
    let (redeemed, prefix) = (Some(CouponStatus::Redeemed), Some("C".to_owned()));
    let mut filters = Vec::new();
    for (range, found) in [(recent, 1), (future, 0)] {
        filters.extend([
            (CodeFilter { assigned: range, ..none.clone() }, found, MAX_NEIGHBORS_EXAMINED),
            (CodeFilter { redeemed: range, ..none.clone() }, found, MAX_NEIGHBORS_EXAMINED),
            (CodeFilter { status: redeemed, redeemed: range, ..none.clone() }, found, MAX_NEIGHBORS_EXAMINED),
            (
                CodeFilter { prefix: prefix.clone(), assigned: range, ..none.clone() },
                found,
                MAX_SCATTERED_EXAMINED,
            ),
            (CodeFilter { user: Some("eva".to_owned()), redeemed: range, ..none.clone() }, found, i64::MAX),
        ]);
    }
    filters.push((CodeFilter { user: Some("nobody".to_owned()), ..none.clone() }, 0, i64::MAX));
    filters.push((CodeFilter { status: redeemed, ..none }, 1, MAX_NEIGHBORS_EXAMINED));
    filters
}

/// Invariant I-60.
#[tokio::test]
async fn each_page_of_a_filter_that_matches_nothing_or_only_the_last_code_reads_few_blocks() {
    let large = if is_soak() { 10_000_000 } else { 200_000 };
    for codes in [10_000, large] {
        let mut world = world_of_one_use(codes).await;
        for (filter, found, examined) in rare_filters() {
            let most = if filter.user.is_some() {
                50
            } else if filter.prefix.is_some() && codes > 10_000 {
                MAX_CODE_BLOCKS
            } else {
                MAX_POSITION_BLOCKS
            };
            let (mut cursor, mut pages, mut items) = (None, 0, 0);
            // In a soak a list has 5,000 pages: the first ones and the last one are read.
            let last = (codes > 1_000_000)
                .then(|| format!("C{:08}", codes - 15_000))
                .filter(|_| filter.user.is_none());
            loop {
                let blocks = touched(&mut world, COUPON_BLOCKS, async |world| {
                    let page = page(world, world.book, &filter, cursor.take()).await.unwrap();
                    (cursor, pages, items) = (page.next_cursor, pages + 1, items + page.items.len());
                })
                .await;
                assert!(blocks < most, "page {pages} of {filter:?} of {codes} codes read {blocks} blocks");
                match &cursor {
                    None => break,
                    Some(_) if pages == 3 && last.is_some() => cursor.clone_from(&last),
                    Some(_) => {}
                }
            }
            assert_eq!(items, found, "{filter:?}");
            // A small book with a prefix is read as a whole.
            let is_whole = filter.prefix.is_some() && codes <= 10_000;
            let expected = if is_whole { 1 } else { i64::from(codes) / examined };
            assert!(
                last.is_some() || i64::from(pages) >= expected,
                "{pages} pages of {filter:?} examined {codes} codes"
            );
        }
    }
}

/// The codes of the business with a prefix.
async fn found(world: &World, prefix: &str) -> Vec<String> {
    let page_after = async |cursor: Option<String>| {
        world.store().find_coupons(world.business, None, prefix, cursor.as_deref(), LIMIT).await
    };
    let (items, _) = follow(page_after, async |_| {}).await;
    items.into_iter().map(|coupon| coupon.code).collect()
}

#[tokio::test]
async fn codes_are_found_by_prefix_in_all_books_of_the_business() {
    let (world, books, _) = world_of_random_codes().await;
    let elsewhere = world.another_business().await;
    query("insert into coupon (business_id, book_id, job_id, position, code) values ($1, gen_random_uuid(), gen_random_uuid(), 0, 'AB-THEIRS')")
        .bind(elsewhere.0)
        .execute(world.pool())
        .await
        .unwrap();
    let all = [rows(&world, books[0]).await, rows(&world, books[1]).await];
    for prefix in ["A", "AB", "B", "B12", "C", "\u{7f}", "%", "_"] {
        let rows = all.iter().flatten();
        let mut codes: Vec<_> =
            rows.map(|row| row.code.clone()).filter(|code| code.starts_with(prefix)).collect();
        codes.sort();
        assert_eq!(found(&world, prefix).await, codes, "{prefix}");
    }
}

#[tokio::test]
async fn a_page_of_found_codes_reads_few_blocks() {
    let mut world = world_of_one_use(40_000).await;
    let blocks = touched(&mut world, COUPON_BLOCKS, async |world| {
        world.store().find_coupons(world.business, None, "C", None, LIMIT).await.unwrap();
    })
    .await;
    assert!(blocks < MAX_CODE_BLOCKS, "it read {blocks} blocks");
}
