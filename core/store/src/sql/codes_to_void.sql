-- The next codes of a book that a bulk void takes: those of the filter that are neither redeemed nor void, among the next codes by
-- position. Returns the codes, how many others of the filter are redeemed, the position up to which codes were examined, and
-- whether there are no more.
--
-- $1 book, $2 first position, $3 first position after the last; if not null: $4 effective status, $5 prefix, $6 created before,
-- $7 job that created them. $8: end at the first code of another job. $9 codes to examine, $10 codes to return.
with examined as materialized (
  select c.code, c.position, c.status, c.job_id is distinct from $7 as is_of_other_job,
         (case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end
            = coalesce($4::coupon_status, case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end)
          and ($5::text is null or starts_with(c.code, $5)) and ($6::timestamptz is null or c.created_at < $6)
          and ($7::uuid is null or c.job_id = $7)) as is_match
  from coupon c
  where c.book_id = $1 and c.position >= $2 and c.position < $3
  order by c.position
  limit $9),
-- The first position of another job.
foreign_code as materialized (
  select case when $8::bool then min(position) filter (where is_of_other_job) end as position from examined),
found as materialized (
  select code, position from examined
  where is_match and status in ('AVAILABLE', 'ASSIGNED', 'LOCKED')
    and position < coalesce((select position from foreign_code), 2147483647)
  order by position
  limit $10),
-- Where this piece ends.
piece as (
  select case when (select count(*) from found) = $10 then (select max(position) from found)
              else (select max(position) from examined) end as last,
         (select count(*) from found) < $10
           and ((select count(*) from examined) < $9 or (select position from foreign_code) is not null) as is_last)
select array(select code from found order by code) as "codes!", p.last, p.is_last as "is_last!",
       (select count(*) from examined e where e.is_match and e.status = 'REDEEMED' and e.position <= p.last) as "redeemed!"
from piece p
