-- no-transaction
-- Adds the logins of the tokens that are stored already, in slices that each commit: a refresh or logout waits for one slice at
-- most. Runs again from the start if it was interrupted.
do $$
declare
  last uuid := '00000000-0000-0000-0000-000000000000';
  slice uuid[];
begin
  loop
    slice := array(select distinct family_id from refresh_token where family_id > last order by family_id limit 2000);
    exit when slice = '{}';
    insert into login (id, account_id, business_id, created_at, last_used_at, ended_at)
    select t.family_id, a.id, a.business_id, min(t.created_at), max(coalesce(t.used_at, t.created_at)), max(t.revoked_at)
    from refresh_token t join user_account a on a.id = t.account_id
    where t.family_id = any(slice)
    group by t.family_id, a.id
    on conflict do nothing;
    last := slice[cardinality(slice)];
    commit;
  end loop;
end $$;
