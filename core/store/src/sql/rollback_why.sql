-- Why an item of rollback changed nothing, by the current rows. `again`: no rule rejects the item. `shared`: its code is SHARED, and
-- shared_lock.sql and the others execute it.
--
-- $5 redemptions, $6 users that must have made them, or null.
select i.n as "n!",
  case
    when k.id is not null and k.fingerprint <> i.fingerprint then 'key_reused'
    when k.id is not null then 'replay'
    when r.id is null then 'redemption_not_found'
    when b.code_kind = 'SHARED' then 'shared'
    when i.user_id is not null and r.user_id <> i.user_id
         and r.user_id is distinct from (select s.stored from stored_user_id s
                                         where s.business_id = i.business_id and s.user_id = i.user_id) then 'not_holder'
    when r.rolled_back_at is not null then 'already_rolled_back'
    else 'again'
  end as "verdict!",
  k.answer as "detail?"
from unnest($1::int[], $2::uuid[], $3::uuid[], $4::uuid[], $5::uuid[], $6::text[])
  i (n, business_id, key, fingerprint, redemption_id, user_id)
left join request_key k on k.id = i.key
left join redemption r on r.id = i.redemption_id and r.business_id = i.business_id
left join coupon_book b on b.id = r.book_id
