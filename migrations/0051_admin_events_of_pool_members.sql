-- Admin events of the users of pools: one for each statement and pool, with the number of users. The users of a deleted pool are
-- deleted by housekeeping, which is none.

create function pool_member_admin_event() returns trigger language plpgsql as $$
declare
  changed record;
  counted jsonb;
begin
  for changed in
    select p.business_id, p.id, c.users
    from (select pool_id, count(*) as users from changed_row group by pool_id) c join user_pool p on p.id = c.pool_id
    where p.deleted_at is null order by p.id
  loop
    counted := jsonb_build_object('users', changed.users);
    perform admin_event_write(changed.business_id, 'POOL', changed.id::text, tg_argv[0],
                              case when tg_op = 'DELETE' then counted end, case when tg_op <> 'DELETE' then counted end);
  end loop;
  return null;
end $$;

do $$
begin
  perform lock_exclusively('pool_member');
  create trigger admin_event_add after insert on pool_member referencing new table as changed_row for each statement
    execute function pool_member_admin_event('ADD_USERS');
  create trigger admin_event_change after update on pool_member referencing new table as changed_row for each statement
    execute function pool_member_admin_event('CHANGE_USERS');
  create trigger admin_event_remove after delete on pool_member referencing old table as changed_row for each statement
    execute function pool_member_admin_event('REMOVE_USERS');
end $$;
