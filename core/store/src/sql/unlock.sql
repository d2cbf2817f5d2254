-- Releases each item's lock. Each code occurs at most once in a batch.
--
-- $1..$9 are the columns of every batch (see store::batch); $10 codes, $11 users, $12 lock ids that the callers name,
-- $13 whether to release the lock of any holder. An expired lock is removed too, with the event EXPIRE.
-- $14: whether to wait for coupons that other transactions hold; otherwise they are skipped.
with item as materialized (
  select * from unnest($1::int[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[],
                       $10::text[], $11::text[], $12::uuid[], $13::bool[])
    i (n, business_id, event_id, actor, ip, user_agent, request_id, key, fingerprint, code, user_id, lock_id, forced)
),
waited as materialized (
  select 1 from item i join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where $14 order by c.business_id, c.code for update of c
),
held as materialized (
  select i.n, c.business_id, c.code, c.version, c.locked_until > now() as live
  from item i
  join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
  where c.status = 'LOCKED'
    and (i.forced or c.holder = i.user_id
         or c.holder = (select s.stored from stored_user_id s where s.business_id = i.business_id and s.user_id = i.user_id))
    and (i.lock_id is null or i.lock_id = c.lock_id or c.locked_until <= now())
    and (i.key is null or (select 1 from request_key k where k.id = i.key) is null)
    and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
done as (
  update coupon c
  set status = 'ASSIGNED', lock_id = null, locked_at = null, locked_until = null, version = h.version + 1
  from held h
  where c.business_id = h.business_id and c.code = h.code and c.status = 'LOCKED'
  returning h.n, h.live, c.business_id, c.book_id, c.position, c.version, c.code, c.holder
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id,
                            actor, ip, user_agent, request_id)
  select i.event_id, d.business_id, d.book_id, d.position, d.version, 'LOCKED', 'ASSIGNED',
         case when d.live then 'UNLOCK' else 'EXPIRE' end, d.holder, i.actor, i.ip::inet, i.user_agent, i.request_id
  from done d join item i on i.n = d.n
),
delta as (
  insert into book_delta (book_id, assigned, locked) select book_id, count(*), -count(*) from done group by book_id
),
answer as (
  select d.n, i.key, i.fingerprint, jsonb_build_object('code', d.code, 'version', d.version) as outcome from done d join item i on i.n = d.n
),
key as (
  insert into request_key (id, fingerprint, answer)
  select key, fingerprint, jsonb_build_object('Ok', outcome) from answer where key is not null order by key
)
select n as "n!", outcome as "outcome!" from answer
