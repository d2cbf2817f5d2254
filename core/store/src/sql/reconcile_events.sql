-- The buckets of books and businesses that differ from their events. Buckets before the oldest month that is not archived have no events to
-- compare with.
--
-- $1 book or null.
with kept as materialized (
  select coupon_events_kept_from() as begin
),
event as (
  select business_id, book_id, stat_bucket_of(at) as bucket_at, count(*) filter (where action = 'ASSIGN') as assigned,
         count(*) filter (where action = 'LOCK' and from_status <> 'LOCKED' and reason is null) as locked,
         count(*) filter (where action = 'UNLOCK') as unlocked, count(*) filter (where action = 'EXPIRE') as lock_expired,
         count(*) filter (where action = 'REDEEM') as redeemed, count(*) filter (where action = 'REVOKE') as revoked,
         count(*) filter (where action = 'ROLLBACK') as rolled_back, count(*) filter (where action = 'VOID') as voided
  from coupon_event where at >= (select begin from kept) and ($1::uuid is null or book_id = $1)
  group by 1, 2, 3
),
recounted as (
  select scope_id, bucket_at, sum(assigned) as assigned, sum(locked) as locked, sum(unlocked) as unlocked,
         sum(lock_expired) as lock_expired, sum(redeemed) as redeemed, sum(revoked) as revoked, sum(rolled_back) as rolled_back,
         sum(voided) as voided
  from event cross join lateral (values (book_id), (business_id)) scope (scope_id)
  where $1::uuid is null or scope_id = $1
  group by 1, 2
),
stored as (
  select scope_id, bucket_at, sum(assigned) as assigned, sum(locked) as locked, sum(unlocked) as unlocked,
         sum(lock_expired) as lock_expired, sum(redeemed) as redeemed, sum(revoked) as revoked, sum(rolled_back) as rolled_back,
         sum(voided) as voided
  from (
    select scope_id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back, voided from stat_bucket
    union all
    select scope.id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back, voided
    from stat_delta cross join lateral (values (book_id), (business_id)) scope (id)
  ) part
  where bucket_at >= (select begin from kept) and ($1::uuid is null or scope_id = $1)
  group by 1, 2
)
select scope_id as "scope_id!", v.number as "number!", bucket_at, coalesce(v.stored, 0)::bigint as "stored!",
       coalesce(v.recounted, 0)::bigint as "recounted!"
from stored s full join recounted r using (scope_id, bucket_at)
cross join lateral (values
  ('assigned', s.assigned, r.assigned), ('locked', s.locked, r.locked), ('unlocked', s.unlocked, r.unlocked),
  ('lock expired', s.lock_expired, r.lock_expired), ('redeemed', s.redeemed, r.redeemed), ('revoked', s.revoked, r.revoked),
  ('rolled back', s.rolled_back, r.rolled_back), ('voided', s.voided, r.voided)) v (number, stored, recounted)
where coalesce(v.stored, 0) <> coalesce(v.recounted, 0)
order by 1, 3, 2
