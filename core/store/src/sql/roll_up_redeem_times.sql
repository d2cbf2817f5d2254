-- Adds times of first redemptions to the buckets of their books and businesses. Returns the number of rows that it has added.
--
-- $1 maximum number of rows.
with gone as (
  delete from redeem_time_delta where ctid = any (array(select ctid from redeem_time_delta limit $1)) returning *
),
added as (
  insert into redeem_time as t (scope_id, bucket_at, step, redeemed)
  select scope_id, bucket_at, step, sum(redeemed)
  from gone cross join lateral (values (book_id), (business_id)) scope (scope_id)
  group by scope_id, bucket_at, step order by scope_id, bucket_at, step
  on conflict (scope_id, bucket_at, step) do update set redeemed = t.redeemed + excluded.redeemed
)
select count(*) as "count!" from gone
