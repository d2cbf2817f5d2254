-- Admin events of jobs: submitted, cancelled, retried, ended, and their details deleted. The progress of a job and its first claim
-- are none: the condition of the trigger rejects them, and each other update of a chunk only reads the row once more.

create function admin_values(job job) returns jsonb language sql stable as $$
  select jsonb_build_object(
    'kind', job.kind, 'status', job.status, 'couponBookId', job.book_id, 'createdBy', job.created_by, 'total', job.total,
    'succeeded', job.succeeded, 'failed', job.failed, 'error', job.error, 'detailsDeletedAt', api_time(job.discarding_at))
$$;

create function job_admin_event() returns trigger language plpgsql as $$
declare
  action text := case
    when old.status = new.status then 'DISCARD'
    when new.status = 'CANCELLED' then 'CANCEL'
    when new.status = 'SUCCEEDED' then 'SUCCEED'
    when new.status = 'FAILED' then 'FAIL'
    when new.status = 'QUEUED' then 'RETRY'
    else 'UPDATE' end;
begin
  perform admin_event_write(new.business_id, 'JOB', new.id::text, action, admin_values(old), admin_values(new));
  return null;
end $$;

do $$
begin
  perform lock_exclusively('job');
  create trigger admin_event_create after insert on job for each row execute function admin_event_of_row('JOB', 'SUBMIT');
  create trigger admin_event_update after update of status, discarding_at on job for each row
    when ((old.status <> new.status and not (old.status = 'QUEUED' and new.status = 'RUNNING'))
          or (old.discarding_at is null and new.discarding_at is not null))
    execute function job_admin_event();
  create trigger admin_event_delete after delete on job for each row execute function admin_event_of_row('JOB', 'DELETE');
end $$;
