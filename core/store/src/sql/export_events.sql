-- The next events of a book, by the position and the version of their codes. Events outside the snapshot or the period are marked: the
-- months of the period alone are read, and each row that is read counts towards the limit.
--
-- $1 book, $2 and $3 only after this position and version, $4 from this time on and $5 before this time, if not null, $6 number of
-- events to examine, $7 epoch and $8 transactions of the snapshot.
with examined as materialized (
  select e.position, e.version, e.id, e.at, e.from_status, e.to_status, e.action, e.user_id, e.redeem_count, e.reason, e.actor, e.ip,
         e.user_agent, e.request_id, e.epoch, e.tx
  from coupon_event e
  where e.book_id = $1 and (e.position, e.version) > ($2, $3)
    and e.at >= date_trunc('month', coalesce($4::timestamptz, '-infinity'), 'UTC')
    and e.at < coalesce(date_trunc('month', $5::timestamptz, 'UTC') + interval '1 month', 'infinity')
  order by e.position, e.version
  limit $6)
select e.position, e.version, coalesce(c.code, '') as "code!", e.id, e.at, e.from_status as "from_status: StoredStatus",
       e.to_status as "to_status: StoredStatus", e.action, e.user_id, e.redeem_count, e.reason, e.actor, host(e.ip) as ip, e.user_agent,
       e.request_id,
       e.at >= coalesce($4::timestamptz, '-infinity') and e.at < coalesce($5::timestamptz, 'infinity')
         and case when e.epoch = $7::smallint then pg_visible_in_snapshot(e.tx, $8::text::pg_snapshot)
                  else e.epoch < $7::smallint end as "is_found!"
from examined e
-- One probe of the index for each event. A merge join would read all codes before the first one.
left join lateral (select c.code from coupon c where c.book_id = $1 and c.position = e.position limit 1) c on true
order by e.position, e.version
