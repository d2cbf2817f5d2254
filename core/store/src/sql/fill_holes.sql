-- Inserts staged candidates, in their order, at the positions that are still empty. Codes that already exist are
-- skipped.
--
-- $1 business, $2 book, $3 job, $4 first position, $5 number of positions.
with hole as (
  select p.position, row_number() over (order by p.position) as turn
  from (select generate_series($4::int, ($4::int + $5::bigint - 1)::int) as position) p
  where not exists (select from coupon c where c.book_id = $2 and c.position = p.position)
),
candidate as (
  select s.code, row_number() over (order by s.place) as turn
  from staged_code s
  where not exists (select from coupon c where c.business_id = $1 and c.code = s.code)
)
insert into coupon (business_id, book_id, job_id, position, code)
select $1, $2, $3, h.position, d.code from candidate d join hole h using (turn) order by d.code
on conflict (business_id, code) do nothing
