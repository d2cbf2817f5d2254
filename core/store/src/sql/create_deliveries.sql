-- Creates deliveries in the given order. The first of each subject is made due by `schedule_first_pending.sql`.
--
-- $1 ids, $2 webhooks, $3 events, $4 types, $5 subjects, $6 bodies.
insert into webhook_delivery (id, webhook_id, event_id, type, subject, body)
select id, webhook_id, event_id, type, subject, body
from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[])
  with ordinality d (id, webhook_id, event_id, type, subject, body, n)
order by n
on conflict on constraint webhook_delivery_event do nothing
