-- Announces chunks again that have been runnable for some time without being claimed, because their messages may be
-- lost. Only Postgres decides whether a chunk is runnable.
--
-- A mere backlog must not be announced again. So nothing is announced while all workers are busy: either a worker must
-- have waited for messages without receiving one ($1), or no worker may be active. At most $4 chunks are announced
-- again and still unclaimed at a time, however long the backlog. Each of them is repeated after 10 s, then 20 s, up to
-- about 5 minutes. A chunk whose message is still in the outbox is skipped.
--
-- $1 whether a worker waited without a message, $2 seconds for which a ready chunk must have been runnable, $3 the same
-- for a chunk whose lease expired, $4 maximum number of chunks.
with waiting as materialized (
  select j.id, j.business_id, j.kind, j.attempts, c.number, c.rescued_at, c.rescues,
         c.rescued_at is not null and c.rescued_at >= coalesce(c.claimed_at, '-infinity') as is_rescued
  from job j join job_chunk c on c.job_id = j.id
  where j.status in ('QUEUED', 'RUNNING')
    and (c.status = 'READY' and c.run_at <= now() - make_interval(secs => $2)
         or c.status = 'RUNNING' and c.lease_until <= now() - make_interval(secs => $3))
    and (not j.ordered
         or c.number = (select min(o.number) from job_chunk o where o.job_id = j.id and o.status in ('READY', 'RUNNING'))
            and (c.status = 'RUNNING' or coalesce(j.heartbeat_at, j.created_at) <= now() - make_interval(secs => $2)))
    and ($1::bool
         or not exists (select from job o where o.status in ('QUEUED', 'RUNNING') and o.claimed_at > now() - make_interval(secs => 2 * $2))
            and not exists (select from job o join job_chunk w on w.job_id = o.id
                            where o.status in ('QUEUED', 'RUNNING') and w.status = 'RUNNING' and w.lease_until > now()))
),
-- Chunks whose repetition is due, and further chunks up to the maximum.
lost as (
  (select * from waiting
   where is_rescued and rescued_at <= now() - make_interval(secs => 10 * 2 ^ least(rescues - 1, 5)))
  union all
  (select * from waiting where not is_rescued
   order by id, number
   limit greatest(0, $4::bigint - (select count(*) from waiting where is_rescued)))
),
-- A chunk that was claimed or rescued concurrently is skipped.
noted as (
  update job_chunk c
  set rescued_at = now(), rescues = case when lost.is_rescued then lost.rescues + 1 else 1 end
  from lost
  where c.job_id = lost.id and c.number = lost.number and c.rescued_at is not distinct from lost.rescued_at
    and (c.status = 'READY' or c.status = 'RUNNING' and c.lease_until <= now())
    and not exists (select from outbox o where o.job_id = lost.id and o.number = lost.number and o.kind = 'CHUNK')
  returning lost.*
)
insert into outbox (kind, business_id, job_id, number, work, attempt)
select 'CHUNK', business_id, id, number, kind, attempts from noted
