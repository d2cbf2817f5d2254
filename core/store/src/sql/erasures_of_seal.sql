-- The events of a seal that erasures have changed, with the root that the admin event of the erasure records. The later erasure is last.
--
-- $1 seal.
select e.seal, e.pseudonym, e.ids, e.leaves, e.salts, e.hmac,
       (select r.after -> 'seals' -> e.seal::text ->> 'root' from admin_event r
        where (r.epoch, r.tx, r.id) = (e.event_epoch, e.event_tx, e.event_id)
          and r.subject = 'USER' and r.action = 'ERASE' and r.subject_id = e.pseudonym) as root
from audit_erasure e
where e.seal = $1
order by e.number
