-- Creates a SHARED code at a position that is reserved for it, unless the business has the code. Writes no event of the code: an admin event
-- records its creation. Returns the number of codes created.
--
-- $1 business, $2 book, $3 code, $4 position; $5 limit in total, $6 of each user, $7 start, $8 end; $9 metadata, $10 the settings.
with made as (
  insert into coupon (business_id, book_id, job_id, position, code, metadata, lock_count, last_use, max_redemptions, max_redeems_per_user, starts_at,
                      expires_at)
  select $1, $2, '00000000-0000-0000-0000-000000000000', $4, $3, $9, 0, 0, $5, $6, $7, $8
  where $8::timestamptz is null or $8 > now()
  on conflict (business_id, code) do nothing
  returning business_id, book_id, code
),
delta as (
  insert into book_delta (book_id, generated, available) select book_id, 1, 1 from made
),
recorded as materialized (
  select admin_event_write(m.business_id, 'COUPON', m.code, 'CREATE', null, $10) from made m
)
select (select count(*) from recorded) as "made!"
