-- The next codes of a business by code, which never changes, up to about 4 MiB of metadata. Codes of the imports are marked. `read` is as
-- in export_codes.sql.
--
-- $1 business, $2 book, $3 only after this code, $4 the imports, $5 number of codes to examine.
with read as (
  select * from coupon where business_id = $1 and code > $3 order by code limit $5
),
measured as (
  select *, count(*) over () as read,
         sum(case when pg_column_size(metadata) > 500 then octet_length(metadata::text) else 500 end)
           over (order by code rows between unbounded preceding and 1 preceding) as bytes_before
  from read
)
select c.job_id = any ($4) and c.book_id = $2 as "is_found!", c.code, c.book_id, c.status as "status: StoredStatus", c.holder,
       c.assignment_id, c.redeem_count, b.max_redeems_per_user, b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at,
       c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, c.read as "read!"
from measured c cross join coupon_book b
where b.id = $2 and coalesce(c.bytes_before, 0) < 4194304
order by c.code
