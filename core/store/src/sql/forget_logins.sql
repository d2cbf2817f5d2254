-- Deletes from a slice of the logins that were last used longer ago than they are kept, the oldest first: those without a token that
-- could be used. Returns how many were examined and deleted, and where the slice ended.
--
-- $1 and $2 the last use and id after which the slice begins, $3 how many days they are kept, $4 how many are examined at most.
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
