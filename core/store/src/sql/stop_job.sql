-- Fails a job immediately because of a rule that would reject every other chunk too. Marks the chunk as failed and
-- writes no dead letter, because there is nothing to repair. Running chunks of the job can no longer finish. Waiting
-- chunks are unchanged and run after a retry. Returns no row if the chunk is held under another epoch or the job no
-- longer runs; then the caller rolls back.
--
-- $1 job, $2 number, $3 epoch, $4 the chunk's error, $5 the job's error. Lock order: chunk, then job.
with chunk as (
  update job_chunk set status = 'FAILED', lease_until = null, error = $4
  where job_id = $1 and number = $2 and epoch = $3 and status = 'RUNNING'
  returning job_id
)
update job j
set status = 'FAILED', chunks_failed = j.chunks_failed + 1, error = $5, heartbeat_at = now(), finished_at = clock_timestamp()
from chunk
where j.id = chunk.job_id and j.status = 'RUNNING'
returning j.status
