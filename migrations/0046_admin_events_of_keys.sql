-- Admin events of API keys. The hash of a key and the beginning of its text are not recorded; its uses change only `last_used_at`.

create function admin_values(key api_key) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'name', key.name, 'role', key.role, 'permissions', key.permissions, 'couponBookIds', key.book_ids, 'createdBy', key.created_by,
    'expiresAt', api_time(key.expires_at), 'revokedAt', api_time(key.revoked_at))
$$;

do $$
begin
  perform lock_exclusively('api_key');
  create trigger admin_event_create after insert on api_key for each row execute function admin_event_of_row('API_KEY', 'CREATE');
  create trigger admin_event_revoke after update of revoked_at on api_key for each row
    when (old.revoked_at is null and new.revoked_at is not null) execute function admin_event_of_row('API_KEY', 'REVOKE');
  create trigger admin_event_update after update of name, role, permissions, book_ids, created_by, expires_at, revoked_at
    on api_key for each row
    when (old.revoked_at is not null or new.revoked_at is null) execute function admin_event_of_row('API_KEY', 'UPDATE');
  create trigger admin_event_secret after update of secret_hash on api_key for each row
    when (old.secret_hash is distinct from new.secret_hash) execute function admin_event_of_row('API_KEY', 'CHANGE_SECRET');
  create trigger admin_event_delete after delete on api_key for each row execute function admin_event_of_row('API_KEY', 'DELETE');
end $$;
