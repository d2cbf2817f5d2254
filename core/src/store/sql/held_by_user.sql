-- A user's coupons in the order they were given.
--
-- $1 business, $2 user; $3 book, $4 state as shown, $5 and $6 after this time and code: if not null. $7 limit.
select c.code, c.book_id, c.status as "status: CouponStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.metadata, c.created_at, now() as "now!"
from coupon c join coupon_book b on b.id = c.book_id
where c.business_id = $1 and c.holder = coalesce((select s.stored from stored_user_id s where s.business_id = $1 and s.user_id = $2), $2)
  and ($3::uuid is null or c.book_id = $3)
  and ($4::text is null or case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end = $4::coupon_status)
  and ($5::timestamptz is null or (c.assigned_at, c.code) > ($5, $6))
order by c.assigned_at, c.code
limit $7
