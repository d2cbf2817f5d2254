-- One page of a user's redemptions, newest first.
--
-- $1 business, $9 user; if not null: $2 book, $3 from this time on, $4 before this time, $5 and $6 only before this time and id.
-- $7 redemptions to examine, $8 redemptions to return.
--
-- `examined` numbers the redemptions after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by r.at desc, r.id desc) as n, r.id, r.book_id
  from redemption r
  where r.business_id = $1 and r.user_id = coalesce((select s.stored from stored_user_id s where s.business_id = $1 and s.user_id = $9), $9)
    and r.at >= coalesce($3::timestamptz, '-infinity') and r.at < coalesce($4::timestamptz, 'infinity')
    and (r.at, r.id) < (coalesce($5::timestamptz, 'infinity'), coalesce($6::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
  order by r.at desc, r.id desc
  limit $7),
-- The redemptions of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, id from examined where $2::uuid is null or book_id = $2 limit $8),
-- If the page is short because of the bound, the last redemption examined follows the page's redemptions.
place as (
  select n, id, true as is_found from found
  union all
  select n, id, false from examined where n = $7 and (select count(*) from found) < $8)
select r.id, r.code, r.book_id, r.user_id, r.use_number, r.reference, r.metadata, r.at, r.rolled_back_at,
       r.amount, r.discount, r.currency as "currency: StoredCurrency", p.is_found as "is_found!"
from place p
cross join lateral (select * from redemption r where r.id = p.id limit 1) r
order by p.n, p.is_found desc
