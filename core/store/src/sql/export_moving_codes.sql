-- The next codes of a business by code, which never changes. Codes of the imports are marked.
--
-- $1 business, $2 book, $3 only after this code, $4 the imports, $5 number of codes to examine.
select c.job_id = any ($4) and c.book_id = $2 as "is_found!", c.code, c.book_id, c.status as "status: StoredStatus", c.holder,
       c.assignment_id, c.redeem_count, b.max_redeems_per_user, c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at,
       c.metadata, c.created_at, now() as "now!"
from coupon c cross join coupon_book b
where c.business_id = $1 and c.code > $3 and b.id = $2
order by c.code
limit $5
