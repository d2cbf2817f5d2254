-- When a redemption was rolled back. The reason, and who gave it, are in the ROLLBACK event of the coupon.
do $$
begin
  perform lock_exclusively('redemption');
  alter table redemption add column rolled_back_at timestamptz;
end $$;
