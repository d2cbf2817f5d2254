-- How many codes of a book are in each effective status, of those that a bulk void would look at.
--
-- $1 book, $2 first position, $3 first position after the last; if not null: $4 effective status, $5 prefix, $6 created before,
-- $7 job that created them. $8 codes to examine.
select count(*) filter (where status = 'AVAILABLE') as "available!", count(*) filter (where status = 'ASSIGNED') as "assigned!",
       count(*) filter (where status = 'LOCKED') as "locked!", count(*) filter (where status = 'REDEEMED') as "redeemed!",
       count(*) filter (where status = 'VOID') as "void!"
from (
  select case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end as status, c.code, c.created_at, c.job_id
  from coupon c
  where c.book_id = $1 and c.position >= $2 and c.position < $3
  order by c.position
  limit $8) c
where ($4::coupon_status is null or status = $4) and ($5::text is null or starts_with(code, $5))
  and ($6::timestamptz is null or created_at < $6) and ($7::uuid is null or job_id = $7)
