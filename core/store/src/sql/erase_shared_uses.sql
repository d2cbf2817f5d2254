-- Moves the uses of SHARED codes by a user to the pseudonym of the erasure. The codes are locked. If the pseudonym has uses of a code already, they
-- are added; of two locks one remains.
--
-- $1 business, $2 codes, $3 pseudonym, $4 user.
with gone as (
  delete from shared_use where business_id = $1 and code = any ($2) and user_id = $4
  returning business_id, code, book_id, used, lock_id, locked_at, locked_until, first_at
),
doubled as (
  update coupon c set lock_count = c.lock_count - 1
  from gone g join shared_use o on o.business_id = g.business_id and o.code = g.code and o.user_id = $3
  where c.business_id = g.business_id and c.code = g.code and g.lock_id is not null and o.lock_id is not null
),
moved as (
  insert into shared_use as u (business_id, code, user_id, book_id, used, lock_id, locked_at, locked_until, first_at)
  select business_id, code, $3, book_id, used, lock_id, locked_at, locked_until, first_at from gone order by code
  on conflict (business_id, code, user_id) do update
    set used = u.used + excluded.used, lock_id = coalesce(u.lock_id, excluded.lock_id), locked_at = coalesce(u.locked_at, excluded.locked_at),
        locked_until = case when u.lock_id is null then coalesce(excluded.locked_until, u.locked_until) else u.locked_until end
),
redeemed as (
  update redemption set user_id = $3 where business_id = $1 and code = any ($2) and user_id = $4
  returning 1
)
select (select count(*) from gone) + (select count(*) from redeemed) as "rows!"
