-- The next codes of a book by position.
--
-- $1 book, $2 from this position on, $3 before this position, $4 number of codes, $5 imports that may move their codes: these codes
-- are read by export_moving_codes.sql.
select c.position, c.job_id = any ($5) as "is_moving!", c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id,
       c.redeem_count, b.max_redeems_per_user, c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata,
       c.created_at, now() as "now!"
from coupon c join coupon_book b on b.id = c.book_id
where c.book_id = $1 and c.position >= $2 and c.position < $3
order by c.position
limit $4
