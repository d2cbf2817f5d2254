-- Dry runs and uploads of assignments that have ended, cannot be retried and still have recorded codes. One index probe finds each job,
-- independent of its number of codes.
with recursive kept as (
  (select job_id from dry_run_code order by job_id limit 1)
  union all
  select (select d.job_id from dry_run_code d where d.job_id > k.job_id order by d.job_id limit 1)
  from kept k where k.job_id is not null
)
select j.id from kept k join job j on j.id = k.job_id
where j.status in ('SUCCEEDED', 'CANCELLED') or j.discarding_at is not null
