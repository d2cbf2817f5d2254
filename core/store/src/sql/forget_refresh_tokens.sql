-- Deletes a slice of the refresh tokens that expired at least a week ago, oldest first. Returns their number and the
-- end of the slice.
--
-- $1 the expiry at which the slice begins, $2 maximum number of tokens.
with old as materialized (
  select id, expires_at from refresh_token
  where expires_at >= $1 and expires_at < now() - interval '7 days'
  order by expires_at limit $2
),
gone as (delete from refresh_token t using old o where t.id = o.id returning o.expires_at)
select count(*) as "deleted!", max(expires_at) as last from gone
