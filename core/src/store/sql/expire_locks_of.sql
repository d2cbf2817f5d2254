-- Tidies up the locks of these coupons that have run out, with an EXPIRE event each. Says how many it ended.
--
-- $1 businesses, $2 codes.
with held as materialized (
  select c.business_id, c.code, c.version
  from (select distinct business_id, code collate "C" as code
        from unnest($1::uuid[], $2::text[]) i (business_id, code) order by 1, 2) d
  cross join lateral (
    select c.business_id, c.code, c.version from coupon c
    where c.business_id = d.business_id and c.code = d.code and c.status = 'LOCKED' and c.locked_until <= now()
    for update) c
),
done as (
  update coupon c
  set status = 'ASSIGNED', lock_id = null, locked_at = null, locked_until = null, version = h.version + 1
  from held h
  where c.business_id = h.business_id and c.code = h.code and c.status = 'LOCKED'
  returning c.business_id, c.book_id, c.position, c.version, c.holder
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
  select gen_random_uuid(), business_id, book_id, position, version, 'LOCKED', 'ASSIGNED', 'EXPIRE', holder, 'sweep'
  from done
),
delta as (
  insert into book_delta (book_id, assigned, locked) select book_id, count(*), -count(*) from done group by book_id
)
select count(*) as "expired!" from done
