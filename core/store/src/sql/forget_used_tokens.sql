-- Deletes a slice of the refresh tokens whose use is older than the retention period, oldest first. Returns their
-- number and the end of the slice.
--
-- $1 the time of use at which the slice begins, $2 the retention period in days, $3 maximum number of tokens.
with old as materialized (
  select id, used_at from refresh_token
  where used_at >= $1 and used_at < now() - make_interval(days => $2)
  order by used_at limit $3
),
gone as (delete from refresh_token t using old o where t.id = o.id returning o.used_at)
select count(*) as "deleted!", max(used_at) as last from gone
