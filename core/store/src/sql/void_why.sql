-- Why an item of void changed nothing, by the current rows. `already`: the code is void, as requested. `other_status`: the code
-- has not the status that the item asks for. `again`: no rule rejects the item.
--
-- $6 users that must hold the codes, $7 effective statuses that they must have, or null.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when c.code is null then 'coupon_not_found'
    when i.user_id is not null and c.holder is distinct from u.user_id then
      case when c.locked_until > now() then 'coupon_locked' else 'not_holder' end
    when c.status = 'VOID' then 'already'
    when i.only_status <> (case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end)::text
      then 'other_status'
    when c.status = 'REDEEMED' then 'coupon_already_redeemed'
    else 'again'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when i.user_id is not null and c.holder is distinct from u.user_id then to_jsonb(c.locked_until)
    when c.status = 'VOID' then jsonb_build_object('Ok', jsonb_build_object('code', c.code))
  end as detail
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[])
  i (n, business_id, key, fingerprint, code, user_id, only_status)
left join request_key k on k.id = i.key
left join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
cross join lateral (
  select case when c.holder = i.user_id then i.user_id
              else coalesce((select s.stored from stored_user_id s
                             where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
         end as user_id) u
