-- Why an item of redeem changed nothing, by the current rows. `Store::validate` uses it too. `again`: no rule rejects
-- the item. `already`: the first redemption of the code with this reference, by the same user; of earlier programs there may be several.
-- `shared`: the code is SHARED, and shared_lock.sql and the others execute the item. `user_required`: an item without a user presents a BEARER code, and this code is none.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when c.code is null then 'coupon_not_found'
    when b.code_kind = 'SHARED' then 'shared'
    when i.user_id is null and b.code_kind <> 'BEARER' then 'user_required'
    when r.user_id <> u.user_id then 'reference_used'
    when r.rolled_back_at is not null then 'already_rolled_back'
    when r.id is not null then 'already'
    when c.status = 'VOID' then 'coupon_void'
    when c.holder is null and b.code_kind <> 'BEARER' then 'not_assigned'
    when c.holder <> u.user_id and c.locked_until > now() then 'coupon_locked'
    when c.holder <> u.user_id then 'not_holder'
    when c.redeem_count >= b.max_redeems_per_user or c.status = 'REDEEMED' then 'coupon_already_redeemed'
    when b.status <> 'ACTIVE' then 'book_not_active'
    when b.starts_at > now() then 'book_not_started'
    when b.expires_at <= now() then 'book_expired'
    when c.suspended_at is not null then 'coupon_suspended'
    when c.expires_at <= now() then 'coupon_expired'
    when c.status = 'AVAILABLE' and c.reserved_by is not null then 'coupon_reserved'
    when i.lock_id is not null and c.lock_id <> i.lock_id and c.locked_until > now() then 'lock_stale'
    when i.lock_id is not null and not coalesce(c.lock_id = i.lock_id and c.locked_until > now(), false) then 'lock_expired'
    when b.require_lock and not coalesce(c.locked_until > now(), false) then
      case when c.lock_id is not null or (select e.action from coupon_event e
                                          where e.book_id = c.book_id and e.position = c.position
                                          order by e.version desc limit 1) = 'EXPIRE'
           then 'lock_expired' else 'lock_required' end
    when c.status = 'AVAILABLE'
         and (select q.held from user_quota q where q.book_id = c.book_id and q.user_id = u.user_id) >= b.max_codes_per_user
      then 'user_limit_reached'
    else 'again'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when r.user_id = u.user_id and r.rolled_back_at is null then jsonb_build_object('Ok', jsonb_build_object('code', c.code,
      'redemption', r.id, 'max_redeems', b.max_redeems_per_user, 'redeemed_at', r.at, 'replayed', true,
      -- The uses at that time.
      'redeem_count', (select count(*) from redemption o
                       where o.business_id = c.business_id and o.code = c.code and o.use_number <= r.use_number
                         and (o.rolled_back_at is null or o.rolled_back_at > r.at))))
    when c.locked_until > now() and c.holder <> u.user_id then to_jsonb(c.locked_until)
    when c.status = 'AVAILABLE' then to_jsonb(b.max_codes_per_user)
  end as detail,
  case when c.status = 'AVAILABLE' and b.code_kind = 'BEARER' then false else c.holder is distinct from u.user_id end as "foreign!"
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::text[])
  i (n, business_id, key, fingerprint, code, user_id, lock_id, reference)
left join request_key k on k.id = i.key
left join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
cross join lateral (
  select case when c.holder = i.user_id then i.user_id
              else coalesce((select s.stored from stored_user_id s
                             where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id,
                            'bearer:' || c.code)
         end as user_id) u
left join coupon_book b on b.id = c.book_id
left join lateral (
  select r.id, r.at, r.user_id, r.use_number, r.rolled_back_at from redemption r
  where r.business_id = i.business_id and r.code = i.code collate "C" and r.reference = i.reference
  order by r.use_number limit 1) r on true
