-- The age of the oldest open transaction of the server that has written, including prepared ones. Those of other users are seen only with
-- the role pg_read_all_stats.
select extract(epoch from clock_timestamp() - min(began))::float8 as seconds
from (
  select xact_start as began from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
  union all
  select prepared from pg_prepared_xacts) writer
