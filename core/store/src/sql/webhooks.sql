-- Webhooks of a business, newest first, with the delivery that was attempted last.
--
-- $1 business, $2 only this webhook or null, $3 only those before this one or null, $4 limit.
select w.id, w.business_id, w.url, w.description, w.event_types, w.per_code, w.enabled, w.disabled_reason, w.created_at, w.updated_at,
       d.id as "last_id?", d.event_id as "last_event_id?", d.type as "last_type?", d.status as "last_status?", a.at as "last_at?"
from webhook w
left join webhook_delivery d on d.id = w.last_delivery_id
left join webhook_attempt a on a.delivery_id = d.id and a.number = d.attempts
where w.business_id = $1 and w.deleted_at is null and ($2::uuid is null or w.id = $2) and ($3::uuid is null or w.id < $3)
order by w.id desc limit $4
