-- Ends each item's code permanently. Each code occurs at most once in a batch. A chunk of a job runs it too, in its own
-- transaction, with some thousand items: only once in a transaction, because the quotas are locked in the order of one statement.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users that must hold them or null, $12 effective
-- statuses that they must have or null, $13 reasons, $14 ids of the events.
-- $15: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- Lock order: coupons by key, then quotas, then idempotency keys. The holder stays in the row, but no longer counts in a quota.
-- $3 is the id of the event of an expired lock: it is drawn before that of the call's event, and the log is in the order of the ids.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::text[], $13::text[], $14::uuid[])
    i (n, business_id, lapse_event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, only_status, reason,
       event_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $15 order by c.business_id, c.code for update of c
),
-- The versions in the snapshot. A coupon that has changed since is left for the next attempt: this snapshot may lack the quota of
-- its new holder. The columns of an item stay with it from here on: Postgres joins two of these lists by comparing each row of one
-- with each row of the other.
seen as materialized (
  select i.*, c.version as seen_version
  from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
),
-- Finds the rows by key alone, as in redeem.sql.
held as materialized (
  select i.*, c.status, c.version, coalesce(c.locked_until <= now(), false) as lapsed
  from seen i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where c.version = i.seen_version
    and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED')
    and (i.user_id is null or c.holder is not distinct from i.user_id
         or c.holder is not distinct from (select u.stored from stored_user_id u
                                           where u.business_id = i.business_id and u.user_id = i.user_id))
    and (i.only_status is null
         or i.only_status = (case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end)::text)
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- An expired lock that is still in the row ends first, with an EXPIRE event; a live one ends with the code.
done as (
  update coupon c
  set status = 'VOID', reserved_by = null, lock_id = null, locked_at = null, locked_until = null, version = h.version + 1 + h.lapsed::int
  from held h
  where c.business_id = h.business_id and c.code = h.code and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED')
  returning h.n, h.event_id, h.lapse_event_id, h.reason, h.actor, h.ip::inet, h.user_agent, h.request_id, h.key, h.fingerprint,
            h.status as was, h.lapsed, c.business_id, c.book_id, c.position, c.version, c.code, c.holder
),
quota as materialized (
  select q.book_id, q.user_id, d.freed
  from (select book_id, holder, count(*)::int as freed from done where holder is not null group by book_id, holder) d
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
  from done d where d.lapsed
  union all
  select d.event_id, d.business_id, d.book_id, d.position, d.version, case when d.lapsed then 'ASSIGNED' else d.was end,
         'VOID'::coupon_status, 'VOID', d.holder, d.reason, d.actor, d.ip, d.user_agent, d.request_id
  from done d
),
delta as (
  insert into book_delta (book_id, available, assigned, locked, void)
  select book_id, -count(*) filter (where was = 'AVAILABLE'), -count(*) filter (where was = 'ASSIGNED'),
         -count(*) filter (where was = 'LOCKED'), count(*)
  from done group by book_id
),
answer as (
  select d.n, d.key, d.fingerprint, jsonb_build_object('code', d.code, 'version', d.version) as outcome
  from done d
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n as "n!", outcome as "outcome!" from answer
