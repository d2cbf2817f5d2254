-- The number of codes of the book that each user may still get, after the codes that earlier parts of the dry run
-- assign. A book without a limit returns no rows. $1 job, $2 book, $3 users.
with asked as (
  select a.user_id, coalesce((select s.stored from coupon_book b join stored_user_id s on s.business_id = b.business_id
                              where b.id = $2 and s.user_id = a.user_id collate "C"), a.user_id) as stored
  from (select distinct user_id from unnest($3::text[]) as a (user_id)) a
)
select a.user_id as "user_id!",
  b.max_codes_per_user
    - coalesce((select q.held from user_quota q where q.book_id = $2 and q.user_id = a.stored), 0)
    - (select count(*) from dry_run_code d where d.job_id = $1 and d.holder = a.user_id collate "C") as "room!"
from asked a join coupon_book b on b.id = $2 and b.max_codes_per_user is not null
