-- Keeps an API key. Says whether its maker may make keys, and when it was made; null if one of its books is none of the business.
--
-- $1 id, $2 business, $3 name, $4 role, $5 hash, $6 hint, $7 permissions, $8 books, $9 expiry, $10 the account that makes it, $11 the
-- roles that may make keys.
with
-- The share of the membership makes a change of it wait, which then finds this key.
maker as (
  select account_id from membership
  where account_id = $10 and business_id = $2 and disabled_at is null and role = any($11::text[])
  for share
),
allowed as (select $10::uuid is null or exists (select from maker) as is_allowed),
made as (
  insert into api_key (id, business_id, name, role, secret_hash, hint, permissions, book_ids, expires_at, created_by)
  select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10
  where (select is_allowed from allowed)
    and not exists (select from unnest($8::uuid[]) named
                    where not exists (select from coupon_book b where b.id = named and b.business_id = $2))
  returning created_at
)
select (select is_allowed from allowed) as "may_create!", (select created_at from made) as created_at
