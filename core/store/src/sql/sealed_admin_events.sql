-- All admin events after a position and up to another one, in the order of the log.
--
-- $1 epoch, $2 transaction, $3 id; $4 epoch, $5 transaction, $6 id.
select epoch, tx::text as "tx!", id, at, business_id, subject, subject_id, action, before::text as before, after::text as after, actor,
       ip::text as ip, user_agent, request_id
from admin_event
where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx, id) <= ($4, $5::text::xid8, $6)
order by epoch, tx, id
