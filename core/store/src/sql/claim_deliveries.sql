-- Claims due deliveries for a time: those of healthy webhooks first, and the first of each webhook before the second of any.
--
-- $1 limit, $2 limit for webhooks whose last attempt failed, $3 seconds of the lease, $4 webhooks with running attempts in this worker,
-- $5 the numbers of these attempts, $6 limit for each webhook, $7 the same for a webhook whose last attempt failed.
with recursive pending as (
  -- One probe of the index for each webhook with a delivery that has a time.
  (select webhook_id from webhook_delivery where status = 'PENDING' and next_attempt_at is not null order by webhook_id limit 1)
  union all
  select (select d.webhook_id from webhook_delivery d
          where d.status = 'PENDING' and d.next_attempt_at is not null and d.webhook_id > p.webhook_id order by d.webhook_id limit 1)
  from pending p where p.webhook_id is not null
),
webhook_with_room as (
  select w.id, w.failing_since is not null as is_failing,
         greatest(case when w.failing_since is null then $6::bigint else $7::bigint end - coalesce(b.running, 0), 0) as room
  from pending p join webhook w on w.id = p.webhook_id
  left join unnest($4::uuid[], $5::bigint[]) b (id, running) on b.id = w.id
  where w.enabled and w.deleted_at is null
),
-- Earlier pending deliveries of the subject exclude one, whatever its time.
due as (
  select d.id, w.id as webhook_id, w.is_failing, d.next_attempt_at
  from webhook_with_room w cross join lateral (
    select d.id, d.next_attempt_at from webhook_delivery d
    where d.webhook_id = w.id and d.status = 'PENDING' and d.next_attempt_at <= now() and coalesce(d.lease_until <= now(), true)
      and not exists (select from webhook_delivery e
                      where e.webhook_id = d.webhook_id and e.subject = d.subject and e.status = 'PENDING' and e.number < d.number)
    order by d.next_attempt_at limit w.room
    for update of d skip locked) d
),
placed as (
  select id, is_failing, row_number() over (partition by webhook_id order by next_attempt_at, id) as place from due
),
chosen as (
  select id, is_failing from (select id, is_failing, place, row_number() over (partition by is_failing order by place, id) as turn from placed) p
  where not is_failing or turn <= $2::bigint
  order by is_failing, place limit $1::bigint
)
update webhook_delivery d set lease_until = now() + make_interval(secs => $3), claim = d.claim + 1
from chosen c, webhook w
where d.id = c.id and w.id = d.webhook_id
returning d.id, d.webhook_id, d.claim, d.event_id, d.type as event_type, d.subject, d.body, d.tries, c.is_failing as "is_failing!", w.url, w.secret,
          case when w.old_secret_until > now() then w.old_secret end as old_secret
