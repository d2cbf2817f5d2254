-- Tidies up locks that have run out, up to $1 at once, with an EXPIRE event each. Says how many agenda rows it took and
-- how many locks it ended. A renewed lock has a later row of its own, so this row just goes.
with due as (
  delete from lock_agenda
  where ctid = any (array(select ctid from lock_agenda where locked_until <= now() order by locked_until limit $1
                          for update skip locked))
  returning business_id, code, lock_id
),
held as materialized (
  select c.business_id, c.code, c.version
  from (select distinct business_id, code, lock_id from due order by business_id, code) d
  cross join lateral (
    select c.business_id, c.code, c.version from coupon c
    where c.business_id = d.business_id and c.code = d.code
      and c.lock_id = d.lock_id and c.status = 'LOCKED' and c.locked_until <= now()
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
select (select count(*) from due) as "taken!", (select count(*) from done) as "expired!"
