-- Why an item of lock or unlock changed nothing, by the current rows. `already`: the coupon is already unlocked, as
-- requested. `again`: no rule rejects the item any more.
--
-- `shared`: the code is SHARED, and shared_lock.sql and the others execute the call. `is_presented`: a free code of a BEARER book, which a lock assigns to the user.
--
-- $7 lock ids (unlock), $8 whether to release the lock of any holder, $9 the statement: `lock` or `unlock`.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when c.code is null then 'coupon_not_found'
    when b.code_kind = 'SHARED' then 'shared'
    when c.holder is distinct from u.user_id and not i.forced and not p.is_presented then
      case when c.holder is null and c.status <> 'VOID' then 'not_assigned'
           when c.status = 'VOID' then 'coupon_void'
           when c.locked_until > now() then 'coupon_locked'
           else 'not_holder' end
    when c.status = 'VOID' then 'coupon_void'
    when c.status = 'AVAILABLE' and not p.is_presented then 'not_assigned'
    when c.status = 'REDEEMED' then 'coupon_already_redeemed'
    when $9::text = 'unlock' then
      case when c.status = 'ASSIGNED' then 'already'
           when i.lock_id <> c.lock_id and c.locked_until > now() then 'lock_stale'
           else 'again' end
    when b.status <> 'ACTIVE' then 'book_not_active'
    when b.starts_at > now() then 'book_not_started'
    when b.expires_at <= now() then 'book_expired'
    when c.suspended_at is not null then 'coupon_suspended'
    when c.expires_at <= now() then 'coupon_expired'
    when p.is_presented and c.reserved_by is not null then 'coupon_reserved'
    when p.is_presented
         and (select q.held from user_quota q where q.book_id = c.book_id and q.user_id = u.user_id) >= b.max_codes_per_user
      then 'user_limit_reached'
    else 'again'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when c.locked_until > now() and c.holder is distinct from u.user_id and not i.forced then to_jsonb(c.locked_until)
    when c.status = 'ASSIGNED' then jsonb_build_object('Ok', jsonb_build_object('code', c.code))
    when p.is_presented then to_jsonb(b.max_codes_per_user)
  end as detail,
  case when c.status = 'AVAILABLE' and b.code_kind = 'BEARER' then false
       else c.holder is distinct from u.user_id and not i.forced end as "foreign!"
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::bool[])
  i (n, business_id, key, fingerprint, code, user_id, lock_id, forced)
left join request_key k on k.id = i.key
left join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
cross join lateral (
  select case when c.holder = i.user_id then i.user_id
              else coalesce((select s.stored from stored_user_id s
                             where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
         end as user_id) u
left join coupon_book b on b.id = c.book_id
cross join lateral (select coalesce($9::text = 'lock' and c.status = 'AVAILABLE' and b.code_kind = 'BEARER', false) as is_presented) p
