-- Statistics of books and businesses: sums of events in buckets of a quarter of an hour, which suit all time zones.
--
-- Triggers write a row of sums for each statement that inserts events or redemptions, so the events of every program are counted,
-- also those of the version before. Housekeeping adds these rows to the buckets. A reader adds both, in one statement.

-- The beginning of the bucket of a time.
create function stat_bucket_of(at timestamptz) returns timestamptz language sql immutable parallel safe
return date_bin('15 minutes', at, timestamptz '2000-01-01 00:00:00+00');

-- The step of the histogram of times from assignment to redemption. Step n is from 1.05^n to 1.05^(n+1) seconds; step 0 also has
-- shorter times.
create function redeem_time_step(held interval) returns int language sql immutable parallel safe
return floor(ln(greatest(extract(epoch from held)::float8, 1)) / ln(1.05::float8))::int;

-- Sums that are not in the buckets yet.
create table stat_delta (
  business_id uuid not null,
  book_id uuid not null,
  bucket_at timestamptz not null,
  assigned int not null default 0,
  locked int not null default 0,
  unlocked int not null default 0,
  lock_expired int not null default 0,
  redeemed int not null default 0,
  revoked int not null default 0,
  rolled_back int not null default 0,
  voided int not null default 0,
  -- Codes that received their first use that stands, minus codes whose last one was rolled back.
  used int not null default 0,
  -- Codes that were locked for the first time since they were assigned, or are no longer assigned.
  ever_locked int not null default 0
);

-- Vacuumed as book_delta is: the rows are deleted every second.
alter table stat_delta
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- The sums of a book, and of a business, by bucket.
create table stat_bucket (
  -- The book or the business.
  scope_id uuid not null,
  bucket_at timestamptz not null,
  assigned bigint not null,
  locked bigint not null,
  unlocked bigint not null,
  lock_expired bigint not null,
  redeemed bigint not null,
  revoked bigint not null,
  rolled_back bigint not null,
  voided bigint not null,
  used bigint not null,
  ever_locked bigint not null,
  constraint stat_bucket_pkey primary key (scope_id, bucket_at)
) with (fillfactor = 80);

-- First redemptions of codes by the time since their assignment, which are not in redeem_time yet.
create table redeem_time_delta (
  business_id uuid not null,
  book_id uuid not null,
  bucket_at timestamptz not null,
  step int not null,
  redeemed int not null
);

alter table redeem_time_delta
  set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- First redemptions of the codes of a book, and of a business, by bucket and time since their assignment.
create table redeem_time (
  scope_id uuid not null,
  bucket_at timestamptz not null,
  step int not null,
  redeemed bigint not null,
  constraint redeem_time_pkey primary key (scope_id, bucket_at, step)
) with (fillfactor = 80);

-- The users with the most codes of a book or a business. Housekeeping lists them again after a change, at most twice a minute.
create table stat_top_holder (
  scope_id uuid not null,
  is_book bool not null,
  changed_at timestamptz not null,
  listed_at timestamptz,
  -- When the last listing was tried: one that fails does not hold up the others.
  tried_at timestamptz not null default '-infinity',
  -- How long the last listing took.
  took interval not null default '0',
  holders jsonb not null default '[]',
  constraint stat_top_holder_pkey primary key (scope_id)
);

-- Events before this step, which no trigger has counted. Housekeeping counts them month by month, the latest first.
create table stat_backfill (
  id bool not null default true,
  -- The transactions that no trigger has counted. A later epoch has none.
  epoch smallint not null,
  snapshot pg_snapshot not null,
  -- The months from this one on are counted; null when all are.
  counted_from timestamptz,
  constraint stat_backfill_pkey primary key (id),
  constraint stat_backfill_single check (id)
);

create function count_events() returns trigger language plpgsql as $$
begin
  insert into stat_delta (business_id, book_id, bucket_at, assigned, locked, unlocked, lock_expired, redeemed, revoked,
                          rolled_back, voided, used)
  select business_id, book_id, stat_bucket_of(at), count(*) filter (where action = 'ASSIGN'),
         -- A renewal of a lock is not another lock.
         count(*) filter (where action = 'LOCK' and from_status <> 'LOCKED'), count(*) filter (where action = 'UNLOCK'),
         count(*) filter (where action = 'EXPIRE'), count(*) filter (where action = 'REDEEM'),
         count(*) filter (where action = 'REVOKE'), count(*) filter (where action = 'ROLLBACK'),
         count(*) filter (where action = 'VOID'),
         count(*) filter (where action = 'REDEEM' and redeem_count = 1) - count(*) filter (where action = 'ROLLBACK' and redeem_count = 0)
  from inserted group by business_id, book_id, stat_bucket_of(at);
  return null;
end $$;

-- Finds each code by its key: a session plans this once, perhaps while there are few codes.
create function count_redeem_times() returns trigger language plpgsql
set enable_seqscan = off set enable_bitmapscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  insert into redeem_time_delta (business_id, book_id, bucket_at, step, redeemed)
  select r.business_id, r.book_id, stat_bucket_of(r.at), redeem_time_step(r.at - c.assigned_at), count(*)
  from inserted r join coupon c on c.business_id = r.business_id and c.code = r.code
  where r.use_number = 1 and c.assigned_at is not null
  group by 1, 2, 3, 4;
  return null;
end $$;
