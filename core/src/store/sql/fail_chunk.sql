-- Sets a chunk aside; with the last one settled the job has failed, and an ordered job fails at once: what comes later in
-- it must not come first. The first reason is the job's. No row comes back if the chunk is held under another epoch, or the
-- job no longer runs: then the caller rolls back.
--
-- $1 job, $2 number, $3 epoch, $4 the reason for the chunk, $5 the job's error, $6 whether a dead letter is to be sent.
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
