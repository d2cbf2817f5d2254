-- Uses a refresh token and inserts its successor, in one statement: concurrent requests see both or neither.
--
-- $1 the token's hash, $2 the successor's id, $3 its hash, $4 its lifetime in seconds.
with
-- The login of the token, if it has not ended. It is locked before the token, in the same order as when a login ends.
-- Concurrent requests with the same token pass here one at a time.
alive as (
  select l.id, l.account_id, l.business_id from login l
  where l.id = (select family_id from refresh_token where secret_hash = $1) and l.ended_at is null
  for no key update
),
-- The token, if it is valid. The first request finds it unused; the others check the row again after their wait.
used as (
  update refresh_token t set used_at = now() from alive l
  where t.secret_hash = $1 and t.family_id = l.id and t.used_at is null and t.revoked_at is null and t.expires_at > now()
  returning l.id, l.account_id, l.business_id
),
touched as (
  update login l set last_used_at = now() from used u where l.id = u.id
  returning l.id, l.account_id, l.business_id
),
-- Reads from `touched`, so that the trigger on tokens sees the updated login.
granted as (
  insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
  select $2, id, account_id, $3, now() + make_interval(secs => $4) from touched
)
select u.id as login_id, a.id, m.business_id, a.email, m.role, m.user_id, m.created_at, m.disabled_at
from used u join user_account a on a.id = u.account_id
join membership m on m.account_id = u.account_id and m.business_id = u.business_id
