-- One page of a small book's codes with a prefix, in byte order. It reads all codes of the book, which costs less than
-- reading the codes with the prefix of all books.
--
-- $1 business, $2 book, $3 effective status if not null, $4 prefix, $5 the first text after all texts with the prefix,
-- $6 only after this code, if not null. $7 limit.
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.metadata, c.created_at, now() as "now!"
from (select * from coupon where book_id = $2 order by position offset 0) c join coupon_book b on b.id = c.book_id
where b.business_id = $1 and c.code >= $4 and c.code < $5 and c.code > coalesce($6, '')
  and ($3::coupon_status is null
       or case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end = $3)
order by c.code
limit $7
