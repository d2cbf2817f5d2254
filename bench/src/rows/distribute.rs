//! A distribution, from submission to SUCCEEDED, compared with one statement that gives the same number of codes to the same users.

use std::time::Instant;

use serde_json::json;
use sqlx::{query, query_scalar};

use crate::Result;
use crate::context::Context;
use crate::installation::{Holders, Installation};
use crate::row::{Round, Row, Unit, alternate};
use crate::yardstick::psql;

/// Codes for each user: those of most users, and one more for the others, as the sizes divide.
const CODES_PER_TEN_USERS: u64 = 25;

const STATEMENT: &str = "with picked as (
  select code, row_number() over (order by position) - 1 as n from coupon where book_id = :book and is_free),
members as (
  select user_id, row_number() over (order by user_id) - 1 as n from pool_member where pool_id = :pool),
done as (
  update coupon c set status = 'ASSIGNED', holder = m.user_id, assignment_id = gen_random_uuid(), assigned_at = now(),
         version = c.version + 1
  from picked p join members m on m.n = p.n % (select count(*) from members)
  where c.business_id = :business and c.code = p.code and c.is_free returning c.*),
quota as (
  insert into user_quota as q (book_id, user_id, held, granted)
  select book_id, holder, count(*), count(*) from done group by book_id, holder
  on conflict (book_id, user_id) do update set held = q.held + excluded.held),
delta as (
  insert into book_delta (book_id, available, assigned) select book_id, -count(*), count(*) from done group by book_id)
insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
select gen_random_uuid(), business_id, book_id, position, version, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', holder, 'psql' from done";

pub(crate) const DISTRIBUTE: Row = Row {
    name: "distribute",
    unit: Unit::Seconds,
    ours: "POST /user-pools/{id}/distributions of 250,000 codes to 100,000 users (quick: a fifth), to SUCCEEDED",
    yardstick: STATEMENT,
    floor: 0.5,
    aim: 0.8,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let (installation, codes) = (&context.installation, context.sizes.distributed);
    installation.empty_coupons().await?;
    let pool = plant_pool(installation, codes * 10 / CODES_PER_TEN_USERS).await?;
    let planted = async || {
        let book = installation.book_with_codes(codes, Holders::Nobody).await?;
        Result::Ok(book.id)
    };
    let ours = async |_| {
        let book = planted().await?;
        let begun = Instant::now();
        let request = json!({ "couponBookId": book, "mode": "EQUAL", "totalCodes": codes });
        installation.run_job(&format!("/user-pools/{pool}/distributions"), &request).await?;
        let seconds = begun.elapsed().as_secs_f64();
        installation.expect_codes(&book, "ASSIGNED", codes).await?;
        Ok(seconds)
    };
    let yardstick = async |_| {
        let book = planted().await?;
        let statement = STATEMENT
            .replace(":book", &format!("'{book}'"))
            .replace(":pool", &format!("'{pool}'"))
            .replace(":business", &format!("'{}'", installation.business));
        let begun = Instant::now();
        psql(installation, &statement).await?;
        let seconds = begun.elapsed().as_secs_f64();
        installation.expect_codes(&book, "ASSIGNED", codes).await?;
        Ok(seconds)
    };
    alternate(context.rounds, ours, yardstick, async |_| Ok(())).await
}

/// Creates a pool by SQL; returns its id.
async fn plant_pool(installation: &Installation, members: u64) -> Result<String> {
    let pool: String = query_scalar(
        "with pool as (
           insert into user_pool (id, business_id, name, member_count)
           values (gen_random_uuid(), $1::uuid, 'Bench', $2) returning id),
         members as (
           insert into pool_member (pool_id, user_id) select pool.id, 'm' || n from pool, generate_series(1, $2) n)
         select id::text from pool",
    )
    .bind(&installation.business)
    .bind(i64::try_from(members)?)
    .fetch_one(&installation.pool)
    .await?;
    query("vacuum analyze pool_member").execute(&installation.pool).await?;
    Ok(pool)
}
