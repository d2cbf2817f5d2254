-- Lists the users that hold or have redeemed the most codes of a business. The duration is taken after the list is made, because it is
-- materialized first.
--
-- $1 business, $2 number of users.
with top as materialized (
  select coalesce(jsonb_agg(jsonb_build_object('user_id', user_id, 'held', held) order by held desc, user_id), '[]') as holders
  from (select q.user_id, sum(q.held)::bigint as held
        from user_quota q join coupon_book b on b.id = q.book_id
        where b.business_id = $1 and q.held > 0
        group by q.user_id order by held desc, q.user_id limit $2) top
)
update stat_top_holder t set holders = top.holders, listed_at = now(), took = clock_timestamp() - now()
from top where t.scope_id = $1
