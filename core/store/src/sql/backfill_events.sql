-- Adds the events of a month that no trigger has counted to the sums that the next roll-up adds to the buckets.
--
-- $1 begin of the month, $2 its end.
insert into stat_delta (business_id, book_id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back,
                        voided, used)
select e.business_id, e.book_id, stat_bucket_of(e.at), count(*) filter (where e.action = 'ASSIGN'),
       count(*) filter (where e.action = 'LOCK' and e.from_status <> 'LOCKED'), count(*) filter (where e.action = 'UNLOCK'),
       count(*) filter (where e.action = 'EXPIRE'), count(*) filter (where e.action = 'REDEEM'),
       count(*) filter (where e.action = 'REVOKE'), count(*) filter (where e.action = 'ROLLBACK'),
       count(*) filter (where e.action = 'VOID'),
       count(*) filter (where e.action = 'REDEEM' and e.redeem_count = 1)
         - count(*) filter (where e.action = 'ROLLBACK' and e.redeem_count = 0)
from coupon_event e cross join stat_backfill b
where e.at >= $1 and e.at < $2
  and (e.epoch < b.epoch or e.epoch = b.epoch and pg_visible_in_snapshot(e.tx, b.snapshot))
group by 1, 2, 3
