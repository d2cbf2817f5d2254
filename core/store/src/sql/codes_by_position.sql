-- One page of a book's codes in the order of their positions.
--
-- $1 business, $2 book; if not null: $3 effective status, $4 only after this code. $5 codes to examine, $6 codes to
-- return.
--
-- `examined` numbers the codes after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by c.position) as n, c.code, c.status, c.locked_until
  from coupon c
  where c.book_id = $2
    and c.position > case when $4::text is null then -1
                          else (select p.position from coupon p where p.business_id = $1 and p.code = $4 and p.book_id = $2) end
  order by c.position
  limit $5),
-- The codes of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, code from examined
  where $3::coupon_status is null
     or case when status = 'LOCKED' and locked_until <= now() then 'ASSIGNED' else status end = $3
  limit $6),
-- If the page is short because of the bound, the last code examined follows the page's codes.
place as (
  select n, code, true as is_found from found
  union all
  select n, code, false from examined where n = $5 and (select count(*) from found) < $6)
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.metadata, c.created_at, now() as "now!", p.is_found as "is_found!"
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.n, p.is_found desc
