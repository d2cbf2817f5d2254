-- A login has a row of its own; `refresh_token.family_id` is its id. The row decides whether the login goes on.
--
-- Programs of the version before know only the tokens. The triggers keep both in step while a fleet is upgraded: a token always
-- has its login, a revoked token ends its login, and a login that has ended has no token that such a program would accept.

-- Without foreign keys: they would need a lock of user_account. A login whose account is gone stands for nothing.
create table login (
  id uuid not null,
  account_id uuid not null,
  business_id uuid not null,
  created_at timestamptz not null default now(),
  last_used_at timestamptz not null default now(),
  ended_at timestamptz,
  -- The client's address when it logged in; null if the program that made the row does not record it.
  address inet,
  constraint login_pkey primary key (id)
) with (fillfactor = 80);
create index login_of_account on login (account_id);
create index login_last_use on login (last_used_at);

-- Ends logins and returns those that had not ended. A refresh locks the same rows in the same order: the login, then its token.
create function end_logins(ids uuid[]) returns setof uuid language plpgsql as $$
begin
  perform from login where id = any(ids) order by id for no key update;
  return query update login set ended_at = now() where id = any(ids) and ended_at is null returning id;
  -- Programs of the version before look for a revoked token.
  update refresh_token set revoked_at = now() where family_id = any(ids) and used_at is null and revoked_at is null;
end $$;

-- Adds the login of a token that a program of the version before inserts. A login that has ended gets no usable token.
create function refresh_token_has_login() returns trigger language plpgsql as $$
declare
  ended timestamptz;
begin
  loop
    select l.ended_at into ended from login l where l.id = new.family_id for share;
    exit when found;
    insert into login (id, account_id, business_id, ended_at)
    values (new.family_id, new.account_id, (select business_id from user_account where id = new.account_id),
            (select max(revoked_at) from refresh_token where family_id = new.family_id))
    on conflict do nothing;
  end loop;
  new.revoked_at := coalesce(new.revoked_at, ended);
  return new;
end $$;

-- Ends the login of a token that a program of the version before revokes, with the successors that program did not see.
create function refresh_token_ends_login() returns trigger language plpgsql as $$
begin
  insert into login (id, account_id, business_id, ended_at)
  values (new.family_id, new.account_id, (select business_id from user_account where id = new.account_id), new.revoked_at)
  on conflict (id) do update set ended_at = excluded.ended_at where login.ended_at is null;
  update refresh_token set revoked_at = new.revoked_at
  where family_id = new.family_id and used_at is null and revoked_at is null;
  return null;
end $$;

do $$
begin
  perform lock_exclusively('refresh_token');
  create trigger refresh_token_login before insert on refresh_token for each row
    execute function refresh_token_has_login();
  create trigger refresh_token_revoked after update of revoked_at on refresh_token for each row
    when (old.revoked_at is null and new.revoked_at is not null) execute function refresh_token_ends_login();
end $$;
