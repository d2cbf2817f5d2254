-- The events after a position and up to another one, each with the webhooks that get it, in the order of the log. All events up to
-- the second position are committed.
--
-- $1 epoch, $2 transaction, $3 id; $4 epoch, $5 transaction, $6 id; $7 actions, $8 the event types of these actions; $9 rows.
--
-- A webhook gets the events that its snapshot does not show. A restored database numbers its transactions anew, so the snapshot counts only
-- in its own epoch. The redemption of a REDEEM was written by the same transaction; that of a ROLLBACK was marked by it, at its time.
select e.epoch, e.tx::text as "tx!", e.id, e.at, e.book_id, e.position, e.version, e.from_status as "from_status: StoredStatus", e.to_status as "to_status: StoredStatus",
       e.action, e.user_id, e.redeem_count, e.reason, e.actor, host(e.ip) as ip, e.user_agent, e.request_id, c.code as "code?",
       w.id as webhook_id, t.type as "event_type!", r.id as "redemption_id?"
from (
  select * from coupon_event
  where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx, id) <= ($4, $5::text::xid8, $6)
  order by epoch, tx, id) e
cross join lateral (select ($8::text[])[array_position($7::text[], e.action)] as type) t
join webhook w on w.business_id = e.business_id and w.enabled and w.deleted_at is null
  and w.event_types && array['*', t.type] and (w.per_code or e.actor not like 'job:%')
  and (e.epoch > w.since_epoch or e.epoch = w.since_epoch and not pg_visible_in_snapshot(e.tx, w.since_snapshot))
left join lateral (select c.code from coupon c where c.book_id = e.book_id and c.position = e.position limit 1) c on true
left join lateral (
  -- By the times, which have indexes: a code may have many redemptions.
  select r.id from redemption r
  where e.action = 'REDEEM' and r.business_id = e.business_id and r.at = e.at and r.code = c.code and r.epoch = e.epoch and r.tx = e.tx
  union all
  select r.id from redemption r
  where e.action = 'ROLLBACK' and r.business_id = e.business_id and r.rolled_back_at = e.at and r.code = c.code
  limit 1) r on true
where t.type is not null
order by e.epoch, e.tx, e.id, w.id
limit $9
