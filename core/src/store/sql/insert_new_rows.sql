-- Writes the staged rows whose codes the business does not have, in the order of the codes, and takes them out of the staged
-- ones. A code that another transaction is writing is waited for.
--
-- $1 business, $2 book, $3 job.
with new as (
  insert into coupon (business_id, book_id, job_id, position, code, metadata)
  select $1, $2, $3, position, code, metadata from staged_row order by code
  on conflict (business_id, code) do nothing
  returning code
)
delete from staged_row s using new where s.code = new.code
