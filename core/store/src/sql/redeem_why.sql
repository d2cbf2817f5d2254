-- Why an item of redeem changed nothing, by the current rows. `Store::validate` uses it too. `again`: no rule rejects
-- the item.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when c.code is null then 'coupon_not_found'
    when c.status = 'VOID' then 'coupon_void'
    when c.holder is null then 'not_assigned'
    when c.holder <> u.user_id and c.locked_until > now() then 'coupon_locked'
    when c.holder <> u.user_id then 'not_holder'
    when c.redeem_count >= b.max_redeems_per_user or c.status = 'REDEEMED' then 'coupon_already_redeemed'
    when b.status <> 'ACTIVE' then 'book_not_active'
    when b.starts_at > now() then 'book_not_started'
    when b.expires_at <= now() then 'book_expired'
    when i.lock_id is not null and c.lock_id <> i.lock_id and c.locked_until > now() then 'lock_stale'
    when i.lock_id is not null and not coalesce(c.lock_id = i.lock_id and c.locked_until > now(), false) then 'lock_expired'
    when b.require_lock and not coalesce(c.locked_until > now(), false) then
      case when c.lock_id is not null or (select e.action from coupon_event e
                                          where e.book_id = c.book_id and e.position = c.position
                                          order by e.version desc limit 1) = 'EXPIRE'
           then 'lock_expired' else 'lock_required' end
    else 'again'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when c.locked_until > now() and c.holder <> u.user_id then to_jsonb(c.locked_until)
  end as detail,
  (c.holder is distinct from u.user_id) as "foreign!"
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::uuid[])
  i (n, business_id, key, fingerprint, code, user_id, lock_id)
left join request_key k on k.id = i.key
left join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
cross join lateral (
  select case when c.holder = i.user_id then i.user_id
              else coalesce((select s.stored from stored_user_id s
                             where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
         end as user_id) u
left join coupon_book b on b.id = c.book_id
