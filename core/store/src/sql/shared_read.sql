-- The state on which calls for SHARED codes are decided: the code and the rules of its book, the user's uses and lock, and what is stored
-- under the call's keys. Items of codes of other books are not returned. The decision is in cuponera_domain::coupon::shared.
--
-- $1 numbers, $2 businesses, $3 codes; $4 users, $5 keys, $6 references, $7 redemptions to roll back, $8 ids of locks to
-- release, of any user, or null.
with item as materialized (
  select i.n, i.business_id, i.code collate "C" as code, i.key, i.reference, i.redemption_id, i.lock_id,
         coalesce((select s.stored from stored_user_id s where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id) as user_id
  from unnest($1::int[], $2::uuid[], $3::text[], $4::text[], $5::uuid[], $6::text[], $7::uuid[], $8::uuid[])
    i (n, business_id, code, user_id, key, reference, redemption_id, lock_id)
),
-- `verdict`: why no user can lock or redeem the code now. A row without counters is of a program that did not know SHARED codes.
code as materialized (
  select c.business_id, c.code, c.book_id, c.position, c.version, c.status, c.redeem_count, c.redeemed_at, c.was_locked, c.expires_at, c.max_redemptions,
         coalesce(c.lock_count, 0) as lock_count, coalesce(c.last_use, c.redeem_count) as last_use,
         coalesce(c.max_redeems_per_user, b.max_redeems_per_user) as max_redeems_per_user, b.max_codes_per_user, b.require_lock,
         b.lock_ttl_seconds,
         (select count(*)::int from shared_use s
          where s.business_id = c.business_id and s.code = c.code and s.lock_id is not null and s.locked_until <= statement_timestamp()) as expired_count,
         (select min(s.locked_until) from shared_use s
          where s.business_id = c.business_id and s.code = c.code and s.lock_id is not null and s.locked_until > statement_timestamp()) as first_end,
         case
           when c.status = 'VOID' then 'coupon_void'
           when c.status = 'REDEEMED' then 'coupon_already_redeemed'
           when b.status <> 'ACTIVE' then 'book_not_active'
           when b.starts_at > statement_timestamp() then 'book_not_started'
           when b.expires_at <= statement_timestamp() then 'book_expired'
           when c.suspended_at is not null then 'coupon_suspended'
           when c.starts_at > statement_timestamp() then 'coupon_not_started'
           when c.expires_at <= statement_timestamp() then 'coupon_expired'
         end as verdict
  from (select distinct business_id, code from item) i
  join coupon c on c.business_id = i.business_id and c.code = i.code
  join coupon_book b on b.id = c.book_id
  where b.code_kind = 'SHARED'
),
-- What is stored under the keys of an item, and the user whose uses and lock it concerns.
asked as materialized (
  select i.n, i.business_id, i.code, i.user_id as named_user, r.*, k.fingerprint as stored_fingerprint, k.answer as stored_answer,
         case when i.redemption_id is not null then r.redeemed_by
              when i.lock_id is not null then
                (select s.user_id from shared_use s
                 where s.business_id = i.business_id and s.code = i.code and s.lock_id = i.lock_id limit 1)
              else i.user_id end as user_id
  from item i
  left join request_key k on k.id = i.key
  left join lateral (
    select r.id as redemption_id, r.at as redeemed_at, r.user_id as redeemed_by, r.use_number, r.rolled_back_at from redemption r
    where i.redemption_id is not null and r.id = i.redemption_id and r.business_id = i.business_id and r.code = i.code
    union all
    select r.id, r.at, r.user_id, r.use_number, r.rolled_back_at from used_reference f
    join redemption r on r.business_id = f.business_id and r.code = f.code and r.reference = f.reference
    where i.reference is not null and f.business_id = i.business_id and f.code = i.code and f.reference = i.reference
    limit 1) r on true
)
select a.n as "n!", statement_timestamp() as "now!", c.business_id as "business_id!", c.code as "code!", c.book_id as "book_id!", c.position as "position!",
       c.version as "version!", c.status as "status!: StoredStatus", c.redeem_count as "redeem_count!", c.redeemed_at as last_redeemed_at,
       c.was_locked as "was_locked!", c.expires_at, c.max_redemptions, c.lock_count as "lock_count!", c.last_use as "last_use!",
       c.max_redeems_per_user as "max_redeems_per_user!", c.max_codes_per_user, c.require_lock as "require_lock!", c.lock_ttl_seconds as "lock_ttl_seconds!",
       c.expired_count as "expired_count!", c.first_end, c.verdict,
       a.user_id, a.named_user, u.used as "used?", u.lock_id as "lock_id?", u.locked_at as "locked_at?", u.locked_until as "locked_until?", u.first_at as "first_at?",
       case when c.max_codes_per_user is not null then
         (select count(*)::int from shared_use s join coupon o on o.business_id = s.business_id and o.code = s.code
          where s.book_id = c.book_id and s.user_id = a.user_id and o.status <> 'VOID'
            and (s.used > 0 or s.lock_id is not null and s.locked_until > statement_timestamp()))
       end as codes_of_user,
       a.stored_fingerprint as "stored_fingerprint?", a.stored_answer as "stored_answer?", a.redemption_id as "redemption_id?", a.redeemed_at as "redeemed_at?",
       a.redeemed_by as "redeemed_by?", a.use_number as "use_number?", a.rolled_back_at as "rolled_back_at?"
from asked a
join code c on c.business_id = a.business_id and c.code = a.code
left join lateral (
  select s.used, s.lock_id, s.locked_at, s.locked_until, s.first_at from shared_use s
  where s.business_id = a.business_id and s.code = a.code and s.user_id = a.user_id
  limit 1) u on true
order by a.n
