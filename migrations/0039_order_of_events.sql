-- `ordered_from`: from this transaction on, the events of an epoch are ordered by time, except for the delay between the start of a
-- transaction and its first write. Events that were stored before the log had positions all have the transaction of the upgrade. Earlier versions do not
-- read the column; the epochs that they begin get its default.
do $$
begin
  perform lock_exclusively('event_epoch');
  alter table event_epoch add column ordered_from xid8 not null default pg_current_xact_id();
end $$;
