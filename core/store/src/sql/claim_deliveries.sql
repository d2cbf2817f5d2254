-- Claims due deliveries for a time: those of healthy webhooks first; the first of each business before the second of any, and in a business
-- the first of each webhook before the second of any. Running attempts count.
--
-- $1 limit, $2 limit for webhooks whose last attempt failed, $3 seconds of the lease, $4 webhooks with running attempts in this worker,
-- $5 the numbers of these attempts, $6 limit for each webhook, $7 the same for a webhook whose last attempt failed, $8 limit for each
-- business, of which webhooks whose last attempt failed have at most half.
with recursive pending as (
  -- One probe of the index for each webhook with a delivery that has a time.
  (select webhook_id from webhook_delivery where status = 'PENDING' and next_attempt_at is not null order by webhook_id limit 1)
  union all
  select (select d.webhook_id from webhook_delivery d
          where d.status = 'PENDING' and d.next_attempt_at is not null and d.webhook_id > p.webhook_id order by d.webhook_id limit 1)
  from pending p where p.webhook_id is not null
),
running as (
  select b.id, b.running, w.business_id, w.failing_since is not null as is_failing
  from unnest($4::uuid[], $5::bigint[]) b (id, running) join webhook w on w.id = b.id
),
business_running as (
  select business_id, sum(running)::bigint as running, coalesce(sum(running) filter (where is_failing), 0)::bigint as failing
  from running group by business_id
),
webhook_with_room as (
  select w.id, w.business_id, w.failing_since is not null as is_failing, coalesce(r.running, 0) as running,
         coalesce(b.running, 0) as of_business, coalesce(b.failing, 0) as failing_of_business,
         greatest(case when w.failing_since is null then $6::bigint else $7::bigint end - coalesce(r.running, 0), 0) as room
  from pending p join webhook w on w.id = p.webhook_id
  left join running r on r.id = w.id
  left join business_running b on b.business_id = w.business_id
  where w.enabled and w.deleted_at is null
    and coalesce(b.running, 0) < $8::bigint and (w.failing_since is null or coalesce(b.failing, 0) < $8::bigint / 2)
),
-- Earlier pending deliveries of the subject exclude one, whatever its time. Nothing is locked here: most of these are not chosen.
due as (
  select d.id, w.id as webhook_id, w.business_id, w.is_failing, w.running, w.of_business, w.failing_of_business, d.next_attempt_at
  from webhook_with_room w cross join lateral (
    select d.id, d.next_attempt_at from webhook_delivery d
    where d.webhook_id = w.id and d.status = 'PENDING' and d.next_attempt_at <= now() and coalesce(d.lease_until <= now(), true)
      and not exists (select from webhook_delivery e
                      where e.webhook_id = d.webhook_id and e.subject = d.subject and e.status = 'PENDING' and e.number < d.number)
    order by d.next_attempt_at limit w.room) d
),
-- The place among the attempts of the webhook, and then of the business.
placed as (
  select id, business_id, is_failing, of_business, failing_of_business,
         running + row_number() over (partition by webhook_id order by next_attempt_at, id) as place
  from due
),
placed_in_business as (
  select id, is_failing, of_business + row_number() over (partition by business_id order by is_failing, place, id) as place,
         failing_of_business + row_number() over (partition by business_id, is_failing order by place, id) as failing_place
  from placed
),
chosen as (
  select id, is_failing
  from (select id, is_failing, place, row_number() over (partition by is_failing order by place, id) as turn
        from placed_in_business where place <= $8::bigint and (not is_failing or failing_place <= $8::bigint / 2)) p
  where not is_failing or turn <= $2::bigint
  order by is_failing, place, id limit $1::bigint
),
-- Those that another worker claims at the same time are left to it.
held as materialized (
  select d.id, c.is_failing from chosen c join webhook_delivery d on d.id = c.id
  where d.status = 'PENDING' and d.next_attempt_at <= now() and coalesce(d.lease_until <= now(), true)
  for update of d skip locked
)
update webhook_delivery d set lease_until = now() + make_interval(secs => $3), claim = d.claim + 1
from held h, webhook w
where d.id = h.id and w.id = d.webhook_id
returning d.id, d.webhook_id, d.claim, d.event_id, d.type as event_type, d.subject, d.body, d.tries, h.is_failing as "is_failing!", w.url, w.secret,
          case when w.old_secret_until > now() then w.old_secret end as old_secret
