-- Adds sums of amounts to the buckets of their books and businesses. Returns the number of rows that it has added.
--
-- $1 maximum number of rows.
with gone as (
  delete from stat_amount_delta where ctid = any (array(select ctid from stat_amount_delta limit $1)) returning *
),
added as (
  insert into stat_amount as t (scope_id, bucket_at, currency, redeemed, amount, discount, rolled_back, rolled_back_amount,
                                rolled_back_discount)
  select scope_id, bucket_at, currency, sum(redeemed), sum(amount), sum(discount), sum(rolled_back), sum(rolled_back_amount),
         sum(rolled_back_discount)
  from gone cross join lateral (values (book_id), (business_id)) scope (scope_id)
  group by scope_id, bucket_at, currency order by scope_id, bucket_at, currency
  on conflict (scope_id, bucket_at, currency) do update
  set redeemed = t.redeemed + excluded.redeemed, amount = t.amount + excluded.amount, discount = t.discount + excluded.discount,
      rolled_back = t.rolled_back + excluded.rolled_back, rolled_back_amount = t.rolled_back_amount + excluded.rolled_back_amount,
      rolled_back_discount = t.rolled_back_discount + excluded.rolled_back_discount
)
select count(*) as "count!" from gone
