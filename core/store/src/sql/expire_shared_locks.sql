-- Ends expired locks of SHARED codes, each with an EXPIRE event; those of void codes without one, because VOID has ended them. Returns the
-- number of locks that were found, and of those that were ended.
--
-- $1 ids of the events, in their order: as many locks are ended at most. $2: whether to wait for codes that other transactions hold; otherwise
-- they are skipped, and their locks remain.
-- Lock order: coupons by key, then their users. A lock may have been renewed or used since the snapshot: its row decides.
with due as materialized (
  select s.business_id, s.code, s.user_id from shared_use s
  where s.lock_id is not null and s.locked_until <= now()
  order by s.locked_until limit cardinality($1::uuid[])
),
waited as materialized (
  select 1 from (select distinct business_id, code from due) d join coupon c on c.business_id = d.business_id and c.code = d.code
  where $2 order by c.business_id, c.code for update of c
),
held as materialized (
  select c.business_id, c.code, c.book_id, c.position, c.version, c.status
  from (select distinct business_id, code from due) d
  join coupon c on c.business_id = d.business_id and c.code = d.code
  where (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
ended as (
  update shared_use s set lock_id = null, locked_at = null
  from due d join held h on h.business_id = d.business_id and h.code = d.code
  where s.business_id = d.business_id and s.code = d.code and s.user_id = d.user_id and s.lock_id is not null and s.locked_until <= now()
  returning s.business_id, s.code, s.user_id, s.locked_until, h.book_id, h.position, h.version, h.status
),
numbered as materialized (
  select e.*, row_number() over (partition by e.business_id, e.code order by e.locked_until, e.user_id)::int as step,
         row_number() over (order by e.business_id, e.code, e.locked_until, e.user_id) as place
  from ended e
),
done as (
  update coupon c
  set lock_count = coalesce(c.lock_count, 0) - n.locks, version = n.version + case when n.status = 'VOID' then 0 else n.locks end
  from (select business_id, code, version, status, count(*)::int as locks from numbered group by business_id, code, version, status) n
  where c.business_id = n.business_id and c.code = n.code
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, actor)
  select ($1::uuid[])[place], business_id, book_id, position, version + step, status, status, 'EXPIRE', user_id, 'sweep'
  from numbered where status <> 'VOID' order by place
)
select (select count(*) from due) as "taken!", (select count(*) from numbered) as "expired!"
