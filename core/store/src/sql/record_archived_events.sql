-- Writes an admin event for each business that has events of an archived month, and returns the position of one of them.
--
-- $1 month, $2 values, $3 businesses, $4 the number of events of each.
with written as (
  insert into admin_event (business_id, subject, subject_id, action, after, actor)
  select business, 'EVENTS', $1, 'ARCHIVE', $2::jsonb || jsonb_build_object('events', events),
         coalesce(nullif(current_setting('cuponera.audit', true), '')::jsonb ->> 'actor', 'system')
  from unnest($3::uuid[], $4::bigint[]) part (business, events)
  returning epoch, tx, id)
select epoch as "epoch!", tx::text as "tx!", id as "id!" from written order by id limit 1
