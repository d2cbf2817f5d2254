-- One page of a business's events, newest first.
--
-- $1 business; if not null: $2 only of these books, $3 of this user, $4 this action, $5 by this actor, $6 from this time on, $7 before
-- this time. Only before the position $8 epoch, $9 transaction, $10 id. $11 events to examine, $12 events to return.
--
-- `examined` numbers the events of all businesses before the position. Postgres reads only the rows of it that the parts below need. It
-- has no condition on `at`: the planner would expect few rows, and sort a whole month instead of reading the index in its order.
with examined as materialized (
  select row_number() over (order by e.epoch desc, e.tx desc, e.id desc) as n, e.epoch, e.tx, e.id, e.at, e.business_id, e.book_id,
         e.user_id, e.action, e.actor
  from coupon_event e
  where (e.epoch, e.tx, e.id) < ($8, $9::text::xid8, $10)
  order by e.epoch desc, e.tx desc, e.id desc
  limit $11),
-- The events of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, epoch, tx, id, at from examined
  where business_id = $1 and ($2::uuid[] is null or book_id = any ($2))
    and ($3::text is null
         or user_id = coalesce((select s.stored from stored_user_id s where s.business_id = $1 and s.user_id = $3), $3))
    and ($4::text is null or action = $4) and ($5::text is null or actor = $5)
    and ($6::timestamptz is null or at >= $6) and ($7::timestamptz is null or at < $7)
  limit $12),
-- If the page is short because of the bound, the last event examined follows the page's events.
place as (
  select n, epoch, tx, id, at, true as is_found from found
  union all
  select n, epoch, tx, id, at, false from examined where n = $11 and (select count(*) from found) < $12)
select e.epoch, e.tx::text as "tx!", e.id, e.at, e.business_id, e.book_id, e.position, e.version,
       e.from_status as "from_status: StoredStatus", e.to_status as "to_status: StoredStatus", e.action, e.user_id, e.redeem_count, e.reason,
       e.actor, host(e.ip) as ip, e.user_agent, e.request_id, c.code as "code?", p.is_found as "is_found!"
from place p
cross join lateral (
  select * from coupon_event e where e.epoch = p.epoch and e.tx = p.tx and e.id = p.id and e.at = p.at limit 1) e
left join lateral (select c.code from coupon c where c.book_id = e.book_id and c.position = e.position limit 1) c on true
order by p.n, p.is_found desc
