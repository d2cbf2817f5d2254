-- What still reads the events of a month.
--
-- $1 begin of the month; the position of its last event: $2 epoch, $3 transaction, $4 id.
--
-- The reader of events for webhooks passes over events that no enabled webhook gets.
with webhook_start as (
  select since_epoch as epoch, pg_snapshot_xmin(since_snapshot) as tx from webhook
  where enabled and deleted_at is null order by 1, 2 limit 1)
select exists (select from audit_archive a where a.month = ($1::timestamptz at time zone 'UTC')::date and a.detached_at is not null) as "was_archived!",
       exists (select from stat_backfill where counted_from is not null) as "is_uncounted!",
       exists (select from webhook_start w cross join webhook_cursor c
               where c.source = 'coupon_event' and (c.epoch, c.tx, c.id) < ($2, $3::text::xid8, $4)
                 and (w.epoch, w.tx) <= ($2, $3::text::xid8)) as "is_undelivered!",
       array(select f.job_id from export_file f join job j on j.id = f.job_id
             where j.result ->> 'kind' = 'EVENTS'
               and (j.status in ('QUEUED', 'RUNNING') or j.status = 'FAILED' and j.discarding_at is null)
             order by 1) as "exports!",
       array(select j.id from distribution d join job j on j.id = d.job_id
             where j.discarding_at is null and j.created_at < $1::timestamptz + interval '1 month'
             order by 1) as "distributions!"
