-- Archives of months of coupon events (`cuponera archive`): the events of a month are in a file, and their partition is dropped. What is
-- stored here proves with the seals that exactly the recorded events were taken out of the log.

-- A month that is archived. The steps are recorded here, so an interrupted archive continues.
create table audit_archive (
  -- Its first day, in UTC.
  month date not null,
  -- The name of the file in the file store, its length, and its SHA-256.
  file text not null,
  bytes bigint not null,
  sha256 bytea not null,
  events bigint not null,
  -- The position of the last event of the month.
  through_epoch smallint not null,
  through_tx xid8 not null,
  through_id uuid not null,
  -- The SHA-256 over the rows of `audit_archived`.
  root bytea not null,
  -- Of all values above except the position, under the key of the seals.
  hmac bytea not null,
  -- The position of an admin event that records the root.
  event_epoch smallint not null,
  event_tx xid8 not null,
  event_id uuid not null,
  recorded_at timestamptz not null default now(),
  -- From then on, the events are not in `coupon_event`.
  detached_at timestamptz,
  -- The partition is dropped, and the salts of the events are deleted.
  completed_at timestamptz,
  constraint audit_archive_pkey primary key (month),
  constraint audit_archive_month check (extract(day from month) = 1),
  constraint audit_archive_size check (events > 0 and bytes > 0),
  constraint audit_archive_hashes check (octet_length(sha256) = 32 and octet_length(root) = 32 and octet_length(hmac) = 32),
  constraint audit_archive_steps check (completed_at is null or detached_at is not null)
);

-- The events of a seal that an archive contains: one bit for each event, in the order of the seal, from the highest bit of the first byte on.
create table audit_archived (
  month date not null constraint audit_archived_archive references audit_archive,
  seal bigint not null,
  events bytea not null,
  constraint audit_archived_pkey primary key (month, seal)
);
create index audit_archived_of_seal on audit_archived (seal);

-- Books that have archived events: codes of these books were assigned.
create table archived_book (
  book_id uuid not null,
  constraint archived_book_pkey primary key (book_id)
);

-- All events from this time on are in `coupon_event`.
create function coupon_events_kept_from() returns timestamptz language sql stable parallel safe
return (select coalesce(max((month + interval '1 month') at time zone 'UTC'), '-infinity') from audit_archive
        where detached_at is not null);

-- A program of an earlier version does not know `archived_book`: it would delete a book whose assigned codes are only in archives.
create function coupon_book_keep_archived() returns trigger language plpgsql as $$
begin
  if exists (select from archived_book where book_id = old.id) then
    raise exception 'events of the book % are archived, so it is not deleted', old.id;
  end if;
  return old;
end $$;

do $$
begin
  perform lock_exclusively('coupon_book');
  create trigger archived before delete on coupon_book for each row execute function coupon_book_keep_archived();
end $$;

-- Detaches the partition of a recorded month. Fails after 50 ms behind a reader of the month, or of the whole log: only for the second do
-- calls wait behind it, and a hot statement waits 100 ms at most. Only the partition and the parent are locked, so a reader or a vacuum of
-- another month is no obstacle. Answers `DETACHED`, or why nothing was changed: `UNSEALED`, the admin event of the archive is not sealed yet;
-- `EXPORTING`, an export of events may read the month; `LATER`, events of the month were added after it was recorded.
create function coupon_event_detach_month(archived date) returns text language plpgsql
set lock_timeout = '50ms' set enable_seqscan = 'off' set enable_bitmapscan = 'off' as $$
declare
  partition text := 'coupon_event_' || to_char(archived, 'YYYY_MM');
  record audit_archive;
  is_later bool;
begin
  select * into strict record from audit_archive where month = archived and detached_at is null;
  if not exists (select from audit_seal s where s.log = 'ADMIN'
                   and (s.through_epoch, s.through_tx, s.through_id) >= (record.event_epoch, record.event_tx, record.event_id)) then
    return 'UNSEALED';
  end if;
  -- The submission of an export inserts a row here before it takes its snapshot.
  lock table export_file in share mode;
  if exists (select from export_file f join job j on j.id = f.job_id
             where j.result ->> 'kind' = 'EVENTS'
               and (j.status in ('QUEUED', 'RUNNING') or j.status = 'FAILED' and j.discarding_at is null)) then
    return 'EXPORTING';
  end if;
  execute format('lock table only %I in access exclusive mode', partition);
  -- Of a transaction that began in the month and has written since.
  execute format('select exists (select from only %I where (epoch, tx, id) > ($1, $2, $3))', partition) into is_later
    using record.through_epoch, record.through_tx, record.through_id;
  if is_later then
    return 'LATER';
  end if;
  lock table only coupon_event in access exclusive mode;
  execute format('alter table coupon_event detach partition %I', partition);
  update audit_archive set detached_at = now() where month = archived;
  return 'DETACHED';
end $$;

-- Drops the detached partition of a month, if it still exists.
create function coupon_event_drop_month(archived date) returns void language plpgsql
set lock_timeout = '200ms' set client_min_messages = 'warning' as $$
declare
  partition text := 'coupon_event_' || to_char(archived, 'YYYY_MM');
begin
  perform from audit_archive where month = archived and detached_at is not null;
  if found and not exists (select from pg_inherits where inhrelid = to_regclass(partition)) then
    execute format('drop table if exists %I', partition);
  end if;
end $$;

-- Drops the partition of a month without events. Answers false if it has events.
create function coupon_event_drop_empty_month(emptied date) returns bool language plpgsql
set lock_timeout = '50ms' as $$
declare
  partition text := 'coupon_event_' || to_char(emptied, 'YYYY_MM');
  has_events bool;
begin
  execute format('lock table only %I in access exclusive mode', partition);
  execute format('select exists (select from only %I)', partition) into has_events;
  if not has_events then
    lock table only coupon_event in access exclusive mode;
    execute format('drop table %I', partition);
  end if;
  return not has_events;
end $$;
