-- Records an attempt of a claimed delivery, if the claim is the last one. The caller holds the row of the webhook.
--
-- $1 delivery, $2 claim, $3 status, $4 seconds until the next attempt or null; $5 to $9 the attempt: time, HTTP status, error, duration,
-- answer; $10 whether a failure counts towards disabling the webhook,
-- $11 seconds without an attempt after which failures are counted anew.
with done as (
  update webhook_delivery
  set status = $3, next_attempt_at = now() + make_interval(secs => $4), lease_until = null, tries = tries + 1, attempts = attempts + 1
  where id = $1 and claim = $2 and status = 'PENDING'
  returning id, webhook_id, attempts, status
),
attempt as (
  insert into webhook_attempt (delivery_id, number, at, http_status, error, duration_ms, answer)
  select id, attempts, $5, $6, $7, $8, $9 from done
)
update webhook w
set last_delivery_id = done.id, last_attempt_at = now(),
    failing_since = case when done.status = 'DELIVERED' then null
                         when not $10 then w.failing_since
                         -- Longer than the time between two attempts: no failure is known of the time in between.
                         when w.last_attempt_at < now() - make_interval(secs => $11) then now()
                         else coalesce(w.failing_since, now()) end
from done where w.id = done.webhook_id
returning w.id
