//! Admin events as a log: their order, and their epoch.

use cuponera_store::EventCursor;
use cuponera_testkit::World;
use sqlx::{PgPool, query, query_as, query_scalar};
use uuid::Uuid;

use crate::user_pool::new_pool;

/// The positions of all admin events.
async fn positions(pool: &PgPool) -> Vec<EventCursor> {
    let rows: Vec<(i16, String, Uuid)> =
        query_as("select epoch, tx::text, id from admin_event order by epoch, tx, id")
            .fetch_all(pool)
            .await
            .unwrap();
    rows.into_iter().map(|(epoch, tx, id)| EventCursor { epoch, tx: tx.parse().unwrap(), id }).collect()
}

#[tokio::test]
async fn events_of_one_transaction_are_in_the_order_of_the_changes() {
    let world = World::new().await;
    let pool = new_pool(&world, "0").await;
    let mut transaction = world.pool().begin().await.unwrap();
    for name in 1..100 {
        query("update user_pool set name = $2 where id = $1")
            .bind(pool.0)
            .bind(name.to_string())
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
    let names: Vec<String> = query_scalar(
        "select after ->> 'name' from admin_event where subject = 'POOL' order by epoch, tx, id",
    )
    .fetch_all(world.pool())
    .await
    .unwrap();
    assert_eq!(names, (0..100).map(|name: i32| name.to_string()).collect::<Vec<_>>());
    let versions: Vec<i16> =
        query_scalar("select distinct get_byte(uuid_send(id), 6)::int2 >> 4 from admin_event")
            .fetch_all(world.pool())
            .await
            .unwrap();
    assert_eq!(versions, [7]);
}

/// Only admin events show that the database was restored.
#[tokio::test]
async fn after_a_restore_from_a_dump_admin_events_belong_to_a_new_epoch() {
    let world = World::new().await;
    new_pool(&world, "Before").await;
    query("update admin_event set tx = (tx::text::bigint + 1000000)::text::xid8")
        .execute(world.pool())
        .await
        .unwrap();
    for _ in 0..2 {
        world.store().begin_epoch_if_restored().await.unwrap();
    }
    let last = *positions(world.pool()).await.last().unwrap();
    new_pool(&world, "After").await;
    let after = *positions(world.pool()).await.last().unwrap();
    assert_eq!((last.epoch, after.epoch), (1, 2));
    assert!(after > last && after.tx < last.tx);
    // An event of a code, and a redemption, begin with the same epoch.
    let code = &world.insert_codes(1).await[0];
    world.give(code, "ann").await;
    let epochs: (i16, i64) =
        query_as("select max(epoch), (select count(*) from event_epoch) from coupon_event")
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!(epochs, (2, 2));
}
