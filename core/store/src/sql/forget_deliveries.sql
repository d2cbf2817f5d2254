-- Deletes the oldest deliveries that are older than some days, with their attempts. The caller holds the rows of their webhooks.
--
-- $1 deliveries, $2 days.
with gone as (
  delete from webhook_delivery where id = any($1) and created_at < now() - make_interval(days => $2)
  returning id, webhook_id, subject, status
),
attempts as (
  delete from webhook_attempt where delivery_id in (select id from gone)
)
select webhook_id, subject, status from gone
