-- Makes the first pending delivery of each subject due, unless it has a time. The caller holds the rows of the webhooks: otherwise a
-- delivery that is created at the same time could wait for one that has ended.
--
-- $1 webhooks, $2 subjects.
update webhook_delivery d set next_attempt_at = now()
from (select distinct webhook_id, subject collate "C" as subject from unnest($1::uuid[], $2::text[]) s (webhook_id, subject)) s
cross join lateral (
  select p.id from webhook_delivery p
  where p.webhook_id = s.webhook_id and p.subject = s.subject and p.status = 'PENDING'
  order by p.number limit 1) first
where d.id = first.id and d.next_attempt_at is null and d.status = 'PENDING'
