-- Admin events of memberships. The id of the subject is that of the account.

create function admin_values(member membership) returns jsonb language sql stable as $$
  select jsonb_build_object('role', member.role, 'userId', member.user_id, 'disabledAt', api_time(member.disabled_at))
$$;

create function membership_admin_event() returns trigger language plpgsql as $$
begin
  if tg_op = 'INSERT' then
    perform admin_event_write(new.business_id, 'MEMBERSHIP', new.account_id::text, 'CREATE', null, admin_values(new));
  elsif tg_op = 'DELETE' then
    perform admin_event_write(old.business_id, 'MEMBERSHIP', old.account_id::text, 'DELETE', admin_values(old), null);
  else
    perform admin_event_write(new.business_id, 'MEMBERSHIP', new.account_id::text, 'UPDATE', admin_values(old), admin_values(new));
  end if;
  return null;
end $$;

do $$
begin
  perform lock_exclusively('membership');
  create trigger admin_event_create after insert or delete on membership for each row execute function membership_admin_event();
  create trigger admin_event_update after update of role, user_id, disabled_at on membership for each row
    execute function membership_admin_event();
end $$;
