-- Like reserve_codes.sql, but waits for codes that other transactions hold.
--
-- $1 business, $2 book, $3 job, $4 the first position to look at, $5 how many codes.
with picked as materialized (
  select c.code from coupon c
  where c.book_id = $2 and c.is_free and c.reserved_by is null and c.suspended_at is null and c.position >= $4
  order by c.position limit $5 for update
),
marked as (
  update coupon c set reserved_by = $3 from picked p
  where c.business_id = $1 and c.code = p.code and case when c.status = 'AVAILABLE' then true end
  returning c.position
)
select position as "position!" from marked order by position
