-- The members of a pool in the order of their ids, each with the number of codes of the book that it may still get; null if the book
-- has no limit. $1 pool, $2 book.
select m.user_id as "user_id!",
       case when b.max_codes_per_user is not null then greatest(0, b.max_codes_per_user - coalesce(q.held, 0)) end as room
from pool_member m
join coupon_book b on b.id = $2
left join stored_user_id s on s.business_id = b.business_id and s.user_id = m.user_id
left join user_quota q on q.book_id = $2 and q.user_id = coalesce(s.stored, m.user_id)
where m.pool_id = $1
order by m.user_id
