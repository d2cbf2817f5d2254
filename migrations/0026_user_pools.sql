-- User pools: named sets of users. A member is a holder id.

create table user_pool (
  id uuid primary key,
  business_id uuid not null constraint user_pool_business references business,
  name text not null,
  description text,
  -- Changed in the transaction that adds or removes members.
  member_count bigint not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Set when the pool is deleted. Housekeeping then deletes the members, and the row after them.
  deleted_at timestamptz,
  constraint user_pool_members check (member_count >= 0)
) with (fillfactor = 70);
create unique index user_pool_name on user_pool (business_id, name) where deleted_at is null;
create index user_pool_of_business on user_pool (business_id, id) where deleted_at is null;
create index user_pool_deleted on user_pool (id) where deleted_at is not null;

-- No foreign key: each row would lock the row of its pool. The statements that add members hold that row.
create table pool_member (
  pool_id uuid not null,
  user_id text collate "C" not null,
  added_at timestamptz not null default now(),
  constraint pool_member_pkey primary key (pool_id, user_id)
);
