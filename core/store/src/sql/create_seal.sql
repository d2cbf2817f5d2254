-- Appends a seal with the salts of its events. Nothing happens if another sealer has appended a seal of this number, or if an erasure has
-- changed events since $20 was read: the statement waits for a running one, and then finds another number of erasures.
--
-- $1 number, $2 form, $3 log; the range: $4 epoch, $5 transaction, $6 id; $7 epoch, $8 transaction, $9 id; $10 time of the last event,
-- $11 count, $12 ids, $13 leaves, $14 root, $15 previous, $16 HMAC, $17 key, $18 time, $19 salts, $20 number of erasures.
with guard as materialized (
  select from audit_guard where erasures = $20 for share),
seal as (
  insert into audit_seal (number, form, log, from_epoch, from_tx, from_id, through_epoch, through_tx, through_id, through_at, count, ids,
                          leaves, root, previous, hmac, key, created_at)
  select $1::bigint, $2::smallint, $3::text, $4::smallint, $5::text::xid8, $6::uuid, $7::smallint, $8::text::xid8, $9::uuid,
         $10::timestamptz, $11::int, $12::bytea, $13::bytea, $14::bytea, $15::bytea, $16::bytea, $17::bytea, $18::timestamptz
  from guard
  on conflict (number) do nothing
  returning number)
insert into audit_salt (seal, salts) select number, $19::bytea from seal
