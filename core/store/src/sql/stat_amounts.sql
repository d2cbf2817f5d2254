-- The sums of amounts of a window by currency: of the buckets and of the rows that are not in them yet, in one snapshot. As text: the sums
-- may exceed a bigint.
--
-- $1 book or business, $2 begin, $3 end.
with part as (
  select currency, redeemed, amount, discount, rolled_back, rolled_back_amount, rolled_back_discount
  from stat_amount where scope_id = $1 and bucket_at >= $2 and bucket_at < $3
  union all
  select currency, redeemed, amount, discount, rolled_back, rolled_back_amount, rolled_back_discount
  from stat_amount_delta where (book_id = $1 or business_id = $1) and bucket_at >= $2 and bucket_at < $3
)
select currency as "currency!: StoredCurrency", sum(redeemed)::bigint as "redeemed!", sum(amount)::text as "amount!",
       sum(discount)::text as "discount!", sum(rolled_back)::bigint as "rolled_back!", sum(rolled_back_amount)::text as "rolled_back_amount!",
       sum(rolled_back_discount)::text as "rolled_back_discount!"
from part group by currency order by currency
