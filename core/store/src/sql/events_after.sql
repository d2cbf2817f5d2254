-- Events after a position, in order, with their codes. Stops at the oldest transaction that still runs, because it may still write
-- events with lower positions than those of later transactions.
--
-- $1 epoch, $2 transaction, $3 id, $4 limit.
select e.epoch, e.tx::text as "tx!", e.id, e.at, e.business_id, e.book_id, e.position, e.version,
       e.from_status as "from_status: StoredStatus", e.to_status as "to_status: StoredStatus", e.action, e.user_id, e.redeem_count, e.reason,
       e.actor, host(e.ip) as ip, e.user_agent, e.request_id, c.code as "code?"
from (
  select *
  from coupon_event
  where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx) < ((select max(epoch) from event_epoch), pg_snapshot_xmin(pg_current_snapshot()))
  order by epoch, tx, id
  limit $4) e
left join lateral (select c.code from coupon c where c.book_id = e.book_id and c.position = e.position limit 1) c on true
order by e.epoch, e.tx, e.id
