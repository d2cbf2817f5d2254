-- Locks each item's code for its holder, or renews the live lock. Each code occurs at most once in a batch. A free code of a BEARER book
-- is first assigned to the user of the item, within the user's limit, as in redeem.sql.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users, $12 requested seconds, $13 ids for
-- new locks, $14 ids of the events, $15 ids for new assignments. Every value in SET comes from `held`: the target row first has
-- the values of the snapshot, and a CHECK would see a mixture.
-- $16: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- $3 is the id of the event before that of the call: the end of an expired lock, or the assignment. It is drawn before the id of the call's
-- event, and the log is in the order of the ids.
-- Lock order: coupons by key, then quotas, sorted.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::int[], $13::uuid[], $14::uuid[], $15::uuid[])
    i (n, business_id, first_event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, ttl, new_lock,
       event_id, assignment_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $16 order by c.business_id, c.code for update of c
),
-- Finds the rows by key alone: with `=` on the holder the planner could use the index of a holder's codes, which may be
-- a million. An id stored untrimmed is looked up only if the holder of the coupon is not the id itself.
held as materialized (
  select i.n, i.user_id as presenter, i.assignment_id as new_assignment_id, i.new_lock, coalesce(i.ttl, b.lock_ttl_seconds) as ttl,
         c.business_id, c.book_id, c.code, c.status, c.version, c.lock_id, c.locked_at, c.was_locked, c.holder, c.assignment_id, c.assigned_at,
         c.expires_at, b.max_codes_per_user as cap, b.code_valid_days, coalesce(c.locked_until > now(), false) as live
  from item i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  join coupon_book b on b.id = c.book_id
  where case when c.status = 'AVAILABLE' then b.code_kind = 'BEARER' and c.reserved_by is null
             else c.holder is not distinct from i.user_id
                  or c.holder is not distinct from (select s.stored from stored_user_id s
                                                    where s.business_id = i.business_id and s.user_id = i.user_id) end
    and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED') and c.suspended_at is null and b.status = 'ACTIVE'
    and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true) and coalesce(c.expires_at > now(), true)
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- The free codes and their next holders.
presented as materialized (
  select p.*, row_number() over (partition by p.book_id, p.user_id order by p.n) as turn
  from (select h.*, coalesce((select s.stored from stored_user_id s where s.business_id = h.business_id and s.user_id = h.presenter),
                             h.presenter) as user_id
        from held h where h.status = 'AVAILABLE') p
),
quota as (
  insert into user_quota as q (book_id, user_id, held, cap, granted)
  select book_id, user_id, least(count(*), cap), cap, least(count(*), cap)
  from presented group by book_id, user_id, cap order by book_id, user_id
  on conflict (book_id, user_id) do update set cap = excluded.cap,
    granted = least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held),
    held = q.held + least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)
  where q.held < coalesce(excluded.cap, 2147483647)
  returning book_id, user_id, granted
),
-- The new values of the holder's columns. An expired lock that is still in the row ends first, with an EXPIRE event.
ready as materialized (
  select n, new_lock, ttl, business_id, code, status, version, lock_id, locked_at, was_locked, live,
         case when status = 'LOCKED' and not live then 'EXPIRE' end as first_action, holder, assignment_id, assigned_at, expires_at
  from held where status <> 'AVAILABLE'
  union all
  select p.n, p.new_lock, p.ttl, p.business_id, p.code, p.status, p.version, p.lock_id, p.locked_at, p.was_locked, p.live,
         'ASSIGN', p.user_id, p.new_assignment_id, now(), now() + p.code_valid_days * interval '24 hours'
  from presented p join quota q on q.book_id = p.book_id and q.user_id = p.user_id where p.turn <= q.granted
),
done as (
  update coupon c
  set status = 'LOCKED', holder = r.holder, assignment_id = r.assignment_id, assigned_at = r.assigned_at, expires_at = r.expires_at,
      lock_id = case when r.live then r.lock_id else r.new_lock end,
      locked_at = case when r.live then r.locked_at else now() end, locked_until = least(now() + make_interval(secs => r.ttl), r.expires_at),
      was_locked = true, version = r.version + 1 + (r.first_action is not null)::int
  from ready r
  where c.business_id = r.business_id and c.code = r.code and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED')
  returning r.n, r.status as was, r.live, r.first_action, r.was_locked, c.business_id, c.book_id, c.position, c.version, c.code, c.holder,
            c.lock_id, c.locked_at, c.locked_until
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            actor, ip, user_agent, request_id)
  select i.first_event_id, d.business_id, d.book_id, d.position, d.version - 1, d.was, 'ASSIGNED'::coupon_status, d.first_action,
         d.holder, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n where d.first_action is not null
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
  insert into book_delta (book_id, available, assigned, locked)
  select book_id, -count(*) filter (where was = 'AVAILABLE'), -count(*) filter (where was = 'ASSIGNED'), count(*)
  from done where was <> 'LOCKED' group by book_id
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
