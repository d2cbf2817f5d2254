-- Seals of the logs of events: a chain in which each seal covers the next events of one log. Statements that write events know nothing of
-- it: a worker reads the logs below the oldest transaction that still runs, as all readers with a cursor do.

-- Append-only. Each column except `hmac`, `ids` and `leaves` is in the canonical form, which the next seal's `previous` and the HMAC cover;
-- the root covers the leaves.
create table audit_seal (
  number bigint not null,
  -- The version of the canonical forms.
  form smallint not null,
  -- The log whose events it covers.
  log text not null,
  -- The events after the first position and up to the second.
  from_epoch smallint not null,
  from_tx xid8 not null,
  from_id uuid not null,
  through_epoch smallint not null,
  through_tx xid8 not null,
  through_id uuid not null,
  -- The time of the last of them.
  through_at timestamptz not null,
  count int not null,
  -- In the order of the log, of each event: its id, with which a verification names a missing event, and the hash of its canonical line.
  ids bytea not null,
  leaves bytea not null,
  root bytea not null,
  previous bytea not null,
  -- The HMAC under a key that is not in the database, and the fingerprint of the key.
  hmac bytea not null,
  key bytea not null,
  created_at timestamptz not null,
  constraint audit_seal_pkey primary key (number),
  constraint audit_seal_number check (number > 0),
  constraint audit_seal_size check (count > 0 and octet_length(ids) = 16 * count and octet_length(leaves) = 32 * count),
  constraint audit_seal_hashes check (
    octet_length(root) = 32 and octet_length(previous) = 32 and octet_length(hmac) = 32 and octet_length(key) = 16)
);
create index audit_seal_of_log on audit_seal (log, number);
-- Hashes and random bytes cannot be compressed.
alter table audit_seal alter column leaves set storage external, alter column ids set storage external;

-- The salts of the events of a seal, in the same order, 16 bytes each. Zeros take the place of a deleted salt: only this table changes when
-- a user is erased.
create table audit_salt (
  seal bigint not null,
  salts bytea not null,
  constraint audit_salt_pkey primary key (seal)
);
alter table audit_salt alter column salts set storage external;

-- The last verification of the whole chain: one row.
create table audit_verification (
  only_row bool not null default true,
  verified_at timestamptz not null default now(),
  -- The last seal that it checked, and the number of findings.
  seal bigint not null,
  findings bigint not null,
  constraint audit_verification_pkey primary key (only_row),
  constraint audit_verification_only_row check (only_row)
);
