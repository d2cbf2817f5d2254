-- Locks the rows of SHARED codes, and then their users in their books: the codes of a user in a book are counted by shared_read.sql, and
-- another transaction may add one through another code. Returns the codes that are locked. A code that is not of a SHARED book is not
-- returned.
--
-- $1 businesses, $2 codes, $3 users whose codes are counted, or null. $4: whether to wait for codes that other transactions hold; otherwise they are skipped.
-- Lock order: coupons by key, then users by their hash.
with item as materialized (
  select i.business_id, i.code collate "C" as code,
         coalesce((select s.stored from stored_user_id s where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id) as user_id
  from unnest($1::uuid[], $2::text[], $3::text[]) i (business_id, code, user_id)
),
waited as materialized (
  select 1 from (select distinct business_id, code from item) i join coupon c on c.business_id = i.business_id and c.code = i.code
  where $4 order by c.business_id, c.code for update of c
),
held as materialized (
  select c.business_id, c.code, c.book_id
  from (select distinct business_id, code from item) i
  join coupon c on c.business_id = i.business_id and c.code = i.code
  join coupon_book b on b.id = c.book_id
  where b.code_kind = 'SHARED' and (select count(*) from waited) >= 0
  order by c.business_id, c.code for update of c skip locked
),
-- The sort reads all rows of `held`, and so locks them, before the first user is locked.
counted as materialized (
  select pg_advisory_xact_lock(u.hash)
  from (select distinct hashtextextended(h.book_id || '/' || i.user_id, 0) as hash
        from held h join item i on i.business_id = h.business_id and i.code = h.code
        where i.user_id is not null order by hash) u
)
select business_id, code from held where (select count(*) from counted) >= 0
