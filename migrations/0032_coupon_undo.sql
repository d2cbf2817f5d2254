-- Redemptions can be rolled back, and an assigned code may expire.
do $$
begin
  perform lock_exclusively('coupon');
  -- How many redemptions were rolled back: use numbers are never given twice, so the next one is redeem_count + rollback_count + 1.
  -- When the code expires for its holder: fixed when the code is assigned. Earlier versions read neither column.
  alter table coupon
    add column rollback_count int not null default 0,
    add column expires_at timestamptz;
end $$;
