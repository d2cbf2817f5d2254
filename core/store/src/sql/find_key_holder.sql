-- The caller of an API key, if the key is valid. Records the use, at most once a minute.
--
-- $1 the key's hash, $2 the hash of a key with limits, $3 the roles that may create keys.
with
-- A key is valid only while the account that created it may create keys. The commit that removes this right revokes
-- the key; this condition also covers a deleted account.
found as (
  select id, business_id, role, permissions, book_ids, last_used_at from api_key k
  where secret_hash = any(array[$1, $2]::bytea[]) and revoked_at is null and coalesce(expires_at > now(), true)
    and (created_by is null
         or exists (select from membership m
                    where m.account_id = k.created_by and m.business_id = k.business_id and m.disabled_at is null
                      and m.role = any($3::text[])))
),
used as (
  update api_key k set last_used_at = now() from found f
  where k.id = f.id and coalesce(f.last_used_at < now() - interval '1 minute', true)
)
select id, business_id, role, permissions as "permissions: Vec<String>", book_ids as "book_ids: Vec<Uuid>" from found
