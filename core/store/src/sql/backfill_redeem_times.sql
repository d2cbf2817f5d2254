-- Adds the first redemptions of a month that no trigger has counted to the histogram of the next roll-up.
--
-- $1 begin of the month, $2 its end.
insert into redeem_time_delta (business_id, book_id, bucket_at, step, redeemed)
select r.business_id, r.book_id, stat_bucket_of(r.at), redeem_time_step(r.at - c.assigned_at), count(*)
from redemption r
cross join stat_backfill b
join coupon c on c.business_id = r.business_id and c.code = r.code
where r.at >= $1 and r.at < $2 and r.use_number = 1 and c.assigned_at is not null
  and (r.epoch < b.epoch or r.epoch = b.epoch and pg_visible_in_snapshot(r.tx, b.snapshot))
group by 1, 2, 3, 4
