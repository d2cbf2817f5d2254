-- The event of a change of a code's limits, or of its suspension: UPDATE. Existing rows are not scanned.
do $$
begin
  perform lock_exclusively('coupon_event');
  alter table coupon_event
    drop constraint coupon_event_action,
    add constraint coupon_event_action check (
      action in ('ASSIGN', 'LOCK', 'UNLOCK', 'EXPIRE', 'REDEEM', 'REVOKE', 'ROLLBACK', 'VOID', 'UPDATE')) not valid;
end $$;
