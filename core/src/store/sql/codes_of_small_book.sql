-- One page of the codes of a small book that begin with a prefix, in byte order. It reads all codes of the book, which is less
-- than to walk the codes of all books that share the prefix.
--
-- $1 business, $2 book, $3 state as shown if not null, $4 prefix, $5 the first text after all that begin with it,
-- $6 after this code, if not null. $7 limit.
select c.code, c.book_id, c.status as "status: CouponStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.metadata, c.created_at, now() as "now!"
from (select * from coupon where book_id = $2 order by position offset 0) c join coupon_book b on b.id = c.book_id
where b.business_id = $1 and c.code >= $4 and c.code < $5 and c.code > coalesce($6, '')
  and ($3::coupon_status is null
       or case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end = $3)
order by c.code
limit $7
