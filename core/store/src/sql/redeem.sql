-- Redeems each item's code once. Each code occurs at most once in a batch. A free code of a BEARER book is first assigned to the user of the
-- item, within the user's limit; an item without a user presents the code as `bearer:<code>`.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users or null, $12 lock ids that the callers name,
-- $13 redemption ids, $14 references, $15 metadata, $16 ids of the events, $17 ids for new assignments.
-- $18: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- $3 is the id of the event before that of the call: the end of an expired lock, or the assignment. It is drawn before the id of the call's
-- event, and the log is in the order of the ids.
-- Lock order: coupons by key, then quotas, sorted.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::uuid[], $13::uuid[], $14::text[], $15::jsonb[], $16::uuid[], $17::uuid[])
    i (n, business_id, first_event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, lock_id, redemption_id,
       reference, metadata, event_id, assignment_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $18 order by c.business_id, c.code for update of c
),
-- The newest version of each row, and the book's rules. An expired lock is treated as absent. Finds the rows by key
-- alone: with `=` on the holder the planner could use the index of a holder's codes, which may be a million. An id
-- stored untrimmed is looked up only if the holder of the coupon is not the id itself.
held as materialized (
  select i.n, i.user_id as presenter, i.assignment_id as new_assignment_id, c.business_id, c.book_id, c.code, c.status, c.version, c.redeem_count,
         c.holder, c.assignment_id, c.assigned_at, c.expires_at, b.max_redeems_per_user as most, b.max_codes_per_user as cap, b.code_valid_days,
         case when c.status = 'AVAILABLE' then 'ASSIGN' when c.status = 'LOCKED' and c.locked_until <= now() then 'EXPIRE' end as first_action
  from item i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  join coupon_book b on b.id = c.book_id
  where case when c.status = 'AVAILABLE' then b.code_kind = 'BEARER' and c.reserved_by is null
             when i.user_id is null then b.code_kind = 'BEARER' and c.holder = 'bearer:' || c.code
             else c.holder is not distinct from i.user_id
                  or c.holder is not distinct from (select s.stored from stored_user_id s
                                                    where s.business_id = i.business_id and s.user_id = i.user_id) end
    and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED') and c.redeem_count < b.max_redeems_per_user
    and b.status = 'ACTIVE' and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)
    and c.suspended_at is null and coalesce(c.expires_at > now(), true)
    and case when i.lock_id is not null then c.lock_id = i.lock_id and c.locked_until > now()
             when b.require_lock then coalesce(c.locked_until > now(), false)
             else true end
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (i.reference is null
         or (select 1 from redemption r
             where r.business_id = i.business_id and r.code = i.code collate "C" and r.reference = i.reference limit 1) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- The free codes and their next holders. The limit is counted as in assign_named.sql: after the statement holds the code.
presented as materialized (
  select p.*, row_number() over (partition by p.book_id, p.user_id order by p.n) as turn
  from (select h.*, coalesce((select s.stored from stored_user_id s where s.business_id = h.business_id and s.user_id = h.presenter),
                             h.presenter, 'bearer:' || h.code) as user_id
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
-- The new values of the holder's columns.
ready as materialized (
  select n, business_id, code, status, version, redeem_count, most, first_action, holder, assignment_id, assigned_at, expires_at
  from held where status <> 'AVAILABLE'
  union all
  select p.n, p.business_id, p.code, p.status, p.version, p.redeem_count, p.most, p.first_action, p.user_id, p.new_assignment_id, now(),
         now() + p.code_valid_days * interval '24 hours'
  from presented p join quota q on q.book_id = p.book_id and q.user_id = p.user_id where p.turn <= q.granted
),
done as (
  update coupon c
  set status = case when r.redeem_count + 1 = r.most then 'REDEEMED' else 'ASSIGNED' end::coupon_status,
      holder = r.holder, assignment_id = r.assignment_id, assigned_at = r.assigned_at, expires_at = r.expires_at,
      redeem_count = r.redeem_count + 1, redeemed_at = now(), lock_id = null, locked_at = null, locked_until = null,
      version = r.version + 1 + (r.first_action is not null)::int
  from ready r
  where c.business_id = r.business_id and c.code = r.code and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED') and c.redeem_count < r.most
  returning r.n, r.status as was, r.first_action, r.most, c.business_id, c.book_id, c.position, c.version, c.code, c.holder,
            c.status, c.redeem_count, c.rollback_count, c.redeemed_at
),
redemption as (
  insert into redemption (id, business_id, book_id, code, use_number, user_id, reference, metadata)
  select i.redemption_id, d.business_id, d.book_id, d.code, d.redeem_count + d.rollback_count, d.holder, i.reference, i.metadata
  from done d join item i on i.n = d.n
),
-- No `on conflict`: of two redemptions with one reference, one fails and then finds the other.
reference as (
  insert into used_reference (business_id, code, reference)
  select d.business_id, d.code, i.reference from done d join item i on i.n = d.n where i.reference is not null
  order by d.business_id, d.code
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            redeem_count, actor, ip, user_agent, request_id)
  select i.first_event_id, d.business_id, d.book_id, d.position, d.version - 1, d.was, 'ASSIGNED'::coupon_status, d.first_action,
         d.holder, null, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n where d.first_action is not null
  union all
  select i.event_id, d.business_id, d.book_id, d.position, d.version,
         case when d.first_action is null then d.was else 'ASSIGNED' end, d.status, 'REDEEM', d.holder,
         d.redeem_count, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n
),
delta as (
  insert into book_delta (book_id, available, assigned, locked, redeemed)
  select book_id, -count(*) filter (where was = 'AVAILABLE'),
         count(*) filter (where status = 'ASSIGNED') - count(*) filter (where was = 'ASSIGNED'),
         -count(*) filter (where was = 'LOCKED'), count(*) filter (where status = 'REDEEMED')
  from done group by book_id
),
answer as (
  select d.n, i.key, i.fingerprint, jsonb_build_object('code', d.code, 'redemption', i.redemption_id,
         'redeem_count', d.redeem_count, 'max_redeems', d.most, 'redeemed_at', d.redeemed_at, 'version', d.version) as outcome
  from done d join item i on i.n = d.n
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n as "n!", outcome as "outcome!" from answer
