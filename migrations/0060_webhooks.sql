-- Webhooks: receivers of events, the deliveries to them, and the position up to which events were read for deliveries.
--
-- No statement that writes an event writes a delivery: a reader follows the event log.

create table webhook (
  id uuid primary key,
  business_id uuid not null constraint webhook_business references business,
  url text not null,
  description text,
  event_types text[] not null,
  per_code bool not null default false,
  enabled bool not null default true,
  -- Why the service disabled it.
  disabled_reason text,
  -- The key of the signatures: it cannot be a hash.
  secret bytea not null,
  old_secret bytea,
  old_secret_until timestamptz,
  -- The epoch and the snapshot of its creation or of the last time that it was enabled. It gets no event that is visible in the snapshot.
  since_epoch smallint not null,
  since_snapshot pg_snapshot not null default pg_current_snapshot(),
  -- The first failed attempt after the last success, or after a day without attempts.
  failing_since timestamptz,
  last_delivery_id uuid,
  last_attempt_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  -- Set when the webhook is deleted. Housekeeping then deletes its deliveries, and the row after them.
  deleted_at timestamptz,
  constraint webhook_event_types check (cardinality(event_types) > 0),
  constraint webhook_disabled check (disabled_reason is null or not enabled and disabled_reason in ('GONE', 'FAILING')),
  constraint webhook_secret check (octet_length(secret) = 32),
  constraint webhook_old_secret check ((old_secret is null) = (old_secret_until is null))
) with (fillfactor = 70);
create index webhook_of_business on webhook (business_id, id) where deleted_at is null;
create index webhook_deleted on webhook (id) where deleted_at is not null;

-- An event for a webhook. No foreign key: each row would lock the row of its webhook.
create table webhook_delivery (
  id uuid primary key,
  -- The order of the events of a subject, and of the list.
  number bigint not null generated always as identity,
  webhook_id uuid not null,
  event_id uuid not null,
  type text not null,
  -- What the event concerns, for example a coupon: the deliveries of a subject are attempted in the order of their numbers.
  subject text collate "C" not null,
  body text not null,
  status text not null default 'PENDING',
  -- Null while an earlier delivery of the subject is pending.
  next_attempt_at timestamptz,
  -- While a worker attempts it.
  lease_until timestamptz,
  -- Counts claims, so that a worker whose lease has ended changes nothing.
  claim int not null default 0,
  -- Attempts since it was created or replayed, and all attempts.
  tries int not null default 0,
  attempts int not null default 0,
  created_at timestamptz not null default now(),
  constraint webhook_delivery_event unique (webhook_id, event_id),
  constraint webhook_delivery_status check (
    status = 'PENDING' or status in ('DELIVERED', 'FAILED') and next_attempt_at is null and lease_until is null)
) with (fillfactor = 60);
create index webhook_delivery_due on webhook_delivery (webhook_id, next_attempt_at)
  where status = 'PENDING' and next_attempt_at is not null;
create index webhook_delivery_pending on webhook_delivery (webhook_id, subject, number) where status = 'PENDING';
create index webhook_delivery_failed on webhook_delivery (webhook_id, created_at) where status = 'FAILED';
create index webhook_delivery_list on webhook_delivery (webhook_id, number);
create index webhook_delivery_age on webhook_delivery (created_at);

create table webhook_attempt (
  delivery_id uuid not null,
  number int not null,
  at timestamptz not null,
  http_status int,
  error text,
  duration_ms int not null,
  answer text,
  constraint webhook_attempt_pkey primary key (delivery_id, number)
);

-- All events of a log up to the position were read. Changed in the transaction that creates the deliveries.
create table webhook_cursor (
  source text primary key,
  epoch smallint not null,
  tx xid8 not null,
  id uuid not null
);
insert into webhook_cursor (source, epoch, tx, id)
select source, max(epoch), pg_snapshot_xmin(pg_current_snapshot()), '00000000-0000-0000-0000-000000000000'
from event_epoch, (values ('coupon_event'), ('admin_event')) log (source) group by source;
