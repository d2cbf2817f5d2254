-- Changes that are not transitions of a coupon: of books, keys, users, logins, pools, jobs and webhooks. Append-only. They share the
-- cursor (epoch, tx, id) of coupon_event, so both are read as one log.
--
-- `subject` and `subject_id` name the changed object; `before` and `after` are its fields without secrets, null before its creation and
-- after its deletion. A change without a request (a job that ends, housekeeping, SQL by hand) has an actor of its own.
do $$
declare
  latest smallint := (select max(epoch) from event_epoch);
begin
  create table admin_event (
    id uuid not null default gen_random_uuid(),
    tx xid8 not null default pg_current_xact_id(),
    at timestamptz not null default now(),
    business_id uuid,
    subject text not null,
    subject_id text collate "C" not null,
    action text not null,
    before jsonb,
    after jsonb,
    actor text collate "C" not null,
    ip inet,
    user_agent text,
    request_id text
  );
  execute format('alter table admin_event add column epoch smallint not null default %s', latest);
  create unique index admin_event_cursor on admin_event (epoch, tx, id);
  create index admin_event_of_business on admin_event (business_id, epoch, tx, id);
end $$;

-- As before, and also for admin events.
create or replace function coupon_event_begin_epoch_if_restored() returns smallint language plpgsql set lock_timeout = '200ms' as $$
declare
  latest event_epoch;
  latest_tx xid8;
  latest_admin_tx xid8;
begin
  perform pg_advisory_xact_lock(hashtext('coupon_event_begin_epoch_if_restored'));
  select * into latest from event_epoch order by epoch desc limit 1;
  if (select indisvalid from pg_index where indexrelid = 'coupon_event_cursor'::regclass) then
    select tx into latest_tx from coupon_event where epoch = latest.epoch order by epoch desc, tx desc, id desc limit 1;
  end if;
  select tx into latest_admin_tx from admin_event where epoch = latest.epoch order by epoch desc, tx desc, id desc limit 1;
  if greatest(latest.tx, latest_tx, latest_admin_tx) < pg_snapshot_xmax(pg_current_snapshot()) then
    return null;
  end if;
  insert into event_epoch (epoch) values (latest.epoch + 1);
  execute format('alter table redemption alter column epoch set default %s', latest.epoch + 1);
  execute format('alter table admin_event alter column epoch set default %s', latest.epoch + 1);
  execute format('alter table only coupon_event alter column epoch set default %s', latest.epoch + 1);
  return latest.epoch + 1;
end $$;
