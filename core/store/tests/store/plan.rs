//! The cost of the hot statements: a few blocks for each call, with any statistics.

use cuponera_domain::id::BookId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Presenter;
use cuponera_testkit::{World, rules};
use serde_json::Value;
use sqlx::{AssertSqlSafe, query, query_as, query_scalar};
use uuid::Uuid;

use crate::bearer::bearer;

/// Codes of each book. A statement that uses the wrong index reads all of them.
const MANY: i32 = 20_000;
/// Number of calls of each kind.
const CALLS: usize = 10;
/// Maximum blocks that a call may read.
const BLOCKS_PER_CALL: i64 = 25;

/// Assigns all codes of a book with plain SQL.
async fn assign_all(world: &World, book: BookId, holder: &str) {
    query(
        "update coupon set status = 'ASSIGNED', holder = $2, assignment_id = gen_random_uuid(), assigned_at = now(),
                           version = 1 where book_id = $1",
    )
    .bind(book.0)
    .bind(holder)
    .execute(world.pool())
    .await
    .unwrap();
}

/// A world whose statistics are updated only by the test.
async fn without_autovacuum() -> World {
    let world = World::new().await;
    for table in ["coupon", "user_quota", "request_key"] {
        let alone = format!("alter table {table} set (autovacuum_enabled = off)");
        query(AssertSqlSafe(alone)).execute(world.pool()).await.unwrap();
    }
    world
}

/// Updates the statistics while each holder holds one code.
async fn analyze_with_a_code_for_each_holder(world: &World) {
    query("update coupon set holder = holder || position where holder is not null")
        .execute(world.pool())
        .await
        .unwrap();
    query("vacuum full analyze coupon").execute(world.pool()).await.unwrap();
}

/// Asserts that the calls since the counters were reset read at most [`BLOCKS_PER_CALL`] blocks of coupons and indexes
/// each.
async fn assert_few_blocks_touched(world: &World, calls_of_each: usize) {
    let touched = "select heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit
                   from pg_statio_user_tables where relname = 'coupon'";
    let touched = world.database.close_and_ask(touched).await;
    let calls = i64::try_from(calls_of_each * CALLS).unwrap();
    assert!(touched < BLOCKS_PER_CALL * calls, "{calls} calls read {touched} blocks");
}

/// When the statistics were updated, no code was free. The book of the world is empty.
#[tokio::test]
async fn a_bulk_load_that_the_statistics_do_not_know_of_slows_no_assignment() {
    let mut world = without_autovacuum().await;
    let (old, free) = (world.another_book(&rules()).await, world.another_book(&rules()).await);
    world.insert_codes_into(old, "OLD", MANY).await;
    assign_all(&world, old, "somebody").await;
    analyze_with_a_code_for_each_holder(&world).await;
    world.insert_codes_into(free, "FREE", MANY).await;
    world.database.count_anew().await;
    for number in 0..CALLS {
        let mut random = world.random(&format!("eva-{number}"));
        assert_eq!(
            world.run_batch(random.clone()).await.outcome,
            Err(Rejection::SoldOut),
            "the world's book is empty"
        );
        random.ask.book = free;
        world.run_batch(random).await.outcome.unwrap();
        let named = world.run_batch(world.named(&format!("FREE{number:06}"), "leo")).await.outcome;
        assert!(matches!(named, Ok(_) | Err(Rejection::AlreadyAssigned)));
    }
    assert_few_blocks_touched(&world, 3).await;
}

/// The statistics do not contain the holder of all codes of a book, such as a shop that assigns all codes to one user.
#[tokio::test]
async fn a_holder_of_very_many_codes_locks_and_redeems_as_fast_as_others() {
    let mut world = without_autovacuum().await;
    let (old, hers) = (world.another_book(&rules()).await, world.another_book(&rules()).await);
    world.insert_codes_into(old, "OLD", MANY / 4).await;
    assign_all(&world, old, "somebody").await;
    world.insert_codes_into(world.book, "FREE", 4 * MANY).await;
    analyze_with_a_code_for_each_holder(&world).await;
    let codes = world.insert_codes_into(hers, "HERS", MANY).await;
    assign_all(&world, hers, "ana").await;
    world.database.count_anew().await;
    for code in &codes[..CALLS] {
        world.locked(code, "ana").await;
        world.run_batch(world.unlock(code, "ana")).await.outcome.unwrap();
        world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap();
        let again = world.run_batch(world.redeem(code, "ana")).await.outcome;
        assert_eq!(again, Err(Rejection::CouponAlreadyRedeemed));
    }
    assert_few_blocks_touched(&world, 4).await;
}

/// When the statistics were updated, no code was free.
#[tokio::test]
async fn a_free_code_of_a_bearer_book_is_presented_as_fast_as_a_held_one_is_used() {
    let mut world = without_autovacuum().await;
    let (old, flyers) = (world.another_book(&rules()).await, world.another_book(&bearer()).await);
    world.insert_codes_into(old, "OLD", MANY).await;
    assign_all(&world, old, "somebody").await;
    analyze_with_a_code_for_each_holder(&world).await;
    let codes = world.insert_codes_into(flyers, "FLY", MANY).await;
    world.database.count_anew().await;
    for codes in codes.chunks(3).take(CALLS) {
        world.run_batch(world.redeem(&codes[0], "ana")).await.outcome.unwrap();
        world.locked(&codes[1], "ana").await;
        let mut without_user = world.redeem(&codes[2], "");
        without_user.ask.presenter = Presenter::Bearer;
        world.run_batch(without_user).await.outcome.unwrap();
        assert_eq!(world.run_batch(world.lock(&codes[0], "eva")).await.outcome, Err(Rejection::NotHolder));
    }
    assert_few_blocks_touched(&world, 4).await;
}

/// A call for a code that is held counts no quota: it reads no row of a quota, and a connection reads the index only when it plans.
#[tokio::test]
async fn a_held_code_is_locked_and_redeemed_without_reading_quotas() {
    let mut world = World::new().await;
    let codes = world.insert_codes(i32::try_from(CALLS).unwrap()).await;
    for code in &codes {
        world.give(code, "ana").await;
    }
    world.database.count_anew().await;
    for code in &codes {
        world.locked(code, "ana").await;
        world.run_batch(world.unlock(code, "ana")).await.outcome.unwrap();
        world.run_batch(world.redeem(code, "ana")).await.outcome.unwrap();
    }
    let touched = "select heap_blks_read + heap_blks_hit + (idx_blks_read + idx_blks_hit) / 10
                   from pg_statio_user_tables where relname = 'user_quota'";
    assert_eq!(world.database.close_and_ask(touched).await, 0);
}

/// While a distribution has reserved all codes of a book but a few, and after it: neither the search for a free code nor the finding
/// that there is none reads the reserved codes.
#[tokio::test]
async fn codes_that_are_reserved_slow_no_assignment() {
    let mut world = without_autovacuum().await;
    world.store().build_indexes().await.unwrap();
    let full = world.another_book(&rules()).await;
    world.insert_codes(MANY).await;
    world.insert_codes_into(full, "FULL", MANY).await;
    query(
        "update coupon set reserved_by = gen_random_uuid() where book_id = $1 or book_id = $2 and position not in (5, 9000, 19000)",
    )
    .bind(full.0)
    .bind(world.book.0)
    .execute(world.pool())
    .await
    .unwrap();
    query("vacuum analyze coupon").execute(world.pool()).await.unwrap();
    world.database.count_anew().await;
    for number in 0..CALLS {
        let mut random = world.random(&format!("eva-{number}"));
        let outcome = world.run_batch(random.clone()).await.outcome;
        assert_eq!(outcome.is_ok(), number < 3, "{outcome:?}");
        random.ask.book = full;
        assert_eq!(world.run_batch(random).await.outcome, Err(Rejection::SoldOut));
    }
    assert_few_blocks_touched(&world, 2).await;
}

/// Executes a statement on as many codes as a chunk has, and returns how many pairs of rows its joins compared in vain.
async fn compared_in_vain(world: &World, statement: &'static str, codes: &[String]) -> i64 {
    let null = vec![None::<String>; codes.len()];
    let ids = || -> Vec<Uuid> { codes.iter().map(|_| Uuid::now_v7()).collect() };
    let is_void = statement.contains("only_status");
    let explained = query_scalar(AssertSqlSafe(format!("explain (analyze, format json) {statement}")))
        .bind((0..).take(codes.len()).collect::<Vec<i32>>())
        .bind(vec![world.business.0; codes.len()])
        .bind(ids())
        .bind(vec!["job:test"; codes.len()])
        .bind(&null)
        .bind(&null)
        .bind(&null)
        .bind(vec![None::<Uuid>; codes.len()])
        .bind(vec![None::<Uuid>; codes.len()])
        .bind(codes)
        .bind(&null);
    let explained =
        if is_void { explained.bind(&null) } else { explained.bind(vec![None::<Uuid>; codes.len()]) };
    let plan: Value = explained
        .bind(vec!["leaked"; codes.len()])
        .bind(ids())
        .bind(false)
        .fetch_one(world.pool())
        .await
        .unwrap();
    removed_by_join_filters(&plan)
}

fn removed_by_join_filters(node: &Value) -> i64 {
    let count = |name: &str| node[name].as_f64().unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "a number of rows")]
    let own = (count("Rows Removed by Join Filter") * count("Actual Loops")) as i64;
    let below: i64 = match node {
        Value::Array(nodes) => nodes.iter().map(removed_by_join_filters).sum(),
        Value::Object(fields) => {
            fields.values().filter(|field| !field.is_number()).map(removed_by_join_filters).sum()
        }
        _ => 0,
    };
    own + below
}

/// A chunk of a bulk void or take-back has thousands of codes. Its time is proportional to their number, not to its square.
#[tokio::test]
async fn the_statement_of_a_chunk_compares_each_code_with_its_own_row_only() {
    let world = World::new().await;
    world.insert_codes_into(world.book, "FREE", 2_500).await;
    let codes = world.insert_codes_into(world.book, "HELD", 1_000).await;
    query("update coupon set status = 'ASSIGNED', holder = 'ana', assignment_id = gen_random_uuid(), assigned_at = now(), version = 1 where code >= 'HELD'")
        .execute(world.pool())
        .await
        .unwrap();
    query("analyze coupon").execute(world.pool()).await.unwrap();
    let free: Vec<String> = query_scalar("select code from coupon where code < 'HELD' order by code")
        .fetch_all(world.pool())
        .await
        .unwrap();
    let revoked = compared_in_vain(&world, include_str!("../../src/sql/revoke.sql"), &codes).await;
    let voided = compared_in_vain(&world, include_str!("../../src/sql/void.sql"), &free).await;
    let (available, void): (i64, i64) = query_as("select count(*) filter (where status = 'AVAILABLE'), count(*) filter (where status = 'VOID') from coupon")
        .fetch_one(world.pool()).await.unwrap();
    assert_eq!((available, void), (1_000, 2_500));
    assert!(revoked < 1_000 && voided < 2_500, "revoke compared {revoked} pairs in vain, void {voided}");
}
