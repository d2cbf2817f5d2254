-- One page of a small book's codes with a prefix, in byte order. It reads all codes of the book, which costs less than
-- reading the codes with the prefix of all books.
--
-- $1 business, $2 book, $3 effective status if not null, $4 prefix, $5 the first text after all texts with the prefix,
-- $6 only after this code, if not null. If not null: $7 job that created them, $8 assigned from this time on, $9 assigned before,
-- $10 redeemed from this time on, $11 redeemed before. $12 limit.
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks
from (select * from coupon where book_id = $2 order by position offset 0) c join coupon_book b on b.id = c.book_id
where b.business_id = $1 and c.code >= $4 and c.code < $5 and c.code > coalesce($6, '')
  and ($3::coupon_status is null
       or case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end = $3)
  and ($7::uuid is null or c.job_id = $7)
  and ($8::timestamptz is null or c.assigned_at >= $8) and ($9::timestamptz is null or c.assigned_at < $9)
  and ($10::timestamptz is null or c.redeemed_at >= $10) and ($11::timestamptz is null or c.redeemed_at < $11)
order by c.code
limit $12
