-- Adds sums of events to the buckets of their books and businesses, and marks the books and businesses whose top holders may have
-- changed. Returns the number of rows that it has added.
--
-- $1 maximum number of rows.
with gone as (
  delete from stat_delta where ctid = any (array(select ctid from stat_delta limit $1)) returning *
),
part as (
  select scope_id, is_book, bucket_at, sum(assigned) as assigned, sum(locked) as locked, sum(unlocked) as unlocked,
         sum(lock_expired) as lock_expired, sum(redeemed) as redeemed, sum(revoked) as revoked, sum(rolled_back) as rolled_back,
         sum(voided) as voided, sum(used) as used, sum(ever_locked) as ever_locked
  from gone cross join lateral (values (book_id, true), (business_id, false)) scope (scope_id, is_book)
  group by scope_id, is_book, bucket_at
),
changed as (
  insert into stat_top_holder as t (scope_id, is_book, changed_at)
  select scope_id, is_book, clock_timestamp() from part where assigned > 0 or revoked > 0 or voided > 0
  group by scope_id, is_book order by scope_id
  on conflict (scope_id) do update set changed_at = excluded.changed_at
),
added as (
  insert into stat_bucket as t (scope_id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back, voided,
                                used, ever_locked)
  select scope_id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked, rolled_back, voided, used, ever_locked
  from part order by scope_id, bucket_at
  on conflict (scope_id, bucket_at) do update
  set assigned = t.assigned + excluded.assigned, locked = t.locked + excluded.locked, unlocked = t.unlocked + excluded.unlocked,
      lock_expired = t.lock_expired + excluded.lock_expired, redeemed = t.redeemed + excluded.redeemed,
      revoked = t.revoked + excluded.revoked, rolled_back = t.rolled_back + excluded.rolled_back, voided = t.voided + excluded.voided,
      used = t.used + excluded.used, ever_locked = t.ever_locked + excluded.ever_locked
)
select count(*) as "count!" from gone
