-- Why an item of revoke changed nothing, by the current rows. `again`: no rule rejects the item.
--
-- $6 users and $7 assignments that the codes must belong to, or null.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when c.code is null then 'coupon_not_found'
    when c.status = 'VOID' then 'coupon_void'
    when c.status = 'AVAILABLE' then 'not_assigned'
    when i.assignment_id is not null and c.assignment_id <> i.assignment_id then 'not_holder'
    when c.locked_until > now() then 'coupon_locked'
    when i.user_id is not null and c.holder <> u.user_id then 'not_holder'
    when c.redeem_count > 0 or c.rollback_count > 0 then 'coupon_already_redeemed'
    else 'again'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when c.locked_until > now() then to_jsonb(c.locked_until)
  end as detail
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::uuid[])
  i (n, business_id, key, fingerprint, code, user_id, assignment_id)
left join request_key k on k.id = i.key
left join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
cross join lateral (
  select case when c.holder = i.user_id then i.user_id
              else coalesce((select s.stored from stored_user_id s
                             where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
         end as user_id) u
