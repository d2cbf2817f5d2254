-- The times from assignment to first redemption, by bucket, that differ from those of the redemptions.
--
-- $1 book or null.
with redeemed as (
  select r.business_id, r.book_id, stat_bucket_of(r.at) as bucket_at, redeem_time_step(r.at - c.assigned_at) as step, count(*) as redeemed
  from redemption r join coupon c on c.business_id = r.business_id and c.code = r.code
  where r.use_number = 1 and c.assigned_at is not null and ($1::uuid is null or r.book_id = $1)
  group by 1, 2, 3, 4
),
recounted as (
  select scope_id, bucket_at, step, sum(redeemed) as redeemed
  from redeemed cross join lateral (values (book_id), (business_id)) scope (scope_id)
  where $1::uuid is null or scope_id = $1
  group by 1, 2, 3
),
stored as (
  select scope_id, bucket_at, step, sum(redeemed) as redeemed
  from (
    select scope_id, bucket_at, step, redeemed from redeem_time
    union all
    select scope.id, bucket_at, step, redeemed
    from redeem_time_delta cross join lateral (values (book_id), (business_id)) scope (id)
  ) part
  where $1::uuid is null or scope_id = $1
  group by 1, 2, 3
)
select scope_id as "scope_id!", 'first redemptions after 1.05^' || step || ' s' as "number!", bucket_at,
       coalesce(s.redeemed, 0)::bigint as "stored!", coalesce(r.redeemed, 0)::bigint as "recounted!"
from stored s full join recounted r using (scope_id, bucket_at, step)
where coalesce(s.redeemed, 0) <> coalesce(r.redeemed, 0)
order by 1, 3, step
