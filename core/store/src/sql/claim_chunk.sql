-- Claims the fairest runnable chunk: of the business with the fewest running chunks, then of the job with the fewest,
-- then of the job whose last claim is the oldest. A chunk with an expired lease is runnable; claiming it counts as a
-- crash of its worker unless the database was restarted since its claim. A chunk of an ordered job is runnable when
-- all chunks before it are finished.
--
-- $1 the worker, $2 seconds of lease, $3 the kinds that it can execute. Lock order: chunk, then job.
with working as materialized (
  select c.job_id, j.business_id
  from job_chunk c join job j on j.id = c.job_id
  where c.status = 'RUNNING' and c.lease_until > now() and j.status in ('QUEUED', 'RUNNING')
),
of_business as materialized (select business_id, count(*) as chunks from working group by business_id),
of_job as materialized (select job_id, count(*) as chunks from working group by job_id),
-- Each open job once, whether or not it has a runnable chunk: `chosen` reads only as many as it needs.
candidate as materialized (
  select j.id, j.ordered,
         row_number() over (order by coalesce(b.chunks, 0), coalesce(w.chunks, 0), j.claimed_at nulls first, j.id) as turn
  from job j
  left join of_business b on b.business_id = j.business_id
  left join of_job w on w.job_id = j.id
  where j.status in ('QUEUED', 'RUNNING') and j.kind = any ($3)
),
chosen as (
  select c.job_id, c.number, c.status as was
  from (select * from candidate order by turn) j
  cross join lateral (
    select c.job_id, c.number, c.status from job_chunk c
    where c.job_id = j.id
      and (c.status = 'READY' and c.run_at <= now() or c.status = 'RUNNING' and c.lease_until <= now())
      and (not j.ordered
           or c.number = (select min(o.number) from job_chunk o where o.job_id = j.id and o.status in ('READY', 'RUNNING')))
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
