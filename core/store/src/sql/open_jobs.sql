-- The ids of one page of a business's open jobs, newest first.
--
-- $1 business, $2 status (QUEUED or RUNNING); if not null: $3 kind, $4 only ids below this one. $5 jobs to examine,
-- $6 jobs to return.
--
-- `examined` numbers the open jobs of all businesses, because the partial index does not contain the business. Postgres
-- reads only the rows of it that the parts below need.
with examined as materialized (
  select row_number() over (order by id desc) as n, id, business_id, status, kind
  from job
  where status in ('QUEUED', 'RUNNING') and id < coalesce($4::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
  order by id desc
  limit $5),
-- The jobs of the page. A CTE is read in its order; an explicit `order by` would read all of it first.
found as materialized (
  select n, id from examined
  where business_id = $1 and status = $2 and ($3::text is null or kind = $3)
  limit $6)
select array(select id from found order by n) as "ids!",
       -- False if the bound ended the page; then older jobs may belong to it.
       ((select count(*) from found) = $6 or not exists (select from examined where n = $5)) as "is_whole!"
