-- The codes in $2 that the business has. $1 business, $2 codes.
select c.code
from unnest($2::text[]) as wanted (code)
join coupon c on c.business_id = $1 and c.code = wanted.code collate "C"
