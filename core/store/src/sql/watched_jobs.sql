-- All watched jobs, in one statement. $1 their ids.
select id, business_id, kind, status, total, succeeded, failed, result, error, warnings, attempts, created_at, started_at,
       finished_at, heartbeat_at, clock_timestamp() as "read_at!", true as "is_found!"
from job
where id = any ($1)
