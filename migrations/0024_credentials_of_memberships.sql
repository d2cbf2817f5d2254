-- What ends with a membership, whichever program ends it; the account that made an API key; wrong passwords.

do $$
begin
  perform lock_exclusively('api_key');
  -- The account that made the key. Null for keys of earlier versions, which depend on no account.
  alter table api_key add column created_by uuid;
end $$;

-- A membership that is disabled, or gets another role, ends its logins. If it may no longer create API keys, those it created are
-- revoked: it is a trigger because programs of the version before disable accounts and do not know who created a key.
create function membership_ends_credentials() returns trigger language plpgsql as $$
begin
  perform end_logins(array(select id from login where account_id = new.account_id and business_id = new.business_id
                                                  and ended_at is null order by id));
  if new.disabled_at is not null or new.role <> 'ADMIN' then
    update api_key set revoked_at = now()
    where business_id = new.business_id and created_by = new.account_id and revoked_at is null;
  end if;
  return null;
end $$;
create trigger membership_changed after update of role, disabled_at on membership for each row
  when (old.role <> new.role or (old.disabled_at is null and new.disabled_at is not null))
  execute function membership_ends_credentials();

-- The times of the last wrong passwords for an email, the oldest first, by the hash of the email: also of emails without an
-- account, so that both are treated alike. Housekeeping deletes rows that no longer count.
create table password_attempt (
  email_hash bytea not null,
  failed_at timestamptz[] not null,
  last_at timestamptz not null,
  constraint password_attempt_pkey primary key (email_hash)
) with (fillfactor = 70);
create index password_attempt_age on password_attempt (last_at);
