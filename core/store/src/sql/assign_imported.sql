-- Gives codes that this transaction has written to their users. The quotas are counted, and the events written, elsewhere.
-- The CASE hides the state from the planner. Where the statistics know only of codes that are given out, it would expect one free
-- code, and compare each row of the part with each code of it.
--
-- $1 business; per code: $2 codes, $3 users, $4 assignment ids.
update coupon c
set status = 'ASSIGNED', holder = a.user_id, assignment_id = a.id, assigned_at = now(), version = c.version + 1
from unnest($2::text[], $3::text[], $4::uuid[]) a (code, user_id, id)
where c.business_id = $1 and c.code = a.code collate "C" and case when c.status = 'AVAILABLE' then true end
