-- Releases a chunk, which is runnable after a delay, and announces it for that time. Nothing changes, and `held` is
-- false, if the chunk is held under another epoch.
--
-- $1 job, $2 number, $3 epoch, $4 seconds of delay, $5 attempts to count, $6 the error to store or null, $7 whether to
-- announce it through the outbox, $8 crashes or statement timeouts to count.
with chunk as (
  update job_chunk
  set status = 'READY', lease_until = null, attempts = attempts + $5, crashes = crashes + $8, error = coalesce($6, error),
      run_at = now() + make_interval(secs => $4)
  where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'
  returning job_id, number, run_at
),
announced as (
  insert into outbox (kind, business_id, job_id, number, work, attempt, not_before)
  select 'CHUNK', j.business_id, j.id, chunk.number, j.kind, j.attempts, chunk.run_at
  from chunk join job j on j.id = chunk.job_id
  where $7::bool and j.status in ('QUEUED', 'RUNNING')
)
select exists (select from chunk) as "held!"
