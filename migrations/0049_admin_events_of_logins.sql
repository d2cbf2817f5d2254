-- Admin events of logins: their start and their end. Housekeeping deletes old logins, which is none.

create function admin_values(login login) returns jsonb language sql stable as $$
  select jsonb_build_object('accountId', login.account_id, 'address', host(login.address), 'endedAt', api_time(login.ended_at))
$$;

do $$
begin
  perform lock_exclusively('login');
  -- A program of the version before may end a login that has no row yet.
  create trigger admin_event_create after insert on login for each row
    when (new.ended_at is null) execute function admin_event_of_row('LOGIN', 'START');
  create trigger admin_event_end after update of ended_at on login for each row
    when (old.ended_at is null and new.ended_at is not null) execute function admin_event_of_row('LOGIN', 'END');
  create trigger admin_event_update after update of ended_at on login for each row
    when (old.ended_at is not null) execute function admin_event_of_row('LOGIN', 'UPDATE');
end $$;
