-- Appends a seal with the salts of its events. Nothing happens if another sealer has appended a seal of this number.
--
-- $1 number, $2 form, $3 log; the range: $4 epoch, $5 transaction, $6 id; $7 epoch, $8 transaction, $9 id; $10 time of the last event,
-- $11 count, $12 ids, $13 leaves, $14 root, $15 previous, $16 HMAC, $17 key, $18 time, $19 salts.
with seal as (
  insert into audit_seal (number, form, log, from_epoch, from_tx, from_id, through_epoch, through_tx, through_id, through_at, count, ids,
                          leaves, root, previous, hmac, key, created_at)
  values ($1, $2, $3, $4, $5::text::xid8, $6, $7, $8::text::xid8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
  on conflict (number) do nothing
  returning number)
insert into audit_salt (seal, salts) select number, $19 from seal
