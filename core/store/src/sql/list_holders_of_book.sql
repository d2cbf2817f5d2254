-- Lists the users that hold or have redeemed the most codes of a book.
--
-- $1 book, $2 number of users.
update stat_top_holder t
set holders = coalesce((select jsonb_agg(jsonb_build_object('user_id', user_id, 'held', held) order by held desc, user_id)
                        from (select user_id, held from user_quota where book_id = $1 and held > 0
                              order by held desc, user_id limit $2) top), '[]'),
    listed_at = now(), took = clock_timestamp() - now()
where t.scope_id = $1
