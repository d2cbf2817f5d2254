-- Locks the codes that rows of a file name, if they are free codes of the book, and returns them with the ids under which their users
-- are stored. Codes that other transactions hold are skipped. The CASE hides the state from the planner: see assign_imported.sql.
--
-- $1 business, $2 book; per row: $3 codes, each at most once, $4 users.
with named as materialized (
  select (i.n - 1)::int as n, i.code, coalesce(s.stored, i.user_id) as holder
  from unnest($3::text[], $4::text[]) with ordinality i (code, user_id, n)
  left join stored_user_id s on s.business_id = $1 and s.user_id = i.user_id
)
select i.n as "n!", i.holder as "holder!", c.code, c.position, c.version
from named i join coupon c on c.business_id = $1 and c.code = i.code collate "C"
where c.book_id = $2 and case when c.status = 'AVAILABLE' and c.reserved_by is null and c.suspended_at is null then true end
order by c.business_id, c.code for update of c skip locked
