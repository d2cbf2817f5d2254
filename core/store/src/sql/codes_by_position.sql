-- One page of a book's codes in the order of their positions.
--
-- $1 business, $2 book; if not null: $3 effective status, $4 only after this code. $5 first position, $6 first position after the
-- last. If not null: $7 job that created them, $8 assigned from this time on, $9 assigned before, $10 redeemed from this time on,
-- $11 redeemed before. $12 codes to examine, $13 codes to return.
--
-- `examined` numbers the codes after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by c.position) as n, c.code, c.status, c.locked_until, c.job_id, c.assigned_at, c.redeemed_at
  from coupon c
  where c.book_id = $2 and c.position >= $5 and c.position < $6
    and c.position > case when $4::text is null then -1
                          else (select p.position from coupon p where p.business_id = $1 and p.code = $4 and p.book_id = $2) end
  order by c.position
  limit $12),
-- The codes of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, code from examined
  where ($3::coupon_status is null
         or case when status = 'LOCKED' and locked_until <= now() then 'ASSIGNED' else status end = $3)
    and ($7::uuid is null or job_id = $7)
    and ($8::timestamptz is null or assigned_at >= $8) and ($9::timestamptz is null or assigned_at < $9)
    and ($10::timestamptz is null or redeemed_at >= $10) and ($11::timestamptz is null or redeemed_at < $11)
  limit $13),
-- If the page is short because of the bound, the last code examined follows the page's codes.
place as (
  select n, code, true as is_found from found
  union all
  select n, code, false from examined where n = $12 and (select count(*) from found) < $13)
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, p.is_found as "is_found!",
       c.job_id
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.n, p.is_found desc
