-- Admin events of webhooks have the URL without its query, which may be a secret, and the beginning of the SHA-256 of the query.
create or replace function admin_values(hook webhook) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'url', split_part(hook.url, '?', 1),
    'query', case when strpos(hook.url, '?') > 0
                  then 'sha256:' || left(encode(sha256(convert_to(substr(hook.url, strpos(hook.url, '?') + 1), 'UTF8')), 'hex'), 16) end,
    'description', hook.description, 'eventTypes', hook.event_types, 'perCode', hook.per_code,
    'enabled', hook.enabled, 'disabledReason', hook.disabled_reason, 'deletedAt', api_time(hook.deleted_at))
$$;
