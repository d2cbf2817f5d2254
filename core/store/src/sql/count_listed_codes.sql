-- How many of the listed codes are in each effective status, how many do not exist, and the books of those that exist.
--
-- $1 business, $2 codes, each once.
select count(*) filter (where status = 'AVAILABLE') as "available!", count(*) filter (where status = 'ASSIGNED') as "assigned!",
       count(*) filter (where status = 'LOCKED') as "locked!", count(*) filter (where status = 'REDEEMED') as "redeemed!",
       count(*) filter (where status = 'VOID') as "void!", count(*) filter (where status is null) as "not_found!",
       coalesce(array_agg(distinct book_id) filter (where book_id is not null), '{}') as "books!"
from (
  select case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end as status, c.book_id
  from unnest($2::text[]) i (code)
  left join coupon c on c.business_id = $1 and c.code = i.code collate "C") listed
