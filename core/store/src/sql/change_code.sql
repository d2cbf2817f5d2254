-- Changes the limits and the suspension of a code at the version that was read, with an UPDATE event and an admin event. Returns the number of
-- codes changed.
--
-- $1 business, $2 code, $3 version read, $4 new status, $5 whether it is suspended, $6 whether it is SHARED; its limits: $7 in total, $8 of each user,
-- $9 start, $10 end. $11 event id, $12 the change in words, $13 and $14 the settings before and after. $15 actor, $16 address, $17 user agent, $18 request id.
with before as (
  select status from coupon where business_id = $1 and code = $2
),
done as (
  update coupon c
  set version = c.version + 1, status = $4::text::coupon_status, suspended_at = case when $5 then coalesce(c.suspended_at, now()) end,
      lock_count = case when $6 then coalesce(c.lock_count, 0) end, last_use = case when $6 then coalesce(c.last_use, c.redeem_count) end,
      max_redemptions = $7, max_redeems_per_user = $8, starts_at = $9, expires_at = case when $6 then $10 else c.expires_at end
  where c.business_id = $1 and c.code = $2 and c.version = $3
  returning c.business_id, c.book_id, c.position, c.version, c.code, c.status, c.holder
),
event as (
  insert into coupon_event (id, business_id, book_id, position, version, from_status, to_status, action, user_id, reason, actor, ip, user_agent, request_id)
  select $11, d.business_id, d.book_id, d.position, d.version, b.status, d.status, 'UPDATE', d.holder, $12, $15, $16::text::inet, $17, $18
  from done d cross join before b
),
delta as (
  insert into book_delta (book_id, available, redeemed)
  select d.book_id, (d.status = 'AVAILABLE')::int - (b.status = 'AVAILABLE')::int, (d.status = 'REDEEMED')::int - (b.status = 'REDEEMED')::int
  from done d cross join before b where d.status <> b.status
),
recorded as materialized (
  select admin_event_write(d.business_id, 'COUPON', d.code, 'UPDATE', $13, $14) from done d
)
select (select count(*) from recorded) as "changed!"
