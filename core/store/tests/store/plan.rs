//! The cost of the hot statements: a few blocks for each call, with any statistics.

use cuponera_domain::id::BookId;
use cuponera_domain::rejection::Rejection;
use cuponera_testkit::{World, rules};
use sqlx::{AssertSqlSafe, query};

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
