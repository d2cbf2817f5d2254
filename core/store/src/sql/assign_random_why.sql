-- Why an item of assign_random changed nothing, by the current rows. `again`: no rule rejects the item any more. The
-- user's limit comes before `sold_out`, because it remains true when codes are added. The search for a free code does
-- not use EXISTS, which may be executed as a hash of all free codes.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when b.id is null then 'book_not_found'
    when b.status <> 'ACTIVE' then 'book_not_active'
    when b.starts_at > now() then 'book_not_started'
    when b.expires_at <= now() then 'book_expired'
    when q.held >= b.max_codes_per_user then 'user_limit_reached'
    when (select c.position from coupon c where c.book_id = i.book_id and c.is_free and c.reserved_by is null
          order by c.position limit 1) is not null
      then 'again'
    else 'sold_out'
  end as "verdict!",
  case when k.id is not null then k.answer else to_jsonb(b.max_codes_per_user) end as detail
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[])
  i (n, business_id, key, fingerprint, book_id, user_id)
left join request_key k on k.id = i.key
left join coupon_book b on b.id = i.book_id and b.business_id = i.business_id
left join user_quota q on q.book_id = i.book_id
  and q.user_id = coalesce((select s.stored from stored_user_id s
                            where s.business_id = i.business_id and s.user_id = i.user_id), i.user_id)
