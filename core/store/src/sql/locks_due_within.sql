-- Locks that expire soon, earliest first, from the agenda. An agenda row counts only if the coupon still has the same
-- lock with the same expiry. $1 seconds from now, $2 maximum number of agenda rows.
select c.business_id, c.code, c.version, c.lock_id as "lock_id?", c.holder as "holder?", c.locked_until as "locked_until?"
from (select locked_until, business_id, code, lock_id from lock_agenda
      where locked_until > now() and locked_until <= now() + make_interval(secs => $1)
      order by locked_until limit $2) a
join coupon c on c.business_id = a.business_id and c.code = a.code
where c.lock_id = a.lock_id and c.locked_until = a.locked_until
