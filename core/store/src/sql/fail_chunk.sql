-- Marks a chunk as failed. The job fails when its last chunk is finished or failed. An ordered job fails immediately,
-- because later chunks must not run before this one. The job keeps the error of its first failed chunk. Returns no row
-- if the chunk is held under another epoch or the job no longer runs; then the caller rolls back.
--
-- $1 job, $2 number, $3 epoch, $4 the chunk's error, $5 the job's error, $6 whether to write a dead letter.
with chunk as (
  update job_chunk set status = 'FAILED', lease_until = null, error = $4
  where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'
  returning job_id, number
),
failed as (
  update job j
  set chunks_failed = j.chunks_failed + 1, error = coalesce(j.error, $5), heartbeat_at = now(),
      status = case when j.ordered or j.chunks_done + j.chunks_failed + 1 = j.chunks_total then 'FAILED' else j.status end,
      finished_at = case when j.ordered or j.chunks_done + j.chunks_failed + 1 = j.chunks_total then clock_timestamp() end
  from chunk
  where j.id = chunk.job_id and j.status = 'RUNNING'
  returning j.id, j.business_id, j.kind, j.attempts, j.status, chunk.number
),
dead as (
  insert into outbox (kind, business_id, job_id, number, work, attempt)
  select 'DEAD', business_id, id, number, kind, attempts from failed where $6::bool
)
select status from failed
