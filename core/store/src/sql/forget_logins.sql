-- Deletes the logins without refresh tokens from a slice of the logins whose last use is older than the retention
-- period, oldest first. Returns the numbers examined and deleted, and the end of the slice.
--
-- $1 and $2 the last use and id after which the slice begins, $3 the retention period in days, $4 maximum number of
-- logins to examine.
with old as materialized (
  select id, last_used_at from login
  where last_used_at >= $1 and (last_used_at, id) > ($1, $2) and last_used_at < now() - make_interval(days => $3)
  order by last_used_at, id limit $4
),
gone as (
  delete from login l using old o
  where l.id = o.id and (select 1 from refresh_token t where t.family_id = o.id limit 1) is null
  returning 1
)
select (select count(*) from old) as "examined!", (select count(*) from gone) as "deleted!",
       last.last_used_at as "last_use?", last.id as "last_id?"
from (select 1) one left join lateral (select last_used_at, id from old order by last_used_at desc, id desc limit 1) last on true
