-- Marks jobs that ended a given time ago, so that their details may be deleted; answers their ids, and those of jobs that were
-- marked before and still have details. A job that somebody retries at this moment is passed over.
--
-- $1 seconds since the end of a job, $2 how many at most.
with due as (
  select id from job
  where finished_at < now() - make_interval(secs => $1) and discarded_at is null and status in ('SUCCEEDED', 'FAILED', 'CANCELLED')
  order by finished_at limit $2
  for no key update skip locked
)
update job j set discarding_at = coalesce(j.discarding_at, now())
from due where j.id = due.id
returning j.id
