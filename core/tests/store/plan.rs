//! What the hot statements cost: a few blocks each, whatever the statistics believe.

use cuponera_core::error::Refusal;
use cuponera_core::id::BookId;
use cuponera_testkit::{World, rules};
use sqlx::{AssertSqlSafe, query};

/// How many codes each of the books has: what a statement reads that takes the wrong index.
const MANY: i32 = 20_000;
/// How many of each call there are; each may touch so many blocks.
const CALLS: usize = 10;
const BLOCKS_PER_CALL: i64 = 25;

/// Gives all codes of a book out, past the statements that would.
async fn give_out(world: &World, book: BookId, holder: &str) {
    query(
        "update coupon set status = 'ASSIGNED', holder = $2, assignment_id = gen_random_uuid(), assigned_at = now(),
                           version = 1 where book_id = $1",
    )
    .bind(book)
    .bind(holder)
    .execute(world.pool())
    .await
    .unwrap();
}

/// A world whose statistics are made only when a test says so.
async fn without_autovacuum() -> World {
    let world = World::new().await;
    for table in ["coupon", "user_quota", "request_key"] {
        let alone = format!("alter table {table} set (autovacuum_enabled = off)");
        query(AssertSqlSafe(alone)).execute(world.pool()).await.unwrap();
    }
    world
}

/// Makes statistics in which every holder holds one code.
async fn analyze_with_a_code_for_each_holder(world: &World) {
    query("update coupon set holder = holder || position where holder is not null")
        .execute(world.pool())
        .await
        .unwrap();
    query("vacuum full analyze coupon").execute(world.pool()).await.unwrap();
}

/// Fails if the calls since the counting began anew touched more than a handful of blocks of coupons and indexes each.
async fn assert_few_blocks_touched(world: &World, calls_of_each: usize) {
    let touched = "select heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit
                   from pg_statio_user_tables where relname = 'coupon'";
    let touched = world.database.close_and_ask(touched).await;
    let calls = i64::try_from(calls_of_each * CALLS).unwrap();
    assert!(touched < BLOCKS_PER_CALL * calls, "{calls} calls touched {touched} blocks");
}

/// When the statistics were made no code was free. The world's own book is empty.
#[tokio::test]
async fn a_bulk_load_that_the_statistics_do_not_know_of_slows_no_assignment() {
    let mut world = without_autovacuum().await;
    let (old, free) = (world.another_book(&rules()).await, world.another_book(&rules()).await);
    world.plant_codes_in(old, "OLD", MANY).await;
    give_out(&world, old, "somebody").await;
    analyze_with_a_code_for_each_holder(&world).await;
    world.plant_codes_in(free, "FREE", MANY).await;
    world.database.count_anew().await;
    for number in 0..CALLS {
        let mut random = world.random(&format!("eva-{number}"));
        assert_eq!(
            world.settle(random.clone()).await.outcome,
            Err(Refusal::SoldOut),
            "the world's book is empty"
        );
        random.ask.book = free;
        world.settle(random).await.outcome.unwrap();
        let named = world.settle(world.named(&format!("FREE{number:06}"), "leo")).await.outcome;
        assert!(matches!(named, Ok(_) | Err(Refusal::AlreadyAssigned)));
    }
    assert_few_blocks_touched(&world, 3).await;
}

/// Nor do they know of the one who holds very many: a shop that has all its codes under one name.
#[tokio::test]
async fn a_holder_of_very_many_codes_locks_and_redeems_as_fast_as_others() {
    let mut world = without_autovacuum().await;
    let (old, hers) = (world.another_book(&rules()).await, world.another_book(&rules()).await);
    world.plant_codes_in(old, "OLD", MANY / 4).await;
    give_out(&world, old, "somebody").await;
    world.plant_codes_in(world.book, "FREE", 4 * MANY).await;
    analyze_with_a_code_for_each_holder(&world).await;
    let codes = world.plant_codes_in(hers, "HERS", MANY).await;
    give_out(&world, hers, "ana").await;
    world.database.count_anew().await;
    for code in &codes[..CALLS] {
        world.locked(code, "ana").await;
        world.settle(world.unlock(code, "ana")).await.outcome.unwrap();
        world.settle(world.redeem(code, "ana")).await.outcome.unwrap();
        let again = world.settle(world.redeem(code, "ana")).await.outcome;
        assert_eq!(again, Err(Refusal::CouponAlreadyRedeemed));
    }
    assert_few_blocks_touched(&world, 4).await;
}
