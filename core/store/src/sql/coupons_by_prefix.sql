-- One page of a business's coupons with a prefix, in byte order.
--
-- $1 business, $2 prefix, $3 the first text after all texts with the prefix, $4 only after this code, if not null; $5 coupons to
-- return.
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks
from coupon c join coupon_book b on b.id = c.book_id
where c.business_id = $1 and c.code >= $2 and c.code < $3 and c.code > coalesce($4, '')
order by c.code
limit $5
