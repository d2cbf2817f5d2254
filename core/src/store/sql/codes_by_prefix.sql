-- A book's codes that begin with a prefix, in byte order.
--
-- $1 business, $2 book, $3 state as shown if not null, $4 prefix, $5 the first text past all that begin so,
-- $6 after this code, if not null. $7 limit.
select c.code, c.book_id, c.status as "status: CouponStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.metadata, c.created_at, now() as "now!"
from coupon c join coupon_book b on b.id = c.book_id
where c.business_id = $1 and c.book_id = $2 and c.code >= $4 and c.code < $5
  and ($3::text is null or case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end = $3::coupon_status)
  and ($6::text is null or c.code > $6)
order by c.code
limit $7
