-- What of a code its owner may change, and what the change depends on. The caller has locked the row of the code.
--
-- $1 business, $2 code.
select c.version, c.status as "status: StoredStatus", b.code_kind as "code_kind: StoredKind", c.max_redemptions, c.max_redeems_per_user, c.starts_at, c.expires_at,
       c.suspended_at is not null as "is_suspended!", c.redeem_count,
       c.redeem_count + coalesce(live_lock_count(c.business_id, c.code, c.lock_count), 0) as "uses!",
       -- A user with one use and no lock does not matter: no limit is less than 1.
       greatest((select s.used from shared_use s
                 where s.business_id = c.business_id and s.code = c.code and s.used > 1 order by s.used desc limit 1),
                (select max(s.used) + 1 from shared_use s
                 where s.business_id = c.business_id and s.code = c.code and s.lock_id is not null and s.locked_until > now()),
                1) as "uses_of_a_user!"
from coupon c join coupon_book b on b.id = c.book_id
where c.business_id = $1 and c.code = $2
