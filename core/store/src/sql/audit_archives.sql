-- The archives whose events are not in the log any more, with the root and the hash of the file that the admin event of each records.
select a.month, a.file, a.bytes, a.sha256, a.events, a.root, a.hmac, a.through_epoch, a.through_tx::text as "through_tx!", a.through_id, r.after ->> 'root' as recorded_root,
       r.after ->> 'sha256' as recorded_sha256
from audit_archive a
left join admin_event r on (r.epoch, r.tx, r.id) = (a.event_epoch, a.event_tx, a.event_id)
  and r.subject = 'EVENTS' and r.action = 'ARCHIVE' and r.subject_id = to_char(a.month, 'YYYY-MM')
where a.detached_at is not null
order by a.month
