-- Events after a position, in order. Stops at the oldest transaction that still runs, because it may still write events
-- with lower positions than those of later transactions.
--
-- $1 epoch, $2 transaction, $3 id, $4 limit.
select epoch, tx::text as "tx!", id, at, business_id, book_id, position, version,
       from_status as "from_status: StoredStatus", to_status as "to_status: StoredStatus", action, user_id, redeem_count, reason,
       actor, host(ip) as ip, user_agent, request_id
from coupon_event
where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx) < ((select max(epoch) from event_epoch), pg_snapshot_xmin(pg_current_snapshot()))
order by epoch, tx, id
limit $4
