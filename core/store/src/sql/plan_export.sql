-- Notes the books of an export, and returns the snapshot of this statement and the number of codes of these books. All parts see the
-- same snapshot. A book without positions has no codes and no events.
--
-- $1 job, $2 business, $3 only this book if not null.
--
-- Imports that may still move a code to the position of an earlier line of their file.
with unfinished as materialized (
  select j.id, j.book_id from job j
  where j.business_id = $2 and j.kind = 'IMPORT_CODES' and j.status in ('QUEUED', 'RUNNING', 'FAILED') and j.discarding_at is null
    and ($3::uuid is null or j.book_id = $3)
),
noted as (
  insert into export_book (job_id, ordinal, book_id, positions, imports)
  select $1, row_number() over (order by b.id) - 1, b.id, b.next_position,
         coalesce((select array_agg(u.id order by u.id) from unfinished u where u.book_id = b.id), '{}')
  from coupon_book b
  where b.business_id = $2 and ($3::uuid is null or b.id = $3) and b.next_position > 0
),
counted as (
  select available + assigned + locked + redeemed + void as codes from book_count c
  join coupon_book b on b.id = c.book_id where b.business_id = $2 and ($3::uuid is null or b.id = $3)
  union all
  select available + assigned + locked + redeemed + void from book_delta d
  join coupon_book b on b.id = d.book_id where b.business_id = $2 and ($3::uuid is null or b.id = $3)
)
select (select max(epoch) from event_epoch) as "epoch!", pg_current_snapshot()::text as "transactions!",
       (select coalesce(sum(codes), 0)::bigint from counted) as "codes!"
