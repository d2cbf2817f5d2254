-- Admin events of webhooks. The secrets are not recorded; attempts and failures of deliveries write no admin event.

create function admin_values(hook webhook) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'url', hook.url, 'description', hook.description, 'eventTypes', hook.event_types, 'perCode', hook.per_code,
    'enabled', hook.enabled, 'disabledReason', hook.disabled_reason, 'deletedAt', api_time(hook.deleted_at))
$$;

do $$
begin
  perform lock_exclusively('webhook');
  create trigger admin_event_create after insert on webhook for each row execute function admin_event_of_row('WEBHOOK', 'CREATE');
  create trigger admin_event_delete after update of deleted_at on webhook for each row
    when (old.deleted_at is null and new.deleted_at is not null) execute function admin_event_of_row('WEBHOOK', 'DELETE');
  create trigger admin_event_update after update of url, description, event_types, per_code, enabled, disabled_reason, deleted_at
    on webhook for each row
    when (old.deleted_at is not null or new.deleted_at is null)
    execute function admin_event_of_row('WEBHOOK', 'UPDATE');
  create trigger admin_event_secret after update of secret on webhook for each row
    when (old.secret is distinct from new.secret) execute function admin_event_of_row('WEBHOOK', 'CHANGE_SECRET');
  create trigger admin_event_gone after delete on webhook for each row
    when (old.deleted_at is null) execute function admin_event_of_row('WEBHOOK', 'DELETE');
end $$;
