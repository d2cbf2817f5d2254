-- The current state of a book, or of all books of a business: counts by status, the stages of their codes, the top holders.
--
-- $1 business, $2 book or null.
with book as (
  select id from coupon_book where business_id = $1 and ($2::uuid is null or id = $2)
),
count as (
  select sum(available) as available, sum(assigned) as assigned, sum(locked) as locked, sum(redeemed) as redeemed, sum(void) as void
  from (
    select c.available, c.assigned, c.locked, c.redeemed, c.void from book_count c where c.book_id in (select id from book)
    union all
    select d.available, d.assigned, d.locked, d.redeemed, d.void from book_delta d where d.book_id in (select id from book)
  ) part
),
stage as (
  select sum(assigned - revoked) as assigned, sum(used) as used, sum(ever_locked) as ever_locked,
         coalesce(bool_or(may_change_holders), false) as may_change_holders
  from (
    select assigned, revoked, used, ever_locked, false as may_change_holders from stat_bucket where scope_id = coalesce($2, $1)
    union all
    select assigned, revoked, used, ever_locked, assigned > 0 or revoked > 0 or voided > 0 from stat_delta where (book_id = $2 or $2 is null) and business_id = $1
  ) part
)
select now() as "now!", coalesce(c.available, 0)::bigint as "available!", coalesce(c.assigned, 0)::bigint as "assigned!",
       coalesce(c.locked, 0)::bigint as "locked!", coalesce(c.redeemed, 0)::bigint as "redeemed!", coalesce(c.void, 0)::bigint as "void!",
       coalesce(s.assigned, 0)::bigint as "ever_assigned!", coalesce(s.ever_locked, 0)::bigint as "ever_locked!",
       coalesce(s.used, 0)::bigint as "used!",
       coalesce(t.holders, '[]') as "holders!", case when t.changed_at <= t.listed_at and not s.may_change_holders then now() else t.listed_at end as listed_at
from count c
cross join stage s
left join stat_top_holder t on t.scope_id = coalesce($2, $1)
