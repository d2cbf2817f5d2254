-- An account may belong to several businesses: a membership has its role and its userId there. The columns of user_account are
-- the account's first membership, which programs of the version before read and write; a trigger copies it. Further memberships
-- stand in `membership` alone, where those programs do not see them.
do $$
begin
  perform lock_exclusively('user_account');
  create table membership (
    account_id uuid not null constraint membership_account references user_account on delete cascade,
    business_id uuid not null constraint membership_business references business,
    role text not null,
    user_id text collate "C" not null,
    created_at timestamptz not null default now(),
    disabled_at timestamptz,
    constraint membership_pkey primary key (account_id, business_id),
    constraint membership_user_id unique (business_id, user_id),
    constraint membership_role check (role in ('ADMIN', 'USER'))
  );
  create unique index membership_of_business on membership (business_id, account_id);

  create function user_account_has_membership() returns trigger language plpgsql as $body$
  begin
    insert into membership as m (account_id, business_id, role, user_id, created_at, disabled_at)
    values (new.id, new.business_id, new.role, new.user_id, new.created_at, new.disabled_at)
    on conflict (account_id, business_id) do update
    set role = excluded.role, user_id = excluded.user_id, disabled_at = excluded.disabled_at
    where (m.role, m.user_id, m.disabled_at) is distinct from (excluded.role, excluded.user_id, excluded.disabled_at);
    return null;
  exception when unique_violation then
    -- Another account has the userId by a further membership. Programs of the version before know the constraint by this name.
    raise unique_violation using constraint = 'user_account_user_id', message = 'the user id is in use';
  end $body$;
  create trigger user_account_membership after insert or update of business_id, role, user_id, disabled_at on user_account
    for each row execute function user_account_has_membership();
end $$;
