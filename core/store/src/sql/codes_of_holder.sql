-- One page of the codes of a book that a user holds or has redeemed, in the order of their assignment.
--
-- $1 business, $2 book, $3 user; if not null: $4 effective status, $5 prefix, $6 job that created them, $7 assigned from this time on,
-- $8 assigned before, $9 redeemed from this time on, $10 redeemed before, $11 and $12 only after this time and code. $13 coupons to
-- examine, $14 coupons to return.
--
-- `examined` numbers the user's coupons of all books after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by c.assigned_at, c.code) as n, c.code, c.book_id, c.status, c.locked_until, c.job_id, c.redeemed_at
  from coupon c
  where c.business_id = $1
    and c.holder = coalesce((select s.stored from stored_user_id s where s.business_id = $1 and s.user_id = $3), $3)
    and (c.assigned_at, c.code) > (coalesce($11::timestamptz, '-infinity'), coalesce($12, ''))
    and c.assigned_at >= coalesce($7::timestamptz, '-infinity') and c.assigned_at < coalesce($8::timestamptz, 'infinity')
  order by c.assigned_at, c.code
  limit $13),
-- The coupons of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, code from examined
  where book_id = $2
    and ($4::coupon_status is null
         or case when status = 'LOCKED' and locked_until <= now() then 'ASSIGNED' else status end = $4)
    and ($5::text is null or starts_with(code, $5)) and ($6::uuid is null or job_id = $6)
    and ($9::timestamptz is null or redeemed_at >= $9) and ($10::timestamptz is null or redeemed_at < $10)
  limit $14),
-- If the page is short because of the bound, the last coupon examined follows the page's coupons.
place as (
  select n, code, true as is_found from found
  union all
  select n, code, false from examined where n = $13 and (select count(*) from found) < $14)
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, p.is_found as "is_found!"
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.n, p.is_found desc
