-- Adds chunks to the job of a chunk that is finished in the same transaction, and sets the job's total if it is known.
-- Adds nothing if the chunk is held under another epoch or the job no longer runs. Lock order: chunk, then job.
--
-- $1 job, $2 number, $3 epoch of the held chunk, $4 the work of each new chunk, $5 the job's total or null,
-- $6 whether to announce the new chunks through the outbox. For an ordered job, finishing a chunk announces the next.
with held as materialized (
  select job_id from job_chunk where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING' for update
),
-- The numbers of a job's chunks have no gaps.
grown as (
  update job j set chunks_total = j.chunks_total + cardinality($4::jsonb[]), total = coalesce($5, j.total)
  from held where j.id = held.job_id and j.status = 'RUNNING'
  returning j.id, j.business_id, j.kind, j.attempts, j.ordered, j.chunks_total - cardinality($4::jsonb[]) as first_number
),
added as (
  insert into job_chunk (job_id, number, work)
  select g.id, g.first_number + c.n::int - 1, c.work from grown g cross join unnest($4::jsonb[]) with ordinality c (work, n)
  returning number, run_at
)
insert into outbox (kind, business_id, job_id, number, work, attempt, not_before)
select 'CHUNK', g.business_id, g.id, a.number, g.kind, g.attempts, a.run_at
from grown g cross join added a
where $6::bool and not g.ordered
