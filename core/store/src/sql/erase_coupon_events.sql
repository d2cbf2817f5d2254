-- Replaces a user in the coupon events after a position and up to another one, and returns the changed events in the order of the log.
-- Address and user agent are those of the actor.
--
-- $1 epoch, $2 transaction, $3 id; $4 epoch, $5 transaction, $6 id; $7 business, $8 ids of the user, $9 pseudonym, $10 the user as an
-- actor, $11 the actors in their place.
with erased as (
  update coupon_event
  set user_id = case when user_id = any ($8) then $9::text else user_id end,
      actor = coalesce(($11::text[])[array_position($10::text[], actor)], actor),
      ip = case when actor = any ($10) then null else ip end,
      user_agent = case when actor = any ($10) then null else user_agent end
  where (epoch, tx, id) > ($1, $2::text::xid8, $3) and (epoch, tx, id) <= ($4, $5::text::xid8, $6)
    and business_id = $7 and (user_id = any ($8) or actor = any ($10))
  returning epoch, tx, id, at, business_id, book_id, position, version, from_status, to_status, action, user_id, redeem_count, reason,
            actor, ip, user_agent, request_id)
select epoch as "epoch!", tx::text as "tx!", id as "id!", at as "at!", business_id as "business_id!", book_id as "book_id!",
       position as "position!", version as "version!", from_status as "from_status!: StoredStatus",
       to_status as "to_status!: StoredStatus", action as "action!", user_id, redeem_count, reason, actor as "actor!", ip::text as ip,
       user_agent, request_id
from erased order by erased.epoch, erased.tx, erased.id
