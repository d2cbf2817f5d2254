-- Seals from a number on, with the ids, leaves and salts of their events.
--
-- $1 number, $2 limit.
select s.number, s.form, s.log, s.from_epoch, s.from_tx::text as "from_tx!", s.from_id, s.through_epoch,
       s.through_tx::text as "through_tx!", s.through_id, s.through_at, s.count, s.root, s.previous, s.key, s.created_at, s.hmac,
       s.ids, s.leaves, a.salts as "salts?"
from audit_seal s left join audit_salt a on a.seal = s.number
where s.number >= $1
order by s.number limit $2
