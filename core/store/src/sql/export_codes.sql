-- The next codes of a book by position, up to about 4 MiB of metadata. More may follow if `read`, the number of codes that were read, is
-- $4, or is more than the number of those that are returned.
--
-- $1 book, $2 from this position on, $3 before this position, $4 number of codes, $5 imports that may move their codes: these codes
-- are read by export_moving_codes.sql.
with read as (
  select * from coupon where book_id = $1 and position >= $2 and position < $3 order by position limit $4
),
-- The bytes of the metadata of the codes before. Short ones are not measured.
measured as (
  select *, count(*) over () as read,
         sum(case when pg_column_size(metadata) > 500 then octet_length(metadata::text) else 500 end)
           over (order by position rows between unbounded preceding and 1 preceding) as bytes_before
  from read
)
select c.position, c.job_id = any ($5) as "is_moving!", c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id,
       c.redeem_count, b.max_redeems_per_user, b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until,
       c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, c.read as "read!"
from measured c join coupon_book b on b.id = c.book_id
where coalesce(c.bytes_before, 0) < 4194304
order by c.position
