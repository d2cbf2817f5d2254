-- Admin events of user pools. A pool is deleted by an update; housekeeping deletes its row later. Its `member_count` is not recorded.

create function admin_values(pool user_pool) returns jsonb language sql stable as $$
  select jsonb_build_object('name', pool.name, 'description', pool.description, 'deletedAt', api_time(pool.deleted_at))
$$;

do $$
begin
  perform lock_exclusively('user_pool');
  create trigger admin_event_create after insert on user_pool for each row execute function admin_event_of_row('POOL', 'CREATE');
  create trigger admin_event_delete after update of deleted_at on user_pool for each row
    when (old.deleted_at is null and new.deleted_at is not null) execute function admin_event_of_row('POOL', 'DELETE');
  create trigger admin_event_update after update of name, description, deleted_at on user_pool for each row
    when (old.deleted_at is not null or new.deleted_at is null) execute function admin_event_of_row('POOL', 'UPDATE');
  create trigger admin_event_gone after delete on user_pool for each row
    when (old.deleted_at is null) execute function admin_event_of_row('POOL', 'DELETE');
end $$;
