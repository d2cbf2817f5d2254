-- Why an item of assign_named changed nothing, by the current rows. `already`: the user holds the code, as requested.
-- `again`: no rule rejects the item any more.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when c.code is null then 'coupon_not_found'
    when b.code_kind = 'SHARED' then 'not_assignable'
    when c.status = 'VOID' then 'coupon_void'
    when c.holder = u.user_id then 'already'
    when c.holder is not null then 'already_assigned'
    when b.status <> 'ACTIVE' then 'book_not_active'
    when b.starts_at > now() then 'book_not_started'
    when b.expires_at <= now() then 'book_expired'
    when c.suspended_at is not null then 'coupon_suspended'
    when c.status = 'AVAILABLE' and c.reserved_by is not null then 'coupon_reserved'
    when q.held >= b.max_codes_per_user then 'user_limit_reached'
    else 'again'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when c.holder = u.user_id then jsonb_build_object('Ok', jsonb_build_object('id', c.assignment_id, 'code', c.code,
      'book', c.book_id, 'user', c.holder, 'assigned_at', c.assigned_at, 'repeated', true,
      'status', case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end))
    else to_jsonb(b.max_codes_per_user)
  end as detail
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::text[])
  i (n, business_id, key, fingerprint, code, user_id)
left join request_key k on k.id = i.key
left join coupon c on c.business_id = i.business_id and c.code = i.code collate "C"
cross join lateral (
  select case when c.holder = i.user_id then i.user_id
              else coalesce((select s.stored from stored_user_id s
                             where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
         end as user_id) u
left join coupon_book b on b.id = c.book_id
left join user_quota q on q.book_id = c.book_id and q.user_id = u.user_id
