-- Which of these codes the business has, and where they came from. $1 business, $2 codes.
select c.code, c.job_id, c.position, c.version > 0 as "is_given_out!"
from unnest($2::text[]) as wanted (code)
join coupon c on c.business_id = $1 and c.code = wanted.code collate "C"
