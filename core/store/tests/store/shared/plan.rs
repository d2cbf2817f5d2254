//! The cost of calls for a SHARED code with many users, locks and redemptions: a few blocks each.

use super::*;

/// Users, and redemptions, of the code. A statement that uses the wrong index reads all of them.
const MANY: i32 = 20_000;
/// Number of calls of each kind.
const CALLS: usize = 10;
/// Maximum blocks of all tables that a call may read.
const BLOCKS_PER_CALL: i64 = 60;

/// A code with many users, of which some have expired locks and most have live ones, and of which one uses many codes of another book.
async fn popular_code() -> World {
    let world = World::with(BookRules { max_codes_per_user: Some(3), max_redeems_per_user: 5, ..shared() }).await;
    world.store().build_indexes().await.unwrap();
    world.shared("HOT", SharedLimits::default()).await;
    for statement in [
        "insert into shared_use (business_id, code, user_id, book_id, used, lock_id, locked_at, locked_until, first_at)
         select c.business_id, c.code, 'user-' || n, c.book_id, 1, gen_random_uuid(), now(), now() + interval '1 hour' * sign(n - 50), now()
         from coupon c, generate_series(1, $1) n",
        "insert into shared_use (business_id, code, user_id, book_id, used, first_at)
         select c.business_id, 'OTHER-' || n, 'ana', gen_random_uuid(), 1, now() from coupon c, generate_series(1, $1) n",
        "insert into redemption (id, business_id, book_id, code, use_number, user_id, reference)
         select gen_random_uuid(), c.business_id, c.book_id, c.code, n, 'user-' || n, 'sale ' || n from coupon c, generate_series(1, $1) n",
        "update coupon set redeem_count = $1, last_use = $1, lock_count = $1",
    ] {
        sqlx::query(statement).bind(MANY).execute(world.pool()).await.unwrap();
    }
    world
}

#[tokio::test]
async fn the_calls_for_a_code_with_many_users_read_a_few_blocks() {
    let mut world = popular_code().await;
    world.database.count_anew().await;
    let mut calls = 0;
    for number in 0..CALLS {
        let user = format!("new-{number}");
        let mut redeem = world.redeem("HOT", &user);
        redeem.ask.reference = Some(format!("new sale {number}"));
        let redeemed = world.run_batch(redeem.clone()).await.outcome.unwrap();
        assert!(world.run_batch(redeem).await.outcome.unwrap().replayed);
        world.locked("HOT", &user).await;
        world.run_batch(world.unlock("HOT", &user)).await.outcome.unwrap();
        world.run_batch(roll_back(&world, "HOT", redeemed.redemption)).await.outcome.unwrap();
        world.run_batch(world.redeem("HOT", "ana")).await.outcome.map(drop).unwrap_or_default();
        world.store().validate(&world.redeem("HOT", &user)).await.unwrap();
        calls += 7;
    }
    let touched = "select sum(heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint
                   from pg_statio_user_tables where relname in ('coupon', 'shared_use', 'redemption', 'used_reference')";
    let touched = world.database.close_and_ask(touched).await;
    assert!(touched < BLOCKS_PER_CALL * calls, "{calls} calls read {touched} blocks");
}
