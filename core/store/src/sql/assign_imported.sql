-- Assigns codes that this transaction has inserted to their users. Other statements count the quotas and write the
-- events. The CASE hides the status from the planner: with statistics from before the import, which show only assigned
-- codes, it would expect one free code and compare each row of the part with each code of it.
--
-- $1 business, $5 book; per code: $2 codes, $3 users, $4 assignment ids.
update coupon c
set status = 'ASSIGNED', holder = a.user_id, assignment_id = a.id, assigned_at = now(),
    expires_at = now() + (select b.code_valid_days from coupon_book b where b.id = $5) * interval '24 hours', version = c.version + 1
from unnest($2::text[], $3::text[], $4::uuid[]) a (code, user_id, id)
where c.business_id = $1 and c.code = a.code collate "C" and case when c.status = 'AVAILABLE' then true end
