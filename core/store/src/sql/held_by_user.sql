-- One page of a user's coupons in the order of their assignment.
--
-- $1 business, $2 user; if not null: $3 book, $4 effective status, $5 and $6 only after this time and code. $7 coupons
-- to examine, $8 coupons to return.
--
-- `examined` numbers the user's coupons after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by c.assigned_at, c.code) as n, c.code, c.book_id, c.status, c.locked_until
  from coupon c
  where c.business_id = $1
    and c.holder = coalesce((select s.stored from stored_user_id s where s.business_id = $1 and s.user_id = $2), $2)
    and (c.assigned_at, c.code) > (coalesce($5::timestamptz, '-infinity'), coalesce($6, ''))
  order by c.assigned_at, c.code
  limit $7),
-- The coupons of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, code from examined
  where ($3::uuid is null or book_id = $3)
    and ($4::coupon_status is null
         or case when status = 'LOCKED' and locked_until <= now() then 'ASSIGNED' else status end = $4)
  limit $8),
-- If the page is short because of the bound, the last coupon examined follows the page's coupons.
place as (
  select n, code, true as is_found from found
  union all
  select n, code, false from examined where n = $7 and (select count(*) from found) < $8)
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, p.is_found as "is_found!"
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.n, p.is_found desc
