-- Jobs of the kind DELETE_BOOK, and of the kinds that are planned, so that no later step has to take this lock.
--
-- Replacing the constraint needs a moment without other users of the table, and who waits for that keeps all later users
-- waiting. So it waits briefly, and again. The rows that are there satisfied a narrower constraint: they are not checked.
do $$
begin
  set local lock_timeout = '100ms';
  loop
    begin
      alter table job drop constraint job_kind, add constraint job_kind check (kind in (
        'GENERATE_CODES', 'IMPORT_CODES', 'IMPORT_MEMBERS', 'ASSIGN_CODES', 'DISTRIBUTE', 'TAKE_BACK', 'VOID_CODES', 'DELETE_BOOK',
        'EXPORT', 'ARCHIVE')) not valid;
      exit;
    exception when lock_not_available then
      perform pg_sleep(0.2);
    end;
  end loop;
  reset lock_timeout;
end $$;
