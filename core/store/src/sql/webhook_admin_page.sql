-- As `webhook_page.sql`, of the admin events.
--
-- $1 epoch, $2 transaction, $3 id, $4 limit.
with page as (
  select epoch, tx, id from admin_event
  where (epoch, tx, id) > ($1, $2::text::xid8, $3)
    and (epoch, tx) < ((select max(epoch) from event_epoch), pg_snapshot_xmin(pg_current_snapshot()))
  order by epoch, tx, id limit $4),
place as (
  select epoch, tx, id from page
  union all
  select $1, $2::text::xid8, $3
  order by epoch desc, tx desc, id desc limit 1)
select epoch as "epoch!", tx::text as "tx!", id as "id!", (select count(*) from page) as "examined!",
       (select extract(epoch from clock_timestamp() - e.at)::float8 from admin_event e
        where (e.epoch, e.tx, e.id) > (p.epoch, p.tx, p.id) order by e.epoch, e.tx, e.id limit 1) as "lag_seconds"
from place p
