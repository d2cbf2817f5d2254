-- Why an item of assign_random changed nothing, by the current rows. `again`: no rule rejects the item any more. The
-- user's limit comes before `sold_out`, because it remains true when codes are added. The search for a free code does
-- not use EXISTS, which may be executed as a hash of all free codes. `already`: the code that was assigned for the recipient key, with its
-- present status.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when b.id is null then 'book_not_found'
    when b.code_kind = 'SHARED' then 'not_assignable'
    when r.user_id = u.user_id and c.assignment_id = r.assignment_id then 'already'
    when r.key is not null then 'recipient_key_used'
    when b.status <> 'ACTIVE' then 'book_not_active'
    when b.starts_at > now() then 'book_not_started'
    when b.expires_at <= now() then 'book_expired'
    when q.held >= b.max_codes_per_user then 'user_limit_reached'
    when (select c.position from coupon c where c.book_id = i.book_id and c.is_free and c.reserved_by is null and c.suspended_at is null
          order by c.position limit 1) is not null
      then 'again'
    else 'sold_out'
  end as "verdict!",
  case
    when k.id is not null then k.answer
    when r.user_id = u.user_id and c.assignment_id = r.assignment_id then jsonb_build_object('Ok', jsonb_build_object(
      'id', r.assignment_id, 'code', r.code, 'book', r.book_id, 'user', r.user_id, 'assigned_at', r.assigned_at, 'repeated', true,
      'status', case when c.status = 'LOCKED' and c.locked_until <= now() then 'ASSIGNED' else c.status end))
    else to_jsonb(b.max_codes_per_user)
  end as detail
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::text[])
  i (n, business_id, key, fingerprint, book_id, user_id, recipient_key)
left join request_key k on k.id = i.key
left join coupon_book b on b.id = i.book_id and b.business_id = i.business_id
cross join lateral (
  select coalesce((select s.stored from stored_user_id s where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
    as user_id) u
left join user_quota q on q.book_id = i.book_id and q.user_id = u.user_id
left join recipient_key r on r.book_id = b.id and r.key = i.recipient_key
left join coupon c on c.business_id = r.business_id and c.code = r.code
