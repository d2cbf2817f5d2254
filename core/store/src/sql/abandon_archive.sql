-- Deletes the record of an archive whose events are still in the log, and writes an admin event for each business that has one about the
-- record. Returns the number of deleted records.
--
-- $1 first day of the month.
with abandoned as (
  delete from audit_archive where month = $1 and detached_at is null returning month, root),
part as (
  delete from audit_archived p using abandoned a where p.month = a.month),
written as (
  insert into admin_event (business_id, subject, subject_id, action, after, actor)
  select r.business_id, r.subject, r.subject_id, 'ABANDON', jsonb_build_object('root', r.after -> 'root'),
         coalesce(nullif(current_setting('cuponera.audit', true), '')::jsonb ->> 'actor', 'system')
  from abandoned a
  join admin_event r on r.subject = 'EVENTS' and r.action = 'ARCHIVE' and r.subject_id = to_char(a.month, 'YYYY-MM')
    and r.after ->> 'root' = encode(a.root, 'hex'))
select count(*) as "abandoned!" from abandoned
