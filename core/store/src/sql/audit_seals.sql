-- Seals without their leaves, from a number on, or the last one if the number is null.
--
-- $1 number, $2 limit.
select number, form, log, from_epoch, from_tx::text as "from_tx!", from_id, through_epoch, through_tx::text as "through_tx!", through_id,
       through_at, count, root, previous, key, created_at, hmac
from audit_seal
where number >= coalesce($1, (select max(number) from audit_seal))
order by number limit $2
