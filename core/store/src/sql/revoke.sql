-- Takes each item's code back from its holder, who has never used it. Each code occurs at most once in a batch. A chunk of a job
-- runs it too, in its own transaction, with up to 1,000 items: only once in a transaction, because the quotas are locked in the
-- order of one statement.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes; $11 users and $12 assignments that the codes must belong
-- to, or null; $13 reasons; $14 ids of the events.
-- $15: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- Lock order: coupons by key, then quotas, then idempotency keys.
-- $3 is the id of the event of an expired lock: it is drawn before that of the call's event, and the log is in the order of the ids.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::uuid[], $13::text[], $14::uuid[])
    i (n, business_id, lapse_event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, assignment_id, reason,
       event_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $15 order by c.business_id, c.code for update of c
),
-- The versions in the snapshot. A coupon that has changed since is left for the next attempt: this snapshot may lack the quota of
-- its new holder. The columns of an item stay with it from here on, as in void.sql.
seen as materialized (
  select i.*, c.version as seen_version
  from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
),
-- Finds the rows by key alone, as in redeem.sql.
held as materialized (
  select i.*, c.holder, c.status, c.version, c.was_locked
  from seen i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where c.version = i.seen_version
    and c.status in ('ASSIGNED', 'LOCKED') and coalesce(c.locked_until <= now(), true)
    and c.redeem_count = 0 and c.rollback_count = 0
    and (i.user_id is null or c.holder is not distinct from i.user_id
         or c.holder is not distinct from (select u.stored from stored_user_id u
                                           where u.business_id = i.business_id and u.user_id = i.user_id))
    and (i.assignment_id is null or c.assignment_id = i.assignment_id)
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- An expired lock that is still in the row ends first, with an EXPIRE event.
done as (
  update coupon c
  set status = 'AVAILABLE', holder = null, assignment_id = null, assigned_at = null, expires_at = null, reserved_by = null,
      lock_id = null, locked_at = null, locked_until = null, was_locked = false,
      version = h.version + 1 + (h.status = 'LOCKED')::int
  from held h
  where c.business_id = h.business_id and c.code = h.code and c.status in ('ASSIGNED', 'LOCKED')
  returning h.n, h.event_id, h.lapse_event_id, h.reason, h.actor, h.ip::inet, h.user_agent, h.request_id, h.key, h.fingerprint,
            h.status as was, h.was_locked, h.holder, c.business_id, c.book_id, c.position, c.version, c.code
),
quota as materialized (
  select q.book_id, q.user_id, d.freed
  from (select book_id, holder, count(*)::int as freed from done group by book_id, holder) d
  join user_quota q on q.book_id = d.book_id and q.user_id = d.holder
  order by q.book_id, q.user_id for update of q
),
freed as (
  update user_quota q set held = q.held - f.freed from quota f where q.book_id = f.book_id and q.user_id = f.user_id
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            reason, actor, ip, user_agent, request_id)
  select d.lapse_event_id, d.business_id, d.book_id, d.position, d.version - 1, 'LOCKED'::coupon_status, 'ASSIGNED'::coupon_status,
         'EXPIRE', d.holder, null, d.actor, d.ip, d.user_agent, d.request_id
  from done d where d.was = 'LOCKED'
  union all
  select d.event_id, d.business_id, d.book_id, d.position, d.version, 'ASSIGNED'::coupon_status, 'AVAILABLE'::coupon_status,
         'REVOKE', d.holder, d.reason, d.actor, d.ip, d.user_agent, d.request_id
  from done d
),
delta as (
  insert into book_delta (book_id, available, assigned, locked)
  select book_id, count(*), -count(*) filter (where was = 'ASSIGNED'), -count(*) filter (where was = 'LOCKED')
  from done group by book_id
),
statistic as (
  insert into stat_delta (business_id, book_id, bucket_at, ever_locked)
  select business_id, book_id, stat_bucket_of(now()), -count(*) from done where was_locked group by business_id, book_id
),
answer as (
  select d.n, d.key, d.fingerprint, jsonb_build_object('code', d.code, 'book', d.book_id, 'version', d.version) as outcome
  from done d
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n as "n!", outcome as "outcome!" from answer
