//! Upgrades a large installation of an earlier version while its programs write: 10 million codes, events and
//! redemptions in `make soak`, a few thousand in `make test`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cuponera_testkit::{Dump, TestDatabase, bound, is_soak};
use sqlx::{Connection, PgConnection, query, query_scalar};

/// Redeems one of the planted codes with the same rows as the earlier version.
const REDEEM: &str = "
    with used as (
      update coupon set status = 'REDEEMED', redeem_count = 1, redeemed_at = now(), version = version + 1
      where business_id = (select business_id from coupon_book limit 1) and code = $1 and status = 'ASSIGNED' returning *),
    redemption as (
      insert into redemption (id, business_id, book_id, code, use_number, user_id)
      select gen_random_uuid(), business_id, book_id, code, 1, holder from used),
    event as (
      insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
      select gen_random_uuid(), business_id, book_id, position, version, 'ASSIGNED', 'REDEEMED', 'REDEEM', holder, 'soak' from used),
    delta as (insert into book_delta (book_id, assigned, redeemed) select book_id, -1, 1 from used),
    key as (insert into request_key (id, fingerprint, answer) select gen_random_uuid(), gen_random_uuid(), '{}' from used)
    select count(*) from used";

/// Plants held codes, each with its event and a redemption of an earlier use, and stored answers.
const PLANT: &str = "
    with book as (select id, business_id from coupon_book limit 1),
    code as (select n, 'BULK' || lpad(n::text, 10, '0') as code from generate_series(1, $1::int) n),
    planted as (
      insert into coupon (business_id, book_id, job_id, assignment_id, assigned_at, position, version, status, code, holder)
      select business_id, id, gen_random_uuid(), gen_random_uuid(), now(), 100000000 + n, 1, 'ASSIGNED', code, 'user-' || n % 100000
      from book, code),
    redemption as (
      insert into redemption (id, business_id, book_id, code, use_number, user_id, reference)
      select gen_random_uuid(), business_id, id, code, 1, 'user-' || n % 100000, 'order-' || n from book, code),
    key as (
      insert into request_key (id, fingerprint, answer) select gen_random_uuid(), gen_random_uuid(), '{}' from code where n % 10 = 0)
    insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
    select gen_random_uuid(), business_id, id, 100000000 + n, 1, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', 'user-' || n % 100000, 'soak'
    from book, code";

/// Writes until `is_over`; returns the number of writes and the duration of the slowest.
async fn write(database: &TestDatabase, writer: i64, is_over: &AtomicBool) -> (i64, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !is_over.load(Ordering::Relaxed) {
        let code = format!("BULK{:010}", 1 + writer + 2 * count);
        let begun = Instant::now();
        let used: i64 =
            query_scalar(REDEEM).bind(code).fetch_one(database.pool()).await.expect("a redemption failed");
        slowest = slowest.max(begun.elapsed());
        count += used;
    }
    (count, slowest)
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_while_a_large_installation_is_upgraded() {
    let codes = if is_soak() { 10_000_000 } else { 5_000 };
    let database = TestDatabase::from_dump(&Dump::read("v0.1.0-0007")).await;
    let begun = Instant::now();
    // A separate connection without a statement timeout.
    let mut alone = PgConnection::connect(database.url()).await.expect("cannot connect to the database");
    query(PLANT).bind(codes).execute(&mut alone).await.expect("planting failed");
    alone.close().await.expect("closing the connection failed");
    println!("{codes} codes, events and redemptions were planted in {:?}", begun.elapsed());
    let is_over = AtomicBool::new(false);
    let upgrade = async {
        let begun = Instant::now();
        database.store().migrate().await.expect("a migration failed");
        let migrated = begun.elapsed();
        database.store().build_indexes().await.expect("cannot build the indexes");
        is_over.store(true, Ordering::Relaxed);
        println!("migrated in {migrated:?}; with all indexes in {:?}", begun.elapsed());
    };
    let ((), one, other) =
        tokio::join!(upgrade, write(&database, 0, &is_over), write(&database, 1, &is_over));
    let (count, slowest) = (one.0 + other.0, one.1.max(other.1));
    println!("{count} concurrent writes, the slowest took {slowest:?}");
    assert!(count > 10);
    assert!(slowest < bound(Duration::from_secs(1), Duration::from_secs(3)), "a write took {slowest:?}");
    let valid = "select not exists (select from pg_index where not indisvalid)";
    assert!(query_scalar::<_, bool>(valid).fetch_one(database.pool()).await.expect("the query failed"));
}
