-- Lists the users that hold or have redeemed the most codes of a book. The duration is taken after the list is made, because it is
-- materialized first.
--
-- $1 book, $2 number of users.
with top as materialized (
  select coalesce(jsonb_agg(jsonb_build_object('user_id', user_id, 'held', held) order by held desc, user_id), '[]') as holders
  from (select user_id, held from user_quota where book_id = $1 and held > 0 order by held desc, user_id limit $2) top
)
update stat_top_holder t set holders = top.holders, listed_at = now(), took = clock_timestamp() - now()
from top where t.scope_id = $1
