-- The counts and stages of books that differ from those of their codes.
--
-- $1 book or null.
with recounted as (
  select book_id, count(*) as generated, count(*) filter (where status = 'AVAILABLE') as available,
         count(*) filter (where status = 'ASSIGNED') as assigned, count(*) filter (where status = 'LOCKED') as locked,
         count(*) filter (where status = 'REDEEMED') as redeemed, count(*) filter (where status = 'VOID') as void,
         count(*) filter (where holder is not null) as ever_assigned, count(*) filter (where was_locked) as ever_locked,
         count(*) filter (where redeem_count > 0) as used
  from coupon where $1::uuid is null or book_id = $1
  group by book_id
),
counted as (
  select book_id, sum(generated) as generated, sum(available) as available, sum(assigned) as assigned, sum(locked) as locked,
         sum(redeemed) as redeemed, sum(void) as void
  from (select book_id, generated, available, assigned, locked, redeemed, void from book_count
        union all
        select book_id, generated, available, assigned, locked, redeemed, void from book_delta) part
  group by book_id
),
stage as (
  select book_id, sum(assigned - revoked) as ever_assigned, sum(ever_locked) as ever_locked, sum(used) as used
  from (select scope_id as book_id, assigned, revoked, ever_locked, used from stat_bucket
        union all
        select book_id, assigned, revoked, ever_locked, used from stat_delta) part
  group by book_id
)
select b.id as "scope_id!", v.number as "number!", null::timestamptz as bucket_at, coalesce(v.stored, 0)::bigint as "stored!",
       coalesce(v.recounted, 0)::bigint as "recounted!"
from coupon_book b
left join recounted r on r.book_id = b.id
left join counted c on c.book_id = b.id
left join stage s on s.book_id = b.id
cross join lateral (values
  ('codes', c.generated, r.generated), ('available codes', c.available, r.available), ('assigned codes', c.assigned, r.assigned),
  ('locked codes', c.locked, r.locked), ('redeemed codes', c.redeemed, r.redeemed), ('void codes', c.void, r.void),
  ('codes ever assigned', s.ever_assigned, r.ever_assigned), ('codes ever locked', s.ever_locked, r.ever_locked),
  ('codes with a use', s.used, r.used)) v (number, stored, recounted)
where ($1::uuid is null or b.id = $1) and coalesce(v.stored, 0) <> coalesce(v.recounted, 0)
order by 1, 2
