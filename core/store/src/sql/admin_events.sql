-- One page of a business's admin events, newest first.
--
-- $1 business; if not null: $2 by this actor, $3 from this time on, $4 before this time, $10 of this kind of object, $11 of this object,
-- $12 this action. Only before the position $5 epoch, $6 transaction, $7 id. $8 events to examine, $9 events to return.
--
-- As in events.sql. The conditions on the business are ranges, and the order begins with it, so that only the index that begins with the
-- business has the order. With an equality the planner may read the index of all businesses.
with examined as materialized (
  select row_number() over (order by e.business_id desc, e.epoch desc, e.tx desc, e.id desc) as n, e.epoch, e.tx, e.id, e.at, e.actor,
         e.subject, e.subject_id, e.action
  from admin_event e
  where e.business_id >= $1 and (e.business_id, e.epoch, e.tx, e.id) < ($1, $5, $6::text::xid8, $7)
  order by e.business_id desc, e.epoch desc, e.tx desc, e.id desc
  limit $8),
-- The events of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, epoch, tx, id from examined
  where ($2::text is null or actor = $2) and ($3::timestamptz is null or at >= $3) and ($4::timestamptz is null or at < $4)
    and ($10::text is null or subject = $10) and ($11::text is null or subject_id = $11) and ($12::text is null or action = $12)
  limit $9),
-- If the page is short because of the bound, the last event examined follows the page's events.
place as (
  select n, epoch, tx, id, true as is_found from found
  union all
  select n, epoch, tx, id, false from examined where n = $8 and (select count(*) from found) < $9)
select e.epoch, e.tx::text as "tx!", e.id, e.at, e.subject, e.subject_id, e.action, e.before, e.after, e.actor, host(e.ip) as ip,
       e.user_agent, e.request_id, p.is_found as "is_found!"
from place p
cross join lateral (select * from admin_event e where e.epoch = p.epoch and e.tx = p.tx and e.id = p.id limit 1) e
order by p.n, p.is_found desc
