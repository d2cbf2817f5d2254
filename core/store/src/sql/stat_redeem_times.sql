-- The first redemptions of a window by the time since the assignment of their codes.
--
-- $1 book or business, $2 begin, $3 end.
select step as "step!", sum(redeemed)::bigint as "redeemed!"
from (
  select step, redeemed from redeem_time where scope_id = $1 and bucket_at >= $2 and bucket_at < $3
  union all
  select step, redeemed from redeem_time_delta where (book_id = $1 or business_id = $1) and bucket_at >= $2 and bucket_at < $3
) part
group by step
