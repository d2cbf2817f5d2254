-- Inserts the staged rows whose codes the business does not have, in the order of the codes, and deletes them from
-- `staged_row`. Waits for a transaction that inserts the same code.
--
-- $1 business, $2 book, $3 job.
with new as (
  insert into coupon (business_id, book_id, job_id, position, code, metadata)
  select $1, $2, $3, position, code, metadata from staged_row order by code
  on conflict (business_id, code) do nothing
  returning code
)
delete from staged_row s using new where s.code = new.code
