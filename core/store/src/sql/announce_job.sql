-- Announces the runnable chunks of a job: all ready chunks, or the next chunk of an ordered job. $1 the job.
insert into outbox (kind, business_id, job_id, number, work, attempt, not_before)
select 'CHUNK', j.business_id, j.id, c.number, j.kind, j.attempts, c.run_at
from job j join job_chunk c on c.job_id = j.id
where j.id = $1 and j.status in ('QUEUED', 'RUNNING') and c.status = 'READY'
  and (not j.ordered
       or c.number = (select min(o.number) from job_chunk o where o.job_id = j.id and o.status in ('READY', 'RUNNING')))
order by c.number
