-- One page of a user's coupons in the order of their assignment, and of the SHARED codes that the user has redeemed or locked, at the time of the
-- first of these.
--
-- $1 business, $2 user; if not null: $3 book, $4 effective status, $5 and $6 only after this time and code. $7 coupons
-- to examine, $8 coupons to return.
with named as materialized (
  select coalesce((select s.stored from stored_user_id s where s.business_id = $1 and s.user_id = $2), $2) as user_id
),
-- `examined` numbers the user's coupons after the cursor. Postgres reads only the rows of it that the parts below need: it merges two indexes.
examined as materialized (
  select row_number() over (order by m.at, m.code) as n, m.*
  from (
    (select c.assigned_at as at, c.code, c.book_id, c.status, c.locked_until, null::int as used
     from coupon c
     where c.business_id = $1 and c.holder = (select user_id from named)
       and (c.assigned_at, c.code) > (coalesce($5::timestamptz, '-infinity'), coalesce($6, ''))
     order by c.assigned_at, c.code
     limit $7)
    union all
    (select s.first_at, s.code, s.book_id, null, case when s.lock_id is not null and s.locked_until > now() then s.locked_until end, s.used
     from shared_use s
     where s.business_id = $1 and s.user_id = (select user_id from named)
       and (s.first_at, s.code) > (coalesce($5::timestamptz, '-infinity'), coalesce($6, ''))
     order by s.first_at, s.code
     limit $7)) m
  order by m.at, m.code
  limit $7),
-- The coupons of the page. A CTE is read in its order; an explicit `order by` would read all of it first. A SHARED code without a use and a live
-- lock is not listed.
found as materialized (
  select n, at, code, used, locked_until from examined e
  where ($3::uuid is null or book_id = $3)
    and (used is null or used > 0 or locked_until is not null)
    and ($4::coupon_status is null
         or case when used is not null then (select o.status from coupon o where o.business_id = $1 and o.code = e.code)
                 when status = 'LOCKED' and locked_until <= now() then 'ASSIGNED' else status end = $4)
  limit $8),
-- If the page is short because of the bound, the last coupon examined follows the page's coupons.
place as (
  select n, at, code, used, locked_until, true as is_found from found
  union all
  select n, at, code, used, locked_until, false from examined where n = $7 and (select count(*) from found) < $8)
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, p.is_found as "is_found!",
       p.at as "at!", p.used, p.locked_until as own_locked_until
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.n, p.is_found desc
