-- The uses of a SHARED code by a user; no row if the user has none.
--
-- $1 business, $2 code, $3 user.
select s.used, case when s.lock_id is not null and s.locked_until > now() then s.locked_until end as locked_until
from shared_use s
where s.business_id = $1 and s.code = $2
  and s.user_id = coalesce((select u.stored from stored_user_id u where u.business_id = $1 and u.user_id = $3), $3)
