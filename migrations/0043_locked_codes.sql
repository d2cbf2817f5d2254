-- Codes that were locked at least once since they were assigned. Programs of the version before leave it as it is.
do $$
begin
  perform lock_exclusively('coupon');
  alter table coupon add column was_locked bool not null default false;
end $$;
