-- Makes coupon_event a log for readers with a cursor, and makes its monthly partitions without blocking a call.
--
-- A cursor is (epoch, tx, id). Ids commit out of order, transaction ids do not: an event whose `tx` is below
-- pg_snapshot_xmin(pg_current_snapshot()) is committed, and none can come in below it. A database that was restored from a
-- dump counts its transactions from the start again. Its next events belong to a new epoch, so the order holds.

-- Takes a table and its partitions for a change that excludes readers and writers. It waits 100 ms at most for each, and tries
-- again: calls that come in meanwhile wait behind it.
create function lock_exclusively(changed regclass) returns void language plpgsql as $$
begin
  loop
    begin
      perform set_config('lock_timeout', '100ms', true);
      execute format('lock table %s in access exclusive mode', changed);
      exit;
    exception when lock_not_available then
      perform pg_sleep(0.2);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
end $$;

create table event_epoch (
  epoch smallint not null,
  tx xid8 not null default pg_current_xact_id(),
  began_at timestamptz not null default now(),
  constraint event_epoch_pkey primary key (epoch)
);
insert into event_epoch (epoch) values (1);

-- Makes the partition of one month; false if it exists. CREATE TABLE … PARTITION OF would take ACCESS EXCLUSIVE on
-- coupon_event: behind one long reader all writers would wait. ATTACH PARTITION waits for neither, and fails after 200 ms
-- behind another change of the table.
create function coupon_event_make_month(month timestamptz) returns bool language plpgsql
set lock_timeout = '200ms' set client_min_messages = 'warning' set timezone = 'UTC' as $$
declare
  first_day timestamptz := date_trunc('month', month);
  partition text := 'coupon_event_' || to_char(first_day, 'YYYY_MM');
begin
  perform pg_advisory_xact_lock(hashtext('coupon_event_make_month'));
  if exists (select from pg_inherits where inhparent = 'coupon_event'::regclass and inhrelid = to_regclass(partition)) then
    return false;
  end if;
  execute format('create table %I (like coupon_event including all)', partition);
  execute format('alter table coupon_event attach partition %I for values from (%L) to (%L)',
    partition, first_day, first_day + interval '1 month');
  return true;
end $$;

-- The function that programs of earlier versions call.
create or replace function coupon_event_ensure_months(months int) returns void language plpgsql as $$
begin
  for ahead in 0..months loop
    perform coupon_event_make_month(date_trunc('month', now(), 'UTC') + make_interval(months => ahead));
  end loop;
end $$;

do $$
declare
  month timestamptz;
begin
  perform lock_exclusively('coupon_event');
  -- A default partition is scanned, and locked, when a month is attached; one row of that month in it forbids the month.
  -- The next step moves its rows into their months.
  alter table coupon_event detach partition coupon_event_rest;
  -- Stable functions are evaluated once for the rows that exist, which are not rewritten.
  alter table coupon_event
    add column epoch smallint not null default 1,
    add column tx xid8 not null default pg_current_xact_id();
  -- Partitions made from now on have this index. Those that exist get it while they are in use: see core::store::index.
  create index coupon_event_cursor on only coupon_event (epoch, tx, id);
  for month in select distinct date_trunc('month', at, 'UTC') from coupon_event_rest loop
    perform coupon_event_make_month(month);
  end loop;
  perform coupon_event_ensure_months(12);
end $$;

-- Begins a new epoch if this database was restored from a dump: it has events, or an epoch, of transactions that are still
-- to come. Answers the new epoch, or null. Without a valid index of the cursor, which an upgrade still builds, only the
-- epoch's own transaction is looked at.
create function coupon_event_begin_epoch_if_restored() returns smallint language plpgsql set lock_timeout = '200ms' as $$
declare
  latest event_epoch;
  latest_tx xid8;
begin
  perform pg_advisory_xact_lock(hashtext('coupon_event_begin_epoch_if_restored'));
  select * into latest from event_epoch order by epoch desc limit 1;
  if (select indisvalid from pg_index where indexrelid = 'coupon_event_cursor'::regclass) then
    select tx into latest_tx from coupon_event where epoch = latest.epoch order by epoch desc, tx desc, id desc limit 1;
  end if;
  if greatest(latest.tx, latest_tx) < pg_snapshot_xmax(pg_current_snapshot()) then
    return null;
  end if;
  insert into event_epoch (epoch) values (latest.epoch + 1);
  execute format('alter table only coupon_event alter column epoch set default %s', latest.epoch + 1);
  return latest.epoch + 1;
end $$;
