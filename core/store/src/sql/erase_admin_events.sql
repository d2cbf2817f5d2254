-- Replaces a user in the admin events after a position and up to another one, and returns the changed events in the order of the log.
-- Address and user agent are those of the actor. The events of erasures have pseudonyms only, by which a verification finds them.
--
-- $1 epoch, $2 transaction, $3 id; $4 epoch, $5 transaction, $6 id; $7 business, $8 identifiers of the user, $9 pseudonym, $10 the user as
-- an actor, $11 the actors in their place.
with erased as (
  update admin_event e
  set subject_id = case when e.subject in ('USER', 'MEMBERSHIP') and e.subject_id = any ($8) then $9::text else e.subject_id end,
      before = erased_values(e.before, $8, $9, $10, $11), after = erased_values(e.after, $8, $9, $10, $11),
      actor = coalesce(($11::text[])[array_position($10::text[], e.actor)], e.actor),
      ip = case when e.actor = any ($10) then null else e.ip end,
      user_agent = case when e.actor = any ($10) then null else e.user_agent end
  where (e.epoch, e.tx, e.id) > ($1, $2::text::xid8, $3) and (e.epoch, e.tx, e.id) <= ($4, $5::text::xid8, $6)
    and e.business_id = $7 and e.action <> 'ERASE'
    and (e.actor = any ($10) or e.subject in ('USER', 'MEMBERSHIP') and e.subject_id = any ($8)
         or e.before is distinct from erased_values(e.before, $8, $9, $10, $11)
         or e.after is distinct from erased_values(e.after, $8, $9, $10, $11))
  returning e.*)
select epoch as "epoch!", tx::text as "tx!", id as "id!", at as "at!", business_id as "business_id!", subject as "subject!",
       subject_id as "subject_id!", action as "action!", before::text as before, after::text as after, actor as "actor!",
       ip::text as ip, user_agent, request_id
from erased order by erased.epoch, erased.tx, erased.id
