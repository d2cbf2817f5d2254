-- Gives redemptions the epoch and the transaction that wrote them, as events have them: an export contains exactly the redemptions
-- of the snapshot of its plan. The defaults also serve programs of the previous version. The redemptions that exist get the transaction
-- of this step, which is committed before any export is planned. Constant and stable defaults rewrite no row.
do $$
declare
  latest smallint := (select max(epoch) from event_epoch);
begin
  perform lock_exclusively('redemption');
  execute format('alter table redemption
    add column epoch smallint not null default %s,
    add column tx xid8 not null default pg_current_xact_id()', latest);
end $$;

-- As before, and also for redemptions. Each redemption has an event of the same transaction, so the events show a restore of both.
create or replace function coupon_event_begin_epoch_if_restored() returns smallint language plpgsql set lock_timeout = '200ms' as $$
declare
  latest event_epoch;
  latest_tx xid8;
begin
  perform pg_advisory_xact_lock(hashtext('coupon_event_begin_epoch_if_restored'));
  select * into latest from event_epoch order by epoch desc limit 1;
  if (select indisvalid from pg_index where indexrelid = 'coupon_event_cursor'::regclass) then
    select tx into latest_tx from coupon_event where epoch = latest.epoch order by epoch desc, tx desc, id desc limit 1;
  end if;
  if greatest(latest.tx, latest_tx) < pg_snapshot_xmax(pg_current_snapshot()) then
    return null;
  end if;
  insert into event_epoch (epoch) values (latest.epoch + 1);
  execute format('alter table redemption alter column epoch set default %s', latest.epoch + 1);
  execute format('alter table only coupon_event alter column epoch set default %s', latest.epoch + 1);
  return latest.epoch + 1;
end $$;
