-- One page of a business's live API keys, newest first.
--
-- $1 business, $2 older than this id if not null. $3 keys to examine, $4 keys to return.
--
-- `examined` numbers the keys after the cursor. Postgres reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by id desc) as n, id, name, role, hint, permissions, book_ids, created_by,
         created_at, expires_at, last_used_at, revoked_at
  from api_key
  where business_id = $1 and id < coalesce($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by id desc
  limit $3),
-- The keys of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select * from examined
  where revoked_at is null and coalesce(expires_at > now(), true)
  limit $4)
select n as "n!", id as "id!", name as "name!", role as "role!", hint as "hint!", permissions, book_ids,
       created_by, created_at as "created_at!", expires_at, last_used_at, true as "is_found!" from found
union all
-- If the page is short because of the bound, the last key examined follows the page's keys.
select n, id, name, role, hint, permissions, book_ids, created_by, created_at, expires_at, last_used_at, false
from examined where n = $3 and (select count(*) from found) < $4
order by "n!", "is_found!" desc
