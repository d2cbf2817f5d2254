-- A business's jobs, newest first.
--
-- $1 business; the rest narrow the list if not null: $2 id, $3 status, $4 kind, $5 older than this id. $6 limit.
select id, business_id, kind, status, total, succeeded, failed, result, error, warnings, attempts, created_at, started_at, finished_at,
       heartbeat_at, clock_timestamp() as "read_at!"
from job
where business_id = $1
  and ($2::uuid is null or id = $2)
  and ($3::text is null or status = $3)
  and ($4::text is null or kind = $4)
  and ($5::uuid is null or id < $5)
order by id desc
limit $6
