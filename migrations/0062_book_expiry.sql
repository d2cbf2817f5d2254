-- Housekeeping records that a book has expired, as an admin event.

do $$
begin
  perform lock_exclusively('coupon_book');
  -- The `expires_at` whose passing was recorded. Another `expires_at` is recorded again. The next step fills it for the expired books.
  alter table coupon_book add column expiry_recorded timestamptz;
end $$;
