-- The job that has reserved a free code. It counts only while the code is AVAILABLE: programs of the version before do not know
-- it, may assign a reserved code, and leave it as it is. So no constraint ties it to the status.
do $$
begin
  perform lock_exclusively('coupon');
  alter table coupon add column reserved_by uuid;
end $$;
