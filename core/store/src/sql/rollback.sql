-- Rolls each item's redemption back, which gives its code one use back. Each code occurs at most once in a batch.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes of the redemptions, $11 redemptions, $12 users that must
-- have made them or null, $13 reasons.
-- $14: whether to wait for coupons that other transactions hold; otherwise they are skipped.
-- Lock order: coupons by key, then their redemptions, then idempotency keys.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::uuid[], $12::text[], $13::text[])
    i (n, business_id, event_id, actor, ip, user_agent, request_id, key, fingerprint, code, redemption_id, user_id, reason)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $14 order by c.business_id, c.code for update of c
),
-- The versions in the snapshot. A coupon that has changed since is left for the next attempt: this snapshot may lack its latest
-- redemptions and rollbacks.
seen as materialized (
  select i.*, c.version as seen_version
  from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
),
held as materialized (
  select i.n, r.id as redemption_id, c.business_id, c.code, c.status, c.version, c.redeem_count, c.rollback_count,
         b.max_redeems_per_user as most
  from seen i
  join redemption r on r.id = i.redemption_id
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  join coupon_book b on b.id = c.book_id
  where r.business_id = i.business_id and r.code = i.code collate "C" and r.rolled_back_at is null and b.code_kind <> 'SHARED'
    and c.version = i.seen_version and c.redeem_count > 0
    and (i.user_id is null or r.user_id = i.user_id
         or r.user_id = (select u.stored from stored_user_id u where u.business_id = i.business_id and u.user_id = i.user_id))
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- The first of several rollbacks of a redemption: its row decides.
taken as (
  update redemption r set rolled_back_at = now()
  from held h where r.id = h.redemption_id and r.rolled_back_at is null
  returning h.n, r.rolled_back_at
),
-- A lock stays, and so does VOID. The time of the last redemption is that of the last one that stands.
done as (
  update coupon c
  set status = case when h.status = 'REDEEMED' then 'ASSIGNED' else h.status end,
      redeem_count = h.redeem_count - 1, rollback_count = h.rollback_count + 1, version = h.version + 1,
      redeemed_at = (select o.at from redemption o
                     where o.business_id = h.business_id and o.code = h.code and o.rolled_back_at is null and o.id <> h.redemption_id
                     order by o.use_number desc limit 1)
  from taken t join held h on h.n = t.n
  where c.business_id = h.business_id and c.code = h.code and c.redeem_count > 0
  returning h.n, h.redemption_id, h.status as was, h.most, t.rolled_back_at, c.business_id, c.book_id, c.position, c.version, c.code,
            c.holder, c.status, c.redeem_count, c.locked_until
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            redeem_count, reason, actor, ip, user_agent, request_id)
  select i.event_id, d.business_id, d.book_id, d.position, d.version, d.was, d.status, 'ROLLBACK', d.holder,
         d.redeem_count, i.reason, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n
),
delta as (
  insert into book_delta (book_id, assigned, redeemed)
  select book_id, count(*), -count(*) from done where was = 'REDEEMED' group by book_id
),
answer as (
  select d.n, i.key, i.fingerprint, jsonb_build_object('id', d.redemption_id, 'code', d.code,
         'status', case when d.status = 'LOCKED' and d.locked_until <= now() then 'ASSIGNED' else d.status end,
         'redeem_count', d.redeem_count, 'max_redeems', d.most, 'rolled_back_at', d.rolled_back_at, 'version', d.version) as outcome
  from done d join item i on i.n = d.n
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n as "n!", outcome as "outcome!" from answer
