-- The changes of books and jobs that have an event type, after a position and up to another one, each with the webhooks that get it, in
-- the order of the log. As `webhook_events.sql`.
--
-- $1 epoch, $2 transaction, $3 id; $4 epoch, $5 transaction, $6 id; $7 changes, $8 the event types of these changes. A change is the
-- subject with the new status of a created or updated object, or with the action. $9 rows.
select e.epoch, e.tx::text as "tx!", e.id, e.at, e.business_id, e.subject, e.subject_id, e.after ->> 'status' as status, w.id as webhook_id, t.type as "event_type!"
from (
  select * from admin_event
  where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx, id) <= ($4, $5::text::xid8, $6)
  order by epoch, tx, id) e
cross join lateral (
  select e.subject || ' ' || case when e.action in ('CREATE', 'UPDATE') then e.after ->> 'status' else e.action end as change) c
cross join lateral (select ($8::text[])[array_position($7::text[], c.change)] as type) t
join webhook w on w.business_id = e.business_id and w.enabled and w.deleted_at is null
  and w.event_types && array['*', t.type]
  and (e.epoch > w.since_epoch or e.epoch = w.since_epoch and not pg_visible_in_snapshot(e.tx, w.since_snapshot))
where t.type is not null
order by e.epoch, e.tx, e.id, w.id
limit $9
