-- Adds the next chunk to an ordered job, and corrects the job's total if it is known better by now. Nothing is added if the
-- chunk is held under another epoch or the job no longer runs. Lock order: chunk, then job.
--
-- $1 job, $2 number, $3 epoch of the chunk that is held, $4 the work of the next chunk, $5 the job's total or null.
with held as materialized (
  select job_id from job_chunk where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING' for update
),
grown as (
  update job j set chunks_total = j.chunks_total + 1, total = coalesce($5, j.total)
  from held where j.id = held.job_id and j.status = 'RUNNING'
  returning j.id
)
insert into job_chunk (job_id, number, work) select id, $2 + 1, $4 from grown
