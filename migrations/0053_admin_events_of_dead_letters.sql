-- Admin events of dead letters. A dead letter is written to the outbox; its review is a retry of its job, which has its own event.

create function dead_letter_admin_event() returns trigger language plpgsql as $$
begin
  perform admin_event_write(new.business_id, 'DEAD_LETTER', new.job_id::text, 'CREATE', null,
                            jsonb_build_object('kind', new.work, 'chunk', new.number, 'attempt', new.attempt));
  return null;
end $$;

do $$
begin
  perform lock_exclusively('outbox');
  create trigger admin_event_create after insert on outbox for each row when (new.kind = 'DEAD')
    execute function dead_letter_admin_event();
end $$;
