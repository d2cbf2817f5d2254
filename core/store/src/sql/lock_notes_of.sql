-- The locks of these coupons. Unknown coupons have no lock and version `i32::MAX`. $1 businesses, $2 codes.
select i.business_id as "business_id!", i.code as "code!", coalesce(c.version, 2147483647) as "version!", c.lock_id as "lock_id?",
       c.holder as "holder?", c.locked_until as "locked_until?"
from unnest($1::uuid[], $2::text[]) i (business_id, code)
left join lateral (
  select version, lock_id, holder, locked_until from coupon c
  where c.business_id = i.business_id and c.code = i.code collate "C") c on true
