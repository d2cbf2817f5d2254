-- Notes the user ids and emails that were stored before they were trimmed. It only reads the large tables, so nothing
-- waits for it, and is a step of its own, since the step before holds user_quota and user_account until it commits.

insert into untrimmed_user_id (business_id, stored, user_id, is_found)
select business_id, stored, user_id,
  user_id <> '' and not has_hidden_characters(user_id) and count(*) over (partition by business_id, user_id) = 1
  and not exists (select from used_user_id u where u.business_id = i.business_id and u.user_id = i.user_id)
  and not exists (select from untrimmed_user_id o where o.business_id = i.business_id and o.user_id = i.user_id and o.is_found)
from (
  select business_id, user_id as stored, trimmed(user_id) as user_id from user_account
  where user_id <> trimmed(user_id) or has_hidden_characters(user_id)
  union
  select b.business_id, q.user_id, trimmed(q.user_id) from user_quota q join coupon_book b on b.id = q.book_id
  where q.user_id <> trimmed(q.user_id) or has_hidden_characters(q.user_id)
) i
on conflict do nothing;

insert into untrimmed_email (account_id, email, is_found)
select id, trimmed_email, count(*) over (partition by trimmed_email) = 1
  and not exists (select from user_account a where a.email = trimmed_email)
  and not exists (select from untrimmed_email o where o.email = trimmed_email and o.is_found)
from (select id, trimmed(email) as trimmed_email from user_account where email <> trimmed(email)) a
on conflict do nothing;
