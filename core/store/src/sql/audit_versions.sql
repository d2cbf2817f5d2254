-- Coupons that lack the events of some versions, or have several of one: at most 100, of one book if $1 is not null.
--
-- The events of a coupon are numbered by its version from 1 on. The first events of a coupon that is older than the log may be archived: its
-- numbers begin with its first event. Reads the whole log, so it is run only after a finding.
with kept as materialized (
  select coupon_events_kept_from() as begin),
numbered as (
  select e.book_id, e.position, e.version, lag(e.version) over (partition by e.book_id, e.position order by e.version) as before
  from coupon_event e where $1::uuid is null or e.book_id = $1),
first as (select book_id, position, version from numbered where before is null),
last as (select book_id, position, max(version) as version from numbered group by book_id, position),
fault as (
  select book_id, position, before + 1 as first, version - 1 as last from numbered where version > before + 1
  union all
  select book_id, position, version, null from numbered where version = before
  union all
  select f.book_id, f.position, 1, f.version - 1
  from first f left join coupon c on c.book_id = f.book_id and c.position = f.position
  where f.version > 1 and coalesce(c.created_at, 'infinity') >= (select begin from kept)
  union all
  select c.book_id, c.position, coalesce(l.version, 0) + 1, c.version
  from coupon c left join last l on l.book_id = c.book_id and l.position = c.position
  where c.version > coalesce(l.version, 0) and ($1::uuid is null or c.book_id = $1)
    and (l.version is not null or c.created_at >= (select begin from kept)))
select book_id as "book_id!", position as "position!", first as "first!", last
from fault order by book_id, position, first limit 100
