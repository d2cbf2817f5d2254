-- Ends expired locks, each with an EXPIRE event: those of the given coupons, and those of up to $3 rows of the agenda,
-- which it deletes. A renewed lock has a later agenda row of its own. A coupon that another transaction holds is
-- skipped, and its agenda row stays. Returns the number of agenda rows deleted and of locks ended.
--
-- $1 businesses, $2 codes, $3 maximum number of agenda rows.
with due as materialized (
  select ctid as at, business_id, code from lock_agenda where locked_until <= now() order by locked_until limit $3
  for update skip locked
),
held as materialized (
  select c.business_id, c.code, c.version
  from (select business_id, code collate "C" as code from unnest($1::uuid[], $2::text[]) i (business_id, code)
        union select business_id, code from due
        order by business_id, code) d
  cross join lateral (
    select c.business_id, c.code, c.version from coupon c
    where c.business_id = d.business_id and c.code = d.code and c.status = 'LOCKED' and c.locked_until <= now()
    for update skip locked) c
),
gone as (
  delete from lock_agenda
  where ctid = any (array(
    select d.at from due d
    where exists (select from held h where h.business_id = d.business_id and h.code = d.code)
       or not exists (select from coupon c where c.business_id = d.business_id and c.code = d.code
                        and c.status = 'LOCKED' and c.locked_until <= now())))
  returning 1
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
select (select count(*) from gone) as "taken!", (select count(*) from done) as "expired!"
