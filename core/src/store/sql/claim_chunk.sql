-- Claims the fairest runnable chunk: of the business with the fewest chunks at work, then of the job with the fewest, then
-- of the job that has waited longest since its last claim. A chunk whose lease has run out is runnable again; that counts
-- as a crash of its worker unless the database itself was restarted since. A chunk of an ordered job is runnable when those
-- before it are settled or have noted their codes.
--
-- $1 the worker, $2 seconds of lease, $3 the kinds it can work. Lock order: chunk, then job.
with working as materialized (
  select c.job_id, j.business_id
  from job j join job_chunk c on c.job_id = j.id
  where j.status in ('QUEUED', 'RUNNING') and c.status = 'RUNNING' and c.lease_until > now()
),
candidate as materialized (
  select j.id, j.ordered,
         row_number() over (order by (select count(*) from working w where w.business_id = j.business_id),
                                     (select count(*) from working w where w.job_id = j.id),
                                     j.claimed_at nulls first, j.id) as turn
  from job j
  where j.status in ('QUEUED', 'RUNNING') and j.kind = any ($3)
    and exists (select from job_chunk c where c.job_id = j.id
                and (c.status = 'READY' and c.run_at <= now() or c.status = 'RUNNING' and c.lease_until <= now()))
),
chosen as (
  select c.job_id, c.number, c.status as was
  from (select * from candidate order by turn) j
  cross join lateral (
    select c.job_id, c.number, c.status from job_chunk c
    where c.job_id = j.id
      and (c.status = 'READY' and c.run_at <= now() or c.status = 'RUNNING' and c.lease_until <= now())
      and (not j.ordered or c.number <= (select coalesce(min(o.number), 2147483647) from job_chunk o
                                         where o.job_id = j.id and o.status in ('READY', 'RUNNING') and not o.has_noted_codes))
    order by c.number limit 1 for update skip locked) c
  limit 1
),
claimed as (
  update job_chunk c
  set status = 'RUNNING', epoch = c.epoch + 1, worker = $1, claimed_at = now(), lease_until = now() + make_interval(secs => $2),
      crashes = c.crashes + case when c.status = 'RUNNING' and c.claimed_at > pg_postmaster_start_time() then 1 else 0 end
  from chosen where c.job_id = chosen.job_id and c.number = chosen.number
  returning c.job_id, c.number, c.epoch, c.attempts, c.crashes, c.work, chosen.was = 'RUNNING' as taken_over
)
update job j
set status = 'RUNNING', started_at = coalesce(j.started_at, now()), heartbeat_at = now(), claimed_at = now(),
    attempts = j.attempts + case when j.status = 'QUEUED' then 1 else 0 end
from claimed c
where j.id = c.job_id and j.status in ('QUEUED', 'RUNNING')
returning j.id, j.business_id, j.kind, j.work as job_work, j.created_by, c.number, c.epoch, c.attempts, c.crashes, c.work as chunk_work,
          c.taken_over as "taken_over!", j.trace_parent
