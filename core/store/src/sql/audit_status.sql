-- The number of seals, the time of the last sealed event, the age of the oldest committed event that is not sealed, and the last
-- verification of the whole chain. Events after the oldest transaction that still runs cannot be sealed yet and do not count.
with bound as materialized (
  select max(epoch) as epoch, pg_snapshot_xmin(pg_current_snapshot()) as tx from event_epoch),
-- Where the seals of each log end.
sealed as materialized (
  select l.log, coalesce(s.through_epoch, 0::smallint) as epoch, coalesce(s.through_tx, '0'::xid8) as tx,
         coalesce(s.through_id, '00000000-0000-0000-0000-000000000000') as id, s.through_at
  from (values ('COUPON'), ('ADMIN')) l (log)
  left join lateral (
    select * from audit_seal a where a.log = l.log order by a.log desc, a.number desc limit 1) s on true),
unsealed as (
  select e.at from bound b, sealed s
  cross join lateral (
    select c.at from coupon_event c
    where (c.epoch, c.tx, c.id) > (s.epoch, s.tx, s.id) and (c.epoch, c.tx) < (b.epoch, b.tx)
    order by c.epoch, c.tx, c.id limit 1) e
  where s.log = 'COUPON'
  union all
  select e.at from bound b, sealed s
  cross join lateral (
    select a.at from admin_event a
    where (a.epoch, a.tx, a.id) > (s.epoch, s.tx, s.id) and (a.epoch, a.tx) < (b.epoch, b.tx)
    order by a.epoch, a.tx, a.id limit 1) e
  where s.log = 'ADMIN')
select coalesce((select max(number) from audit_seal), 0) as "seals!", (select max(through_at) from sealed) as sealed_through,
       coalesce((select extract(epoch from clock_timestamp() - min(at)) from unsealed), 0)::float8 as "lag_seconds!",
       v.verified_at as "verified_at?", v.findings as "findings?"
from (select) one left join audit_verification v on true
