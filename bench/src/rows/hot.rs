//! Lock, redeem and random assignment over HTTP, compared with pgbench and the single statement that does
//! the same to one coupon. Each call uses another coupon.

use crate::Result;
use crate::context::Context;
use crate::installation::Holders;
use crate::load::{Call, closed_loop};
use crate::row::{Round, Row, Unit, alternate};
use crate::yardstick::pgbench;

/// HTTP connections.
const CONNECTIONS: u64 = 64;

/// Finds the coupon and the rules of its book. `:n` is the coupon's number.
macro_rules! held {
    () => {
        "with held as (
  select c.business_id, c.code, c.status, c.version, c.redeem_count, b.lock_ttl_seconds, b.max_redeems_per_user
  from coupon c join coupon_book b on b.id = c.book_id
  where c.business_id = (:business)::uuid and c.code = 'B' || lpad((:n)::text, 9, '0') and c.holder = 'u' || (:n)::text
    and c.status in ('ASSIGNED', 'LOCKED') and b.status = 'ACTIVE'
    and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)
  for update of c)"
    };
}

macro_rules! event {
    ($action:literal) => {
        concat!(
            "event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
  select gen_random_uuid(), business_id, book_id, position, version, 'ASSIGNED', status, '",
            $action,
            "', holder, 'pgbench' from done)"
        )
    };
}

const LOCK_STATEMENT: &str = concat!(
    held!(),
    ",
done as (
  update coupon c set status = 'LOCKED', lock_id = gen_random_uuid(), locked_at = now(),
         locked_until = now() + make_interval(secs => h.lock_ttl_seconds), version = h.version + 1
  from held h where c.business_id = h.business_id and c.code = h.code and c.status = 'ASSIGNED' returning c.*),
agenda as (insert into lock_agenda select locked_until, business_id, code, lock_id from done),
delta as (insert into book_delta (book_id, assigned, locked) select book_id, -1, 1 from done),
",
    event!("LOCK"),
    "
select lock_id from done"
);

const REDEEM_STATEMENT: &str = concat!(
    held!(),
    ",
done as (
  update coupon c set status = 'REDEEMED', redeem_count = h.redeem_count + 1, redeemed_at = now(), version = h.version + 1
  from held h where c.business_id = h.business_id and c.code = h.code and h.redeem_count < h.max_redeems_per_user returning c.*),
redemption as (
  insert into redemption (id, business_id, book_id, code, use_number, user_id)
  select gen_random_uuid(), business_id, book_id, code, redeem_count, holder from done),
delta as (insert into book_delta (book_id, assigned, redeemed) select book_id, -1, 1 from done),
",
    event!("REDEEM"),
    "
select redeem_count from done"
);

const ASSIGN_STATEMENT: &str = "with book as (
  select id, max_codes_per_user as cap, floor(random() * next_position)::int as start from coupon_book
  where id = (:book)::uuid and status = 'ACTIVE'),
ahead as materialized (
  select c.business_id, c.code from book cross join lateral (
    select business_id, code from coupon
    where book_id = book.id and is_free and position >= book.start order by position limit 1 for update skip locked) c),
behind as materialized (
  select c.business_id, c.code from book cross join lateral (
    select business_id, code from coupon
    where book_id = book.id and is_free and position < book.start and not exists (select from ahead)
    order by position limit 1 for update skip locked) c),
picked as (select * from ahead union all select * from behind),
quota as (
  insert into user_quota as q (book_id, user_id, held, cap, granted)
  select book.id, 'p' || (:n)::text, 1, cap, 1 from book, picked
  on conflict (book_id, user_id) do update set held = q.held + 1 where q.held < coalesce(excluded.cap, 2147483647)
  returning user_id),
done as (
  update coupon c set status = 'ASSIGNED', holder = quota.user_id, assignment_id = gen_random_uuid(), assigned_at = now(),
         version = c.version + 1
  from picked, quota where c.business_id = picked.business_id and c.code = picked.code and c.is_free returning c.*),
delta as (insert into book_delta (book_id, available, assigned) select book_id, -1, 1 from done),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
  select gen_random_uuid(), business_id, book_id, position, version, 'AVAILABLE', 'ASSIGNED', 'ASSIGN', holder, 'pgbench'
  from done)
select code from done";

pub(crate) const LOCK: Row = Row {
    name: "lock",
    unit: Unit::PerSecond,
    ours: "POST /coupons/{code}/lock, 64 connections",
    yardstick: LOCK_STATEMENT,
    floor: 0.8,
    aim: 1.2,
    measure: |context| Box::pin(measure_held(context, "lock", LOCK_STATEMENT, "LOCKED")),
};

pub(crate) const REDEEM: Row = Row {
    name: "redeem",
    unit: Unit::PerSecond,
    ours: "POST /coupons/{code}/redeem, 64 connections",
    yardstick: REDEEM_STATEMENT,
    floor: 0.8,
    aim: 1.2,
    measure: |context| Box::pin(measure_held(context, "redeem", REDEEM_STATEMENT, "REDEEMED")),
};

pub(crate) const ASSIGN_RANDOM: Row = Row {
    name: "assign_random",
    unit: Unit::PerSecond,
    ours: "POST /assignments/random, 64 connections",
    yardstick: ASSIGN_STATEMENT,
    floor: 0.8,
    aim: 1.2,
    measure: |context| Box::pin(measure_assign(context)),
};

/// Calls on held coupons. Each side of each round uses new coupons.
async fn measure_held(
    context: &Context,
    call: &'static str,
    statement: &'static str,
    status: &'static str,
) -> Result<Vec<Round>> {
    let (installation, calls) = (&context.installation, context.sizes.calls);
    let sides = 1 + 2 * u64::try_from(context.rounds)?;
    let book = installation.book_with_codes(calls * sides, Holders::OneEach).await?;
    let target = installation.target();
    let ours = async |side: u64| {
        let first = book.first_code + side * calls;
        let call = move |n: u64| {
            let body = format!(r#"{{"userId":"u{}"}}"#, first + n);
            Call::post(format!("/api/v1/coupons/B{:09}/{call}", first + n), body)
        };
        closed_loop(&target, CONNECTIONS, calls, call).await
    };
    // This warms up connections, caches and plans.
    ours(0).await?;
    let yardstick = async |round: u64| {
        let first = book.first_code + (2 + 2 * round) * calls;
        pgbench(installation, statement, &book.id, first, calls).await
    };
    let check = async |round: u64| installation.expect_codes(&book.id, status, (3 + 2 * round) * calls).await;
    alternate(context.rounds, async |round| ours(1 + 2 * round).await, yardstick, check).await
}

/// Both sides assign random codes of one book to users without a code.
async fn measure_assign(context: &Context) -> Result<Vec<Round>> {
    let (installation, calls) = (&context.installation, context.sizes.calls);
    let sides = 1 + 2 * u64::try_from(context.rounds)?;
    // The book has twice as many codes as needed, so it never runs out.
    let book = installation.book_with_codes(2 * calls * sides, Holders::Nobody).await?;
    let target = installation.target();
    let ours = async |side: u64| {
        let (first, book) = (side * calls, book.id.clone());
        let call = move |n: u64| {
            let body = format!(r#"{{"couponBookId":"{book}","userId":"h{}"}}"#, first + n);
            Call::post("/api/v1/assignments/random", body)
        };
        closed_loop(&target, CONNECTIONS, calls, call).await
    };
    ours(0).await?;
    let yardstick =
        async |round: u64| pgbench(installation, ASSIGN_STATEMENT, &book.id, round * calls, calls).await;
    let check =
        async |round: u64| installation.expect_codes(&book.id, "ASSIGNED", (3 + 2 * round) * calls).await;
    alternate(context.rounds, async |round| ours(1 + round).await, yardstick, check).await
}
