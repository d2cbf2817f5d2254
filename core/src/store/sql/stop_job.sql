-- Fails a job at once because a rule forbids it to go on: every other chunk would meet the same rule. The chunk that met it is
-- set aside, and no dead letter is written: there is nothing to repair. Chunks at work settle nothing, since the job no longer
-- runs. Chunks that wait stay as they are and run after a retry. No row comes back if the chunk is held under another epoch, or
-- the job no longer runs: then the caller rolls back.
--
-- $1 job, $2 number, $3 epoch, $4 the reason for the chunk, $5 the job's error. Lock order: chunk, then job.
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
