-- The position at which the seals of a log end, before a seal.
--
-- $1 log, $2 number of the seal.
select through_epoch, through_tx::text as "through_tx!", through_id from audit_seal
where log = $1 and number < $2
order by log desc, number desc limit 1
