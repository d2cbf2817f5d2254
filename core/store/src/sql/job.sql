-- One job of a business.
select id, business_id, kind, status, total, succeeded, failed, result, error, warnings, attempts, created_at, started_at, finished_at,
       heartbeat_at, clock_timestamp() as "read_at!", true as "is_found!"
from job
where business_id = $1 and id = $2
