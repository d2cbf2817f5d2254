-- All coupon events after a position and up to another one, in the order of the log.
--
-- $1 epoch, $2 transaction, $3 id; $4 epoch, $5 transaction, $6 id.
select epoch, tx::text as "tx!", id, at, business_id, book_id, position, version, from_status as "from_status: StoredStatus",
       to_status as "to_status: StoredStatus", action, user_id, redeem_count, reason, actor, ip::text as ip, user_agent, request_id
from coupon_event
where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx, id) <= ($4, $5::text::xid8, $6)
order by epoch, tx, id
