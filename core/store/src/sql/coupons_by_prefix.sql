-- One page of a business's coupons with a prefix, in byte order.
--
-- $1 business, $2 only of these books, if not null, $3 prefix, $4 the first text after all texts with the prefix, $5 only after this
-- code, if not null. $6 coupons to examine, $7 coupons to return.
--
-- `examined` numbers the business's codes with the prefix. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by c.code) as n, c.code, c.book_id
  from coupon c
  where c.business_id = $1 and c.code >= $3 and c.code < $4 and c.code > coalesce($5, '')
  order by c.code
  limit $6),
-- The coupons of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, code from examined where $2::uuid[] is null or book_id = any ($2) limit $7),
-- If the page is short because of the bound, the last coupon examined follows the page's coupons.
place as (
  select n, code, true as is_found from found
  union all
  select n, code, false from examined where n = $6 and (select count(*) from found) < $7)
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!", p.is_found as "is_found!"
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.n, p.is_found desc
