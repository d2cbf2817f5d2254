-- Redeems each item's code once. Each code occurs at most once in a batch.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users, $12 lock ids that the callers name,
-- $13 redemption ids, $14 references, $15 metadata, $16 ids of the events.
-- $17: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- $3 is the id of the event of an expired lock: it is drawn before that of the call's event, and the log is in the order of the ids.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::uuid[], $13::uuid[], $14::text[], $15::jsonb[], $16::uuid[])
    i (n, business_id, lapse_event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, lock_id, redemption_id,
       reference, metadata, event_id)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $17 order by c.business_id, c.code for update of c
),
-- The newest version of each row, and the book's rules. An expired lock is treated as absent. Finds the rows by key
-- alone: with `=` on the holder the planner could use the index of a holder's codes, which may be a million. An id
-- stored untrimmed is looked up only if the holder of the coupon is not the id itself.
held as materialized (
  select i.n, c.business_id, c.code, c.status, c.version, c.redeem_count, b.max_redeems_per_user as most,
         (c.status = 'LOCKED' and c.locked_until <= now()) as lapsed
  from item i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  join coupon_book b on b.id = c.book_id
  where (c.holder is not distinct from i.user_id
         or c.holder is not distinct from (select s.stored from stored_user_id s
                                           where s.business_id = i.business_id and s.user_id = i.user_id))
    and c.status in ('ASSIGNED', 'LOCKED') and c.redeem_count < b.max_redeems_per_user
    and b.status = 'ACTIVE' and coalesce(b.starts_at <= now(), true) and coalesce(b.expires_at > now(), true)
    and coalesce(c.expires_at > now(), true)
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
done as (
  update coupon c
  set status = case when h.redeem_count + 1 = h.most then 'REDEEMED' else 'ASSIGNED' end::coupon_status,
      redeem_count = h.redeem_count + 1, redeemed_at = now(), lock_id = null, locked_at = null, locked_until = null,
      version = h.version + 1 + h.lapsed::int
  from held h
  where c.business_id = h.business_id and c.code = h.code and c.status in ('ASSIGNED', 'LOCKED') and c.redeem_count < h.most
  returning h.n, h.status as was, h.lapsed, h.most, c.business_id, c.book_id, c.position, c.version, c.code, c.holder,
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
  select i.lapse_event_id, d.business_id, d.book_id, d.position, d.version - 1, 'LOCKED'::coupon_status, 'ASSIGNED'::coupon_status, 'EXPIRE',
         d.holder,
         null, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n where d.lapsed
  union all
  select i.event_id, d.business_id, d.book_id, d.position, d.version,
         case when d.lapsed then 'ASSIGNED' else d.was end, d.status, 'REDEEM', d.holder,
         d.redeem_count, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n
),
delta as (
  insert into book_delta (book_id, assigned, locked, redeemed)
  select book_id, count(*) filter (where status = 'ASSIGNED') - count(*) filter (where was = 'ASSIGNED'),
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
