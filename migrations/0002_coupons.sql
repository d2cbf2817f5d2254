-- Books, their codes, who holds them, and what happened.

create table coupon_book (
  id uuid primary key,
  business_id uuid not null constraint coupon_book_business references business,
  name text not null,
  description text,
  status text not null default 'DRAFT',
  max_codes_per_user int,
  max_redeems_per_user int not null default 1,
  total_codes_expected bigint,
  starts_at timestamptz,
  expires_at timestamptz,
  lock_ttl_seconds int not null default 300,
  require_lock bool not null default false,
  discount jsonb,
  metadata jsonb,
  -- Positions below this are handed out; a book's codes stand at positions from 0 on.
  next_position int not null default 0,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint coupon_book_status check (status in ('DRAFT', 'ACTIVE', 'PAUSED', 'CLOSED')),
  constraint coupon_book_limits check (max_codes_per_user > 0 and max_redeems_per_user > 0),
  constraint coupon_book_lock_ttl check (lock_ttl_seconds between 1 and 86400),
  constraint coupon_book_period check (starts_at < expires_at)
) with (fillfactor = 80);
create index coupon_book_business on coupon_book (business_id, id);

create type coupon_status as enum ('AVAILABLE', 'ASSIGNED', 'LOCKED', 'REDEEMED', 'VOID');

-- `is_free` is stored so that the index of free codes rests on a value that changes only when a code is given or
-- taken back: a predicate on `status` itself would end HOT updates for every lock and redemption.
-- No foreign key to the book: chunks that write codes hold the book's row instead.
create table coupon (
  business_id uuid not null,
  book_id uuid not null,
  job_id uuid not null,
  assignment_id uuid,
  lock_id uuid,
  created_at timestamptz not null default now(),
  assigned_at timestamptz,
  locked_at timestamptz,
  locked_until timestamptz,
  redeemed_at timestamptz,
  position int not null,
  redeem_count int not null default 0,
  version int not null default 0,
  status coupon_status not null default 'AVAILABLE',
  is_free bool not null generated always as (status = 'AVAILABLE') stored,
  code text collate "C" not null,
  holder text collate "C",
  metadata jsonb,
  constraint coupon_pkey primary key (business_id, code),
  constraint coupon_position unique (book_id, position),
  constraint coupon_code check (octet_length(code) between 3 and 64),
  constraint coupon_holder check (
    status = 'VOID' or ((status = 'AVAILABLE') = (holder is null) and (holder is null) = (assignment_id is null)
                        and (holder is null) = (assigned_at is null))),
  constraint coupon_lock check (
    (status = 'LOCKED') = (lock_id is not null) and (lock_id is null) = (locked_until is null)
    and (lock_id is null) = (locked_at is null)),
  constraint coupon_uses check (redeem_count >= 0 and (status <> 'REDEEMED' or redeem_count > 0))
) with (fillfactor = 85);
create index coupon_free on coupon (book_id, position) where is_free;
create index coupon_held on coupon (business_id, holder, assigned_at, code) where holder is not null;

-- How many codes of a book a user holds or has redeemed. `granted` is what the last upsert allowed: RETURNING cannot
-- see the old row.
create table user_quota (
  book_id uuid not null,
  user_id text collate "C" not null,
  held int not null,
  cap int,
  granted int not null,
  constraint user_quota_pkey primary key (book_id, user_id),
  constraint user_quota_within_cap check (held >= 0 and (cap is null or held <= cap))
) with (fillfactor = 80);

create table redemption (
  id uuid not null,
  at timestamptz not null default now(),
  business_id uuid not null,
  book_id uuid not null,
  code text collate "C" not null,
  use_number int not null,
  user_id text collate "C" not null,
  reference text,
  metadata jsonb,
  constraint redemption_pkey primary key (id),
  constraint redemption_use check (use_number > 0)
);

-- The audit trail, append-only, a partition a month. A coupon's events are numbered by its `version`, gapless.
create table coupon_event (
  id uuid not null,
  at timestamptz not null default now(),
  business_id uuid not null,
  book_id uuid not null,
  position int not null,
  version int not null,
  from_status coupon_status not null,
  to_status coupon_status not null,
  action text not null,
  user_id text collate "C",
  redeem_count int,
  reason text,
  actor text not null,
  ip inet,
  user_agent text,
  request_id text,
  constraint coupon_event_action check (
    action in ('ASSIGN', 'LOCK', 'UNLOCK', 'EXPIRE', 'REDEEM', 'REVOKE', 'ROLLBACK', 'VOID'))
) partition by range (at);
create index coupon_event_coupon on coupon_event (book_id, position, version);
create table coupon_event_rest partition of coupon_event default;

-- Makes the partitions from this month on, `months` ahead. Safe to call again, and from several connections.
create function coupon_event_ensure_months(months int) returns void language plpgsql as $$
declare
  first_day timestamptz;
begin
  perform set_config('client_min_messages', 'warning', true);
  perform pg_advisory_xact_lock(hashtext('coupon_event_ensure_months'));
  for ahead in 0..months loop
    first_day := date_trunc('month', now(), 'UTC') + make_interval(months => ahead);
    execute format('create table if not exists %I partition of coupon_event for values from (%L) to (%L)',
      'coupon_event_' || to_char(first_day at time zone 'UTC', 'YYYY_MM'), first_day, first_day + interval '1 month');
  end loop;
end $$;
set local timezone = 'UTC';
select coupon_event_ensure_months(3);

-- Counts by status: what is rolled up, and what is not yet. Writers only append; a reader adds both in one statement.
create table book_count (
  book_id uuid primary key,
  generated bigint not null default 0,
  available bigint not null default 0,
  assigned bigint not null default 0,
  locked bigint not null default 0,
  redeemed bigint not null default 0,
  void bigint not null default 0
) with (fillfactor = 50);
create table book_delta (
  book_id uuid not null,
  generated int not null default 0,
  available int not null default 0,
  assigned int not null default 0,
  locked int not null default 0,
  redeemed int not null default 0,
  void int not null default 0
);

-- When locks run out: a row for each lock and each renewal. The sweep takes the due ones; a row whose lock has gone
-- or was renewed is dropped without a word.
create table lock_agenda (
  locked_until timestamptz not null,
  business_id uuid not null,
  code text collate "C" not null,
  lock_id uuid not null
);
create index lock_agenda_due on lock_agenda (locked_until);
