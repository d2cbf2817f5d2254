-- Stores an API key. Returns whether the account that creates it may create keys, and the time of creation; the time
-- is null if one of the key's books does not belong to the business.
--
-- $1 id, $2 business, $3 name, $4 role, $5 hash, $6 hint, $7 permissions, $8 books, $9 expiry, $10 the account that
-- creates it, $11 the roles that may create keys.
with
-- The share lock delays a change of the membership until this commit, so that the change then finds this key.
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
