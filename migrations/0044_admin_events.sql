-- Admin events: one row for each change of a book, an API key, an account, a membership, a login, a pool or a job. Triggers of these
-- tables write them, so the changes of every program are recorded, including those of the version before and those made with SQL. The
-- next steps create the triggers, one table at a time.

-- A UUID of version 7 with the microseconds in its 12 bits after the version: events of one transaction are in the order of the changes.
create function admin_event_id() returns uuid language sql volatile as $$
  select encode(substring(int8send(us / 1000) from 3) || int2send((28672 + us % 1000 * 4096 / 1000)::int2)
                || substring(uuid_send(gen_random_uuid()) from 9), 'hex')::uuid
  from (select (extract(epoch from clock_timestamp()) * 1000000)::bigint) now (us)
$$;

-- Append-only. A position is (epoch, tx, id), as in coupon_event.
create table admin_event (
  id uuid not null default admin_event_id(),
  epoch smallint not null default 1,
  tx xid8 not null default pg_current_xact_id(),
  at timestamptz not null default now(),
  business_id uuid not null,
  -- What changed: its kind and its id.
  subject text not null,
  subject_id text not null,
  action text not null,
  -- The recorded values before and after the change, by their names in the API. Of an update only those that changed.
  before jsonb,
  after jsonb,
  actor text not null,
  ip inet,
  user_agent text,
  request_id text,
  constraint admin_event_cursor primary key (epoch, tx, id)
);
create index admin_event_of_business on admin_event (business_id, epoch, tx, id);

do $$
begin
  execute format('alter table admin_event alter column epoch set default %s', (select max(epoch) from event_epoch));
end $$;

-- A time as the API writes it.
create function api_time(instant timestamptz) returns text language sql stable parallel safe
return to_char(instant at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

-- Writes an admin event. Without values before or after, those that are not null on the other side are recorded; with both, those that
-- differ, and no event if none does.
--
-- The actor and the origin are in the setting `cuponera.audit`, which a program sets for a transaction. In the events of another
-- business than the setting names, an account has the name that it has there. Without the setting, the actor is `system` in a session
-- of a program, which has the name `cuponera` or that of a chunk, and `sql` in any other session.
create function admin_event_write(business uuid, subject text, subject_id text, action text, before jsonb, after jsonb)
returns void language plpgsql as $$
declare
  audit jsonb := nullif(current_setting('cuponera.audit', true), '');
  actor text := coalesce(
    audit ->> 'actor', case when current_setting('application_name') ~ '^(cuponera$|chunk )' then 'system' else 'sql' end);
  old_values jsonb;
  new_values jsonb;
begin
  select jsonb_object_agg(key, o.value) filter (where after is not null or o.value <> 'null'),
         jsonb_object_agg(key, n.value) filter (where before is not null or n.value <> 'null')
  into old_values, new_values
  from jsonb_each(before) o full join jsonb_each(after) n using (key)
  where o.value is distinct from n.value;
  if before is not null and after is not null and new_values is null then
    return;
  end if;
  if audit ->> 'principal' is not null and business is distinct from (audit ->> 'business')::uuid then
    actor := coalesce(
      (select case m.role when 'ADMIN' then 'admin:' || m.account_id else 'user:' || m.user_id end from membership m
       where m.account_id = (audit ->> 'principal')::uuid and m.business_id = business), actor);
  end if;
  insert into admin_event (business_id, subject, subject_id, action, before, after, actor, ip, user_agent, request_id)
  values (business, subject, subject_id, action, case when before is not null then old_values end,
          case when after is not null then new_values end, actor, (audit ->> 'ip')::inet,
          audit ->> 'user_agent', audit ->> 'request_id');
end $$;

-- The trigger of a table with the columns `id` and `business_id`. Arguments: subject, action. The function `admin_values` of the table
-- returns the values to record: a list of columns to keep, so that a new column is not recorded, and a secret never.
create function admin_event_of_row() returns trigger language plpgsql as $$
begin
  if tg_argv[1] = 'CHANGE_SECRET' then
    perform admin_event_write(new.business_id, tg_argv[0], new.id::text, tg_argv[1], null, null);
  elsif tg_op = 'INSERT' then
    perform admin_event_write(new.business_id, tg_argv[0], new.id::text, tg_argv[1], null, admin_values(new));
  elsif tg_op = 'DELETE' or tg_argv[1] in ('DELETE', 'END', 'REVOKE') then
    -- An update that ends the row, or a deletion.
    perform admin_event_write(old.business_id, tg_argv[0], old.id::text, tg_argv[1], admin_values(old), null);
  else
    perform admin_event_write(new.business_id, tg_argv[0], new.id::text, tg_argv[1], admin_values(old), admin_values(new));
  end if;
  return null;
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
  execute format('alter table only coupon_event alter column epoch set default %s', latest.epoch + 1);
  execute format('alter table admin_event alter column epoch set default %s', latest.epoch + 1);
  return latest.epoch + 1;
end $$;
