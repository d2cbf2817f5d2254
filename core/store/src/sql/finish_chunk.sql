-- Finishes a chunk and adds its part to the job's totals. The last chunk ends the job. Returns no row if the chunk is
-- held under another epoch or the job no longer runs.
--
-- $1 job, $2 number, $3 epoch, $4 rows done, $5 rows rejected, $6 part of the result, $7 whether to announce the next
-- chunk of an ordered job, which is now runnable, through the outbox.
with chunk as (
  update job_chunk set status = 'DONE', lease_until = null, error = null
  where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'
  returning job_id
),
settled as (
  update job j
  set succeeded = j.succeeded + $4, failed = j.failed + $5, chunks_done = j.chunks_done + 1,
      result = job_result_add(j.result, $6), heartbeat_at = now(),
      status = case when j.chunks_done + 1 + j.chunks_failed < j.chunks_total then j.status
                    when j.chunks_failed = 0 then 'SUCCEEDED' else 'FAILED' end,
      finished_at = case when j.chunks_done + 1 + j.chunks_failed = j.chunks_total then clock_timestamp() end
  from chunk
  where j.id = chunk.job_id and j.status = 'RUNNING'
  returning j.id, j.business_id, j.kind, j.attempts, j.ordered, j.status
),
next as (
  insert into outbox (kind, business_id, job_id, number, work, attempt, not_before)
  select 'CHUNK', s.business_id, s.id, c.number, s.kind, s.attempts, c.run_at
  from settled s cross join lateral (
    select number, run_at from job_chunk
    where job_id = s.id and number > $2 and status = 'READY' order by number limit 1) c
  where $7::bool and s.ordered and s.status = 'RUNNING'
)
select status from settled
