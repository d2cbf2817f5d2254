-- Admin events of accounts: their email and their password. Role, userId and whether an account is disabled are columns of its
-- memberships, to which a trigger copies those of user_account.

create function admin_values(account user_account) returns jsonb language sql stable as $$
  select jsonb_build_object('email', account.email)
$$;

-- A change of an account concerns each of its businesses.
create function user_account_admin_event() returns trigger language plpgsql as $$
declare
  business uuid;
begin
  for business in select m.business_id from membership m where m.account_id = new.id order by m.business_id loop
    if tg_argv[0] = 'CHANGE_PASSWORD' then
      perform admin_event_write(business, 'USER', new.id::text, tg_argv[0], null, null);
    else
      perform admin_event_write(business, 'USER', new.id::text, tg_argv[0], admin_values(old), admin_values(new));
    end if;
  end loop;
  return null;
end $$;

do $$
begin
  perform lock_exclusively('user_account');
  create trigger admin_event_create after insert on user_account for each row execute function admin_event_of_row('USER', 'CREATE');
  create trigger admin_event_update after update of email on user_account for each row
    execute function user_account_admin_event('UPDATE');
  create trigger admin_event_password after update of password_hash on user_account for each row
    when (old.password_hash is distinct from new.password_hash) execute function user_account_admin_event('CHANGE_PASSWORD');
  create trigger admin_event_delete after delete on user_account for each row execute function admin_event_of_row('USER', 'DELETE');
end $$;
