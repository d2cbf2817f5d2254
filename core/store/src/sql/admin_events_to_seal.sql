-- The last of the next committed admin events after a position, and their number. Stops at the oldest transaction that still runs, because
-- it may still write events with lower positions than those of later transactions.
--
-- $1 epoch, $2 transaction, $3 id, $4 limit.
with page as (
  select epoch, tx, id, at from admin_event
  where (epoch, tx, id) > ($1, $2::text::xid8, $3)
    and (epoch, tx) < ((select max(epoch) from event_epoch), pg_snapshot_xmin(pg_current_snapshot()))
  order by epoch, tx, id limit $4)
select epoch as "epoch!", tx::text as "tx!", id as "id!", at as "at!", (select count(*) from page) as "found!",
       clock_timestamp() as "now!"
from page order by epoch desc, tx desc, id desc limit 1
