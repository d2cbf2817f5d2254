-- Marks jobs that ended at least $1 seconds ago, so that their details may be deleted. Returns their ids, and those of
-- marked jobs that still have details. A job that is being retried is skipped, and a distribution whose codes are being taken back.
--
-- $1 seconds since the end of a job, $2 maximum number of jobs.
with due as (
  select id from job j
  where finished_at < now() - make_interval(secs => $1) and discarded_at is null and status in ('SUCCEEDED', 'FAILED', 'CANCELLED')
    and (kind <> 'DISTRIBUTE' or not exists (
           select from job t where t.business_id = j.business_id and t.kind = 'TAKE_BACK' and t.status in ('QUEUED', 'RUNNING')
             and (t.work->>'distribution')::uuid = j.id))
  order by finished_at limit $2
  for no key update skip locked
)
update job j set discarding_at = coalesce(j.discarding_at, now())
from due where j.id = due.id
returning j.id
