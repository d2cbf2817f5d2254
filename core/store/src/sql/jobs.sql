-- One page of a business's jobs, newest first.
--
-- $1 business; if not null: $2 status, $3 kind, $4 only ids below this one. $5 jobs to examine, $6 jobs to return.
--
-- `examined` numbers the jobs after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by id desc) as n, id, status, kind
  from job
  where business_id = $1 and id < coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by id desc
  limit $5),
-- The jobs of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, id from examined
  where ($2::text is null or status = $2) and ($3::text is null or kind = $3)
  limit $6),
-- If the page is short because of the bound, the last job examined follows the page's jobs.
place as (
  select n, id, true as is_found from found
  union all
  select n, id, false from examined where n = $5 and (select count(*) from found) < $6)
select j.id, j.business_id, j.kind, j.status, j.total, j.succeeded, j.failed, j.result, j.error, j.warnings, j.attempts, j.created_at,
       j.started_at, j.finished_at, j.heartbeat_at, clock_timestamp() as "read_at!", p.is_found as "is_found!"
from place p
cross join lateral (select * from job j where j.id = p.id limit 1) j
order by p.n, p.is_found desc
