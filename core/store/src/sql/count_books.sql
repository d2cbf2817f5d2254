-- The number of books in a list, and the number of books examined.
--
-- $1 business; if not null: $2 status, $3 part of the name. $4 books to examine.
select count(*) filter (where ($2::text is null or status = $2) and ($3::text is null or name ilike '%' || $3 || '%')) as "found!",
       count(*) as "examined!"
from (select status, name from coupon_book where business_id = $1 order by id limit $4) examined
