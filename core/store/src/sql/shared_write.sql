-- Writes the effects of calls for SHARED codes, which shared_lock.sql has locked and cuponera_domain::coupon::shared has decided. Returns the
-- number of coupons changed: if one has another version than the one that was read, the transaction is rolled back.
--
-- Coupons: $1 businesses, $2 codes, $3 versions read, $4 new versions, $5 statuses read, $6 new statuses, $7 redeem counts, $8 lock counts, $9 numbers of the last
-- uses, $10 times of the last redemptions, $11 whether they were locked before, $12 whether they have been locked.
-- Users: $13 businesses, $14 codes, $15 users, $16 books, $17 uses, $18 lock ids, $19 times and $20 ends of the locks, $21 first times.
-- Events: $22 ids, $23 times, $24 businesses, $25 books, $26 positions, $27 versions, $28 statuses before and $29 after, $30 actions, $31 users, $32 redeem counts,
-- $33 reasons, $34 actors, $35 addresses, $36 user agents, $37 request ids.
-- Redemptions: $38 ids, $39 times, $40 businesses, $41 books, $42 codes, $43 numbers, $44 users, $45 references, $46 metadata.
-- Rollbacks: $47 redemptions, $48 times. Keys: $49 ids, $50 fingerprints, $51 answers.
with done as (
  update coupon c
  set version = i.version, status = i.status::coupon_status, redeem_count = i.redeem_count, lock_count = i.lock_count, last_use = i.last_use,
      redeemed_at = i.redeemed_at, was_locked = i.is_locked
  from unnest($1::uuid[], $2::text[], $3::int[], $4::int[], $5::text[], $6::text[], $7::int[], $8::int[], $9::int[], $10::timestamptz[],
              $11::bool[], $12::bool[])
    i (business_id, code, seen_version, version, was, status, redeem_count, lock_count, last_use, redeemed_at, was_locked, is_locked)
  where c.business_id = i.business_id and c.code = i.code collate "C" and c.version = i.seen_version
  returning c.business_id, c.book_id, i.was::coupon_status, c.status, i.was_locked, c.was_locked as is_locked
),
use as (
  insert into shared_use as u (business_id, code, user_id, book_id, used, lock_id, locked_at, locked_until, first_at)
  select * from unnest($13::uuid[], $14::text[], $15::text[], $16::uuid[], $17::int[], $18::uuid[], $19::timestamptz[], $20::timestamptz[], $21::timestamptz[])
  on conflict (business_id, code, user_id) do update
    set used = excluded.used, lock_id = excluded.lock_id, locked_at = excluded.locked_at, locked_until = excluded.locked_until
),
event as (
  insert into coupon_event (id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, redeem_count, reason,
                            actor, ip, user_agent, request_id)
  select id, at, business_id, book_id, position, version, from_status::coupon_status, to_status::coupon_status, action, user_id, redeem_count, reason, actor, ip::inet,
         user_agent, request_id
  from unnest($22::uuid[], $23::timestamptz[], $24::uuid[], $25::uuid[], $26::int[], $27::int[], $28::text[], $29::text[], $30::text[], $31::text[],
              $32::int[], $33::text[], $34::text[], $35::text[], $36::text[], $37::text[])
    i (id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, redeem_count, reason, actor, ip, user_agent, request_id)
),
redeemed as (
  insert into redemption (id, at, business_id, book_id, code, use_number, user_id, reference, metadata)
  select * from unnest($38::uuid[], $39::timestamptz[], $40::uuid[], $41::uuid[], $42::text[], $43::int[], $44::text[], $45::text[], $46::jsonb[])
),
-- No `on conflict`: of two redemptions with one reference, one fails and then finds the other.
reference as (
  insert into used_reference (business_id, code, reference)
  select business_id, code, reference from unnest($40::uuid[], $42::text[], $45::text[]) i (business_id, code, reference)
  where reference is not null order by business_id, code, reference
),
rolled_back as (
  update redemption r set rolled_back_at = i.at from unnest($47::uuid[], $48::timestamptz[]) i (id, at)
  where r.id = i.id and r.rolled_back_at is null
  returning 1
),
delta as (
  insert into book_delta (book_id, available, redeemed)
  select book_id, count(*) filter (where status = 'AVAILABLE') - count(*) filter (where was = 'AVAILABLE'),
         count(*) filter (where status = 'REDEEMED') - count(*) filter (where was = 'REDEEMED')
  from done where status <> was group by book_id
),
statistic as (
  insert into stat_delta (business_id, book_id, bucket_at, ever_locked)
  select business_id, book_id, stat_bucket_of(now()), count(*) from done where is_locked and not was_locked group by business_id, book_id
),
key as (
  insert into request_key (id, fingerprint, answer)
  select * from unnest($49::uuid[], $50::uuid[], $51::jsonb[]) i (id, fingerprint, answer) order by id
)
select (select count(*) from done) as "coupons!", (select count(*) from rolled_back) as "rollbacks!"
