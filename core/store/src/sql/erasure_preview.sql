-- What is stored about a user.
--
-- $1 business, $2 the user, $3 all spellings of the id.
with account as (
  select m.account_id, exists (select from membership o where o.account_id = m.account_id and o.business_id <> $1) as is_shared
  from membership m where m.business_id = $1 and m.user_id = any ($3))
select count(c.code) as "coupons!", count(c.metadata) as "with_metadata!", exists (select from account) as "has_account!",
       coalesce((select bool_or(is_shared) from account), false) as "is_shared!",
       exists (select from erasure where business_id = $1 and user_id = $2) as "is_begun!",
       exists (select from redemption r where r.business_id = $1 and r.user_id = any ($3))
       or exists (select from coupon_book b join user_quota q on q.book_id = b.id and q.user_id = any ($3) where b.business_id = $1)
       or exists (select from user_pool p join pool_member m on m.pool_id = p.id and m.user_id = any ($3) where p.business_id = $1)
         as "is_known!"
from coupon c where c.business_id = $1 and c.holder = any ($3)
