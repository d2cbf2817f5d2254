-- Who calls: businesses, their users and API keys. Secrets are kept only as hashes.

create table business (
  id uuid primary key,
  name text not null,
  created_at timestamptz not null default now(),
  constraint business_name check (length(name) between 1 and 200)
);

create table user_account (
  id uuid primary key,
  business_id uuid not null constraint user_account_business references business,
  email text collate "C" not null,
  password_hash text not null,
  role text not null,
  user_id text collate "C" not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  disabled_at timestamptz,
  constraint user_account_email unique (email),
  constraint user_account_email_lower check (email = lower(email)),
  constraint user_account_user_id unique (business_id, user_id),
  constraint user_account_role check (role in ('ADMIN', 'USER'))
);

-- One row a refresh token. A login starts a family; each refresh uses one token up and adds the next.
create table refresh_token (
  id uuid primary key,
  family_id uuid not null,
  account_id uuid not null constraint refresh_token_account references user_account on delete cascade,
  secret_hash bytea not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  used_at timestamptz,
  revoked_at timestamptz,
  constraint refresh_token_secret unique (secret_hash)
);
create index refresh_token_family on refresh_token (family_id);
create index refresh_token_account on refresh_token (account_id);

create table api_key (
  id uuid primary key,
  business_id uuid not null constraint api_key_business references business,
  name text not null,
  role text not null,
  secret_hash bytea not null,
  hint text not null,
  created_at timestamptz not null default now(),
  revoked_at timestamptz,
  constraint api_key_secret unique (secret_hash),
  constraint api_key_role check (role in ('ADMIN', 'SERVICE'))
);
create index api_key_business on api_key (business_id, id);

-- The answers to requests that came with an Idempotency-Key. `id` is a hash of principal, method, path and key;
-- `fingerprint` one of the body. The row is inserted plainly in the commit that has the effect.
create table request_key (
  id uuid not null,
  fingerprint uuid not null,
  answer jsonb not null,
  at timestamptz not null default now(),
  constraint request_key_pkey primary key (id)
);
create index request_key_at on request_key using brin (at);
