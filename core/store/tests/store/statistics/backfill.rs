//! The events of a version without statistics.

use cuponera_testkit::World;
use sqlx::{query, raw_sql};

use super::{recently, redeemed, statistics};

/// The migration step that begins to count.
const STEP: &str = include_str!("../../../../../migrations/0042_count_statistics.sql");

/// Makes the database one of the version before.
async fn without_statistics(world: &World) {
    let sql = "drop trigger coupon_event_counted on coupon_event; drop trigger redemption_counted on redemption;
               delete from stat_delta; delete from stat_bucket; delete from redeem_time_delta; delete from redeem_time";
    raw_sql(sql).execute(world.pool()).await.unwrap();
}

async fn use_codes(world: &World, codes: &[String]) {
    for (n, code) in codes.iter().enumerate() {
        world.give(code, "ana").await;
        if n % 2 == 0 {
            redeemed(world, code).await;
        }
    }
}

#[tokio::test]
async fn events_from_before_the_statistics_are_counted_once_beside_those_after() {
    let world = World::new().await;
    without_statistics(&world).await;
    let codes = world.insert_codes(40).await;
    use_codes(&world, &codes[..10]).await;
    // Some of them are of an earlier month.
    for sql in [
        "select coupon_event_make_month(now() - interval '40 days')",
        "update coupon_event set at = at - interval '40 days' where position < 5",
        "update redemption set at = at - interval '40 days' where code < 'C000005'",
    ] {
        query(sql).execute(world.pool()).await.unwrap();
    }
    // A transaction that began before the step, and writes after it.
    let mut early = world.pool().begin().await.unwrap();
    query("select pg_current_xact_id()").execute(&mut *early).await.unwrap();
    raw_sql(STEP).execute(world.pool()).await.unwrap();
    let sql = "insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
               select gen_random_uuid(), business_id, book_id, position, version + n, 'ASSIGNED', 'ASSIGNED', 'UNLOCK', holder, 'test'
               from coupon, generate_series(1, 3) n where code = 'C000001'";
    query(sql).execute(&mut *early).await.unwrap();
    early.commit().await.unwrap();
    let not_yet = world.store().statistics(world.business, None, &recently()).await.unwrap();
    assert!(not_yet.is_none());
    assert!(world.store().reconcile(None).await.is_err());
    use_codes(&world, &codes[10..20]).await;
    world.store().roll_up_statistics().await.unwrap();
    let mut used = 20;
    while world.store().backfill_statistics().await.unwrap() {
        use_codes(&world, &codes[used..=used]).await;
        used += 1;
    }
    assert!(used > 20, "all months are counted in one step");
    assert!(!world.store().backfill_statistics().await.unwrap());
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
    world.store().roll_up_statistics().await.unwrap();
    assert_eq!(world.store().reconcile(None).await.unwrap(), []);
    let found = statistics(&world, Some(world.book), &recently()).await;
    let expected = i64::try_from(used).unwrap();
    assert_eq!((found.funnel.assigned, found.funnel.redeemed), (expected, expected - 10));
    assert_eq!(super::total(&found).unlocked, 3);
}
