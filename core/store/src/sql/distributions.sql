-- One page of a business's distributions, newest first.
--
-- $1 business; if not null: $2 pool, $3 book, $4 only ids below this one. $5 distributions to examine, $6 distributions to return.
with examined as materialized (
  select row_number() over (order by job_id desc) as n, job_id, pool_id, book_id
  from distribution
  where business_id = $1 and job_id < coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by job_id desc
  limit $5),
-- The distributions of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, job_id from examined
  where ($2::uuid is null or pool_id = $2) and ($3::uuid is null or book_id = $3)
  limit $6),
-- If the page is short because of the bound, the last distribution examined follows those of the page.
place as (
  select n, job_id, true as is_found from found
  union all
  select n, job_id, false from examined where n = $5 and (select count(*) from found) < $6)
select p.job_id as "job_id!", p.is_found as "is_found!" from place p order by p.n, p.is_found desc
