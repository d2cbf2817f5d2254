-- Begins to count. The snapshot is taken while no other transaction has uncommitted events or redemptions, so it separates the rows
-- that the triggers count from those before.
do $$
begin
  -- Both tables or none: a writer may have one and wait for the other.
  loop
    begin
      perform set_config('lock_timeout', '100ms', true);
      lock table coupon_event, redemption in share row exclusive mode;
      exit;
    exception when lock_not_available then
      perform pg_sleep(0.2);
    end;
  end loop;
  perform set_config('lock_timeout', '0', true);
  create trigger coupon_event_counted after insert on coupon_event referencing new table as inserted for each statement
    execute function count_events();
  create trigger redemption_counted after insert on redemption referencing new table as inserted for each statement
    execute function count_redeem_times();
  insert into stat_backfill (epoch, snapshot, counted_from)
  select (select max(epoch) from event_epoch), pg_current_snapshot(), '9999-01-01'
  where exists (select from coupon_event) or exists (select from redemption);
end $$;
