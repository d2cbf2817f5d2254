-- Ends sessions in the transaction of a chunk that they have lost: it has a newer epoch, or its lease has expired. A
-- frozen process keeps its connection and with it the row locks that the next worker needs, and no timeout of Postgres
-- ends a COPY that waits for its client. An ended session cannot commit; it could not have finished the chunk either.
with session as materialized (
  select pid, split_part(application_name, ' ', 2)::uuid as job_id, split_part(application_name, ' ', 3)::int as number,
         split_part(application_name, ' ', 4)::int as epoch
  from pg_stat_activity
  where datname = current_database() and application_name ~ '^chunk [0-9a-f-]{36} [0-9]{1,9} [0-9]{1,9}$'
)
select count(*) filter (where pg_terminate_backend(s.pid)) as "ended!"
from session s join job_chunk c on c.job_id = s.job_id and c.number = s.number
where c.epoch > s.epoch or (c.epoch = s.epoch and c.status = 'RUNNING' and c.lease_until <= now())
