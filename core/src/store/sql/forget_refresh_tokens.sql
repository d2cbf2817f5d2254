-- Deletes from a slice of the refresh tokens that ran out a week ago, the oldest first. A revoked one stays as long as its
-- login has a token that ran out later than that. Answers how many were examined and deleted, and where the slice ended.
--
-- $1 and $2 the expiry and id after which the slice begins, $3 how many are examined at most.
with old as materialized (
  select id, family_id, expires_at, revoked_at from refresh_token
  where expires_at >= $1 and (expires_at, id) > ($1, $2) and expires_at < now() - interval '7 days'
  order by expires_at, id limit $3
),
gone as (
  delete from refresh_token t using old o
  where t.id = o.id
    and (o.revoked_at is null
         or (select 1 from refresh_token f
             where f.family_id = o.family_id and f.expires_at >= now() - interval '7 days' limit 1) is null)
  returning 1
)
select (select count(*) from old) as "examined!", (select count(*) from gone) as "deleted!",
       last.expires_at as "last_expiry?", last.id as "last_id?"
from (select 1) one left join lateral (select expires_at, id from old order by expires_at desc, id desc limit 1) last on true
