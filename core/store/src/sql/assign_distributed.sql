-- Gives codes that this transaction holds to their users. The CASE hides the state from the planner: see assign_imported.sql.
--
-- $1 business, $5 book; per code: $2 codes, $3 users, $4 assignment ids.
update coupon c
set status = 'ASSIGNED', holder = a.user_id, assignment_id = a.id, assigned_at = now(),
    expires_at = now() + (select b.code_valid_days from coupon_book b where b.id = $5) * interval '24 hours',
    version = c.version + 1, reserved_by = null
from unnest($2::text[], $3::text[], $4::uuid[]) a (code, user_id, id)
where c.business_id = $1 and c.code = a.code collate "C" and case when c.status = 'AVAILABLE' then true end
