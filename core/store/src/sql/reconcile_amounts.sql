-- The sums of amounts, by bucket and currency, that differ from those of the redemptions.
--
-- $1 book or null.
with redeemed as (
  select business_id, book_id, stat_bucket_of(at) as bucket_at, currency, 1 as redeemed, amount, discount, 0 as rolled_back,
         0 as rolled_back_amount, 0 as rolled_back_discount
  from redemption where amount is not null and ($1::uuid is null or book_id = $1)
  union all
  select business_id, book_id, stat_bucket_of(rolled_back_at), currency, 0, 0, 0, 1, amount, discount
  from redemption where amount is not null and rolled_back_at is not null and ($1::uuid is null or book_id = $1)
),
recounted as (
  select scope_id, bucket_at, currency, sum(redeemed) as redeemed, sum(amount) as amount, sum(discount) as discount,
         sum(rolled_back) as rolled_back, sum(rolled_back_amount) as rolled_back_amount, sum(rolled_back_discount) as rolled_back_discount
  from redeemed cross join lateral (values (book_id), (business_id)) scope (scope_id)
  where $1::uuid is null or scope_id = $1
  group by 1, 2, 3
),
stored as (
  select scope_id, bucket_at, currency, sum(redeemed) as redeemed, sum(amount) as amount, sum(discount) as discount,
         sum(rolled_back) as rolled_back, sum(rolled_back_amount) as rolled_back_amount, sum(rolled_back_discount) as rolled_back_discount
  from (
    select scope_id, bucket_at, currency, redeemed, amount, discount, rolled_back, rolled_back_amount, rolled_back_discount
    from stat_amount
    union all
    select scope.id, bucket_at, currency, redeemed, amount, discount, rolled_back, rolled_back_amount, rolled_back_discount
    from stat_amount_delta cross join lateral (values (book_id), (business_id)) scope (id)
  ) part
  where $1::uuid is null or scope_id = $1
  group by 1, 2, 3
)
-- A sum above a bigint is reported as the largest one.
select scope_id as "scope_id!", currency || ' ' || v.number as "number!", bucket_at,
       least(coalesce(v.stored, 0), 9223372036854775807)::bigint as "stored!",
       least(coalesce(v.recounted, 0), 9223372036854775807)::bigint as "recounted!"
from stored s full join recounted r using (scope_id, bucket_at, currency)
cross join lateral (values
  ('redemptions', s.redeemed, r.redeemed), ('amount', s.amount, r.amount), ('discount', s.discount, r.discount),
  ('rollbacks', s.rolled_back, r.rolled_back), ('rolled back amount', s.rolled_back_amount, r.rolled_back_amount),
  ('rolled back discount', s.rolled_back_discount, r.rolled_back_discount)) v (number, stored, recounted)
where coalesce(v.stored, 0) <> coalesce(v.recounted, 0)
order by 1, 3, 2
