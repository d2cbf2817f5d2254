-- Uses a refresh token up and writes its successor, in one statement: whoever asks meanwhile finds both or neither.
with
-- The token, if it is fresh, its login has not ended, and its account may log in. Of many who bring it at once one finds it
-- unused; what the others waited for is looked at again before they are refused. One revoked token ends its login for good:
-- a successor may have been written beside the revocation, and is worth nothing.
used as (
  update refresh_token t set used_at = now()
  from user_account a
  where t.secret_hash = $1 and t.used_at is null and t.revoked_at is null and t.expires_at > now()
    and not exists (select from refresh_token f where f.family_id = t.family_id and f.revoked_at is not null)
    and a.id = t.account_id and a.disabled_at is null
  returning t.family_id, a.id, a.business_id, a.email, a.role, a.user_id, a.created_at, a.disabled_at
),
granted as (
  insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
  select $2, u.family_id, u.id, $3, now() + make_interval(secs => $4) from used u
)
select u.family_id, u.id, u.business_id, u.email, u.role, u.user_id, u.created_at, u.disabled_at from used u
