-- The jobs of dry runs that are over and will not be tried again, and whose codes are still kept. Each job that has such codes is
-- found by one step through the index, however many codes it has.
with recursive kept as (
  (select job_id from dry_run_code order by job_id limit 1)
  union all
  select (select d.job_id from dry_run_code d where d.job_id > k.job_id order by d.job_id limit 1)
  from kept k where k.job_id is not null
)
select j.id from kept k join job j on j.id = k.job_id
where j.status in ('SUCCEEDED', 'CANCELLED') or j.discarding_at is not null
