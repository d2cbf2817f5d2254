-- Locks each item's code for its holder, or renews the live lock. Each code occurs at most once in a batch.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users, $12 requested seconds, $13 ids for
-- new locks, $14 ids of the events. Every value in SET comes from `held`: the target row first has
-- the values of the snapshot, and a CHECK would see a mixture.
-- $15: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- $3 is the id of the event of an expired lock: it is drawn before that of the call's event, and the log is in the order of the ids.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::int[], $13::uuid[], $14::uuid[])
    i (n, business_id, lapse_event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, ttl, new_lock,
       event_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $15 order by c.business_id, c.code for update of c
),
-- Finds the rows by key alone: with `=` on the holder the planner could use the index of a holder's codes, which may be
-- a million. An id stored untrimmed is looked up only if the holder of the coupon is not the id itself.
held as materialized (
  select i.n, i.new_lock, coalesce(i.ttl, b.lock_ttl_seconds) as ttl, c.business_id, c.code, c.status, c.version, c.lock_id,
         c.locked_at, c.expires_at, c.was_locked, coalesce(c.locked_until > now(), false) as live
  from item i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  join coupon_book b on b.id = c.book_id
  where (c.holder is not distinct from i.user_id
         or c.holder is not distinct from (select s.stored from stored_user_id s
                                           where s.business_id = i.business_id and s.user_id = i.user_id))
    and c.status in ('ASSIGNED', 'LOCKED') and b.status = 'ACTIVE'
    and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true) and coalesce(c.expires_at > now(), true)
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- An expired lock that is still in the row ends first, with an EXPIRE event.
step as materialized (
  select *, (status = 'LOCKED' and not live) as lapsed from held
),
done as (
  update coupon c
  set status = 'LOCKED', lock_id = case when s.live then s.lock_id else s.new_lock end,
      locked_at = case when s.live then s.locked_at else now() end, locked_until = least(now() + make_interval(secs => s.ttl), s.expires_at),
      was_locked = true, version = s.version + 1 + s.lapsed::int
  from step s
  where c.business_id = s.business_id and c.code = s.code and c.status in ('ASSIGNED', 'LOCKED')
  returning s.n, s.status as was, s.live, s.lapsed, s.was_locked, c.business_id, c.book_id, c.position, c.version, c.code, c.holder,
            c.lock_id, c.locked_at, c.locked_until
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            actor, ip, user_agent, request_id)
  select i.lapse_event_id, d.business_id, d.book_id, d.position, d.version - 1, 'LOCKED'::coupon_status, 'ASSIGNED'::coupon_status, 'EXPIRE',
         d.holder,
         i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n where d.lapsed
  union all
  select i.event_id, d.business_id, d.book_id, d.position, d.version,
         case when d.live then 'LOCKED' else 'ASSIGNED' end::coupon_status, 'LOCKED'::coupon_status, 'LOCK', d.holder,
         i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n
),
agenda as (
  insert into lock_agenda (locked_until, business_id, code, lock_id)
  select locked_until, business_id, code, lock_id from done
),
delta as (
  insert into book_delta (book_id, assigned, locked)
  select book_id, -count(*), count(*) from done where was = 'ASSIGNED' group by book_id
),
statistic as (
  insert into stat_delta (business_id, book_id, bucket_at, ever_locked)
  select business_id, book_id, stat_bucket_of(now()), count(*) from done where not was_locked group by business_id, book_id
),
answer as (
  select d.n, i.key, i.fingerprint, jsonb_build_object('code', d.code, 'lock', d.lock_id, 'locked_at', d.locked_at,
         'locked_until', d.locked_until, 'version', d.version) as outcome
  from done d join item i on i.n = d.n
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n as "n!", outcome as "outcome!" from answer
