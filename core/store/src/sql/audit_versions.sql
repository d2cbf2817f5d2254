-- Coupons that lack the events of some versions, or have several of one: at most 100, of one book if $1 is not null.
--
-- The events of a coupon are numbered by its version from 1 on. Reads the whole log, so it is run only after a finding.
with numbered as (
  select book_id, position, version, lag(version, 1, 0) over (partition by book_id, position order by version) as before
  from coupon_event where $1::uuid is null or book_id = $1),
last as (select book_id, position, max(version) as version from numbered group by book_id, position),
fault as (
  select book_id, position, before + 1 as first, version - 1 as last from numbered where version > before + 1
  union all
  select book_id, position, version, null from numbered where version = before
  union all
  select c.book_id, c.position, coalesce(l.version, 0) + 1, c.version
  from coupon c left join last l on l.book_id = c.book_id and l.position = c.position
  where c.version > coalesce(l.version, 0) and ($1::uuid is null or c.book_id = $1))
select book_id as "book_id!", position as "position!", first as "first!", last
from fault order by book_id, position, first limit 100
