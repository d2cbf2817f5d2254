-- Notes the members of a pool, numbered from 0 in the order of their ids, each with the number of codes of the book that it may still
-- get; null if the book has no limit. $1 job, $2 pool, $3 book.
insert into distribution_member (job_id, ordinal, user_id, room)
select $1, (row_number() over (order by m.user_id) - 1)::int, m.user_id,
       case when b.max_codes_per_user is not null then greatest(0, b.max_codes_per_user - coalesce(q.held, 0)) end
from pool_member m
join coupon_book b on b.id = $3
left join stored_user_id s on s.business_id = b.business_id and s.user_id = m.user_id
left join user_quota q on q.book_id = $3 and q.user_id = coalesce(s.stored, m.user_id)
where m.pool_id = $2
