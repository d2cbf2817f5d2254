-- no-transaction
-- Adds the memberships of the accounts that are stored already, in slices that each commit: a change of an account waits for one
-- slice at most. Runs again from the start if it was interrupted.
do $$
declare
  last uuid := '00000000-0000-0000-0000-000000000000';
  slice uuid[];
begin
  loop
    slice := array(select id from user_account where id > last order by id limit 5000);
    exit when slice = '{}';
    insert into membership (account_id, business_id, role, user_id, created_at, disabled_at)
    select id, business_id, role, user_id, created_at, disabled_at from user_account where id = any(slice)
    on conflict do nothing;
    last := slice[cardinality(slice)];
    commit;
  end loop;
end $$;
