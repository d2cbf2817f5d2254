-- One page of a book's free codes in the order of their positions.
--
-- $1 business, $2 book, $3 only after this code, if not null. $4 positions to examine, $5 codes to return.
--
-- The partial index contains the free codes and, until the next vacuum, codes that were free. The bound limits the
-- latter.
--
-- `span` is the range of positions to examine. It starts at the first code after the cursor.
with span as materialized (
  select c.position as first, c.position + $4 as past
  from coupon c
  where c.book_id = $2
    and c.position > case when $3::text is null then -1
                          else (select p.position from coupon p where p.business_id = $1 and p.code = $3 and p.book_id = $2) end
  order by c.position
  limit 1),
-- The codes of the page.
found as materialized (
  select c.position, c.code
  from coupon c
  where c.book_id = $2 and c.is_free and c.position >= (select first from span) and c.position < (select past from span)
  order by c.position
  limit $5),
-- If the page is short and the book has codes after the span, the last code of the span follows the page's codes.
place as (
  select position, code, true as is_found from found
  union all
  (select c.position, c.code, false
   from coupon c
   where c.book_id = $2 and c.position >= (select first from span) and c.position < (select past from span)
     and (select count(*) from found) < $5
     and exists (select from coupon o where o.book_id = $2 and o.position >= (select past from span))
   order by c.position desc
   limit 1))
select c.code, c.book_id, c.status as "status: StoredStatus", c.holder, c.assignment_id, c.redeem_count, b.max_redeems_per_user,
       b.code_kind as "code_kind: StoredKind", c.assigned_at, c.locked_at, c.locked_until, c.redeemed_at, c.expires_at, c.metadata, c.created_at, now() as "now!",
       c.suspended_at, c.max_redemptions, c.max_redeems_per_user as own_max_redeems_per_user, c.starts_at,
       live_lock_count(c.business_id, c.code, c.lock_count) as live_locks, p.is_found as "is_found!"
from place p
cross join lateral (select * from coupon c where c.business_id = $1 and c.code = p.code limit 1) c
join coupon_book b on b.id = c.book_id
order by p.position, p.is_found desc
