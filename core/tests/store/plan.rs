//! What the hot statements cost: a few rows each, whatever the statistics believe.

use cuponera_core::error::Refusal;
use cuponera_core::id::BookId;
use cuponera_testkit::{World, rules};
use sqlx::{AssertSqlSafe, query};

/// How many codes each of the books has: what a statement reads that takes the wrong index.
const MANY: i32 = 10_000;
/// How many of each call there are; each may read a handful of rows.
const CALLS: usize = 10;
const ROWS_PER_CALL: i64 = 50;

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

async fn run(world: &World, sql: String) {
    query(AssertSqlSafe(sql)).execute(world.pool()).await.unwrap();
}

/// The statistics are of a time when no code was free and nobody held many; then came two bulk loads. The world's own
/// book is empty. Answers the book of the free codes and the codes that `ana` holds.
async fn bulk_loaded_since_the_statistics_were_made() -> (World, BookId, Vec<String>) {
    let mut world = World::new().await;
    for table in ["coupon", "user_quota", "request_key"] {
        run(&world, format!("alter table {table} set (autovacuum_enabled = off)")).await;
    }
    let (old, hers, free) = (
        world.another_book(&rules()).await,
        world.another_book(&rules()).await,
        world.another_book(&rules()).await,
    );
    world.plant_codes_in(old, "OLD", MANY).await;
    give_out(&world, old, "somebody").await;
    run(&world, "update coupon set holder = holder || position".to_owned()).await;
    run(&world, "analyze coupon".to_owned()).await;
    let codes = world.plant_codes_in(hers, "HERS", MANY).await;
    give_out(&world, hers, "ana").await;
    world.plant_codes_in(free, "FREE", MANY).await;
    world.database.count_anew().await;
    (world, free, codes)
}

#[tokio::test]
async fn a_bulk_load_that_the_statistics_do_not_know_of_slows_no_hot_statement() {
    let (world, free, codes) = bulk_loaded_since_the_statistics_were_made().await;
    for (number, code) in codes.iter().enumerate().take(CALLS) {
        let mut random = world.random(&format!("eva-{number}"));
        assert_eq!(
            world.settle(random.clone()).await.outcome,
            Err(Refusal::SoldOut),
            "the world's book is empty"
        );
        random.ask.book = free;
        world.settle(random).await.outcome.unwrap();
        let named = world.settle(world.named(&format!("FREE{:06}", 2 * number), "leo")).await.outcome;
        assert!(matches!(named, Ok(_) | Err(Refusal::AlreadyAssigned)));
        world.locked(code, "ana").await;
        world.settle(world.unlock(code, "ana")).await.outcome.unwrap();
        world.settle(world.redeem(code, "ana")).await.outcome.unwrap();
        assert_eq!(
            world.settle(world.redeem(code, "ana")).await.outcome,
            Err(Refusal::CouponAlreadyRedeemed)
        );
    }
    let read = "select (select sum(idx_tup_read) from pg_stat_user_indexes where relname = 'coupon')::bigint
              + (select seq_tup_read from pg_stat_user_tables where relname = 'coupon')";
    let read = world.database.close_and_ask(read).await;
    let calls = i64::try_from(7 * CALLS).unwrap();
    assert!(read < ROWS_PER_CALL * calls, "{calls} calls read {read} rows of coupon");
}
