-- Starts a login to a business, with its first refresh token.
--
-- $1 account, $2 business, $3 the verified password hash, $4 the login's id, $5 the client's address, $6 the token's
-- id, $7 its hash, $8 its lifetime in seconds.
with
-- The member, if it is enabled and its password is unchanged. The share lock on both rows waits for a concurrent
-- change, and delays a later change, which then finds this login.
member as (
  select a.id, m.business_id, a.email, m.role, m.user_id, m.created_at, m.disabled_at
  from user_account a join membership m on m.account_id = a.id
  where a.id = $1 and m.business_id = $2 and a.password_hash = $3 and m.disabled_at is null
  for share
),
begun as (
  insert into login (id, account_id, business_id, address)
  select $4, id, business_id, $5::text::inet from member
  returning id, account_id
),
-- Reads from `begun`, so that the trigger on tokens finds the login.
granted as (
  insert into refresh_token (id, family_id, account_id, secret_hash, expires_at)
  select $6, id, account_id, $7, now() + make_interval(secs => $8) from begun
)
select id, business_id, email, role, user_id, created_at, disabled_at from member
