-- The number of runnable chunks that no worker holds, how long the oldest has been runnable, the unsent messages, and the pending
-- deliveries of webhooks, of which at most 100,000 are counted.
select count(*) as "runnable!",
       extract(epoch from now() - min(case when c.status = 'READY' then c.run_at else c.lease_until end))::float8 as oldest_seconds,
       (select count(*) from outbox) as "unsent!",
       (select count(*) from (select from webhook_delivery where status = 'PENDING' limit 100000) p) as "deliveries!"
from job j join job_chunk c on c.job_id = j.id
where j.status in ('QUEUED', 'RUNNING')
  and (c.status = 'READY' and c.run_at <= now() or c.status = 'RUNNING' and c.lease_until <= now())
  and (not j.ordered
       or c.number = (select min(o.number) from job_chunk o where o.job_id = j.id and o.status in ('READY', 'RUNNING')))
