-- The sums of events by interval: of the buckets and of the rows that are not in them yet, in one snapshot.
--
-- $1 book or business; $2 the times at which the intervals begin, and the end of the last one.
with part as (
  select bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back, voided
  from stat_bucket where scope_id = $1 and bucket_at >= ($2::timestamptz[])[1] and bucket_at < ($2::timestamptz[])[cardinality($2)]
  union all
  select bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back, voided
  from stat_delta where (book_id = $1 or business_id = $1)
    and bucket_at >= ($2::timestamptz[])[1] and bucket_at < ($2::timestamptz[])[cardinality($2)]
)
select width_bucket(bucket_at, $2::timestamptz[]) as "interval!", sum(assigned)::bigint as "assigned!", sum(locked)::bigint as "locked!",
       sum(unlocked)::bigint as "unlocked!", sum(lock_expired)::bigint as "lock_expired!", sum(redeemed)::bigint as "redeemed!",
       sum(revoked)::bigint as "revoked!", sum(rolled_back)::bigint as "rolled_back!", sum(voided)::bigint as "voided!"
from part group by 1
